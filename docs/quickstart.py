"""The torch API in one script: a model, a loss, its Jacobian three ways, and a report on them."""

import torch

from macrostat.diff import (
    JacobianAutograd,
    JacobianNumerical,
    check_model_differentiability,
    compare_jacobian_dicts,
)
from macrostat.models import get_model

model = get_model("GL06SIMEX")()


def loss_fn(output: dict[str, torch.Tensor]) -> torch.Tensor:
    """How far income is from 110, on average over the run."""
    return (output["NationalIncome"] - 110.0).square().mean()


reverse = JacobianAutograd(model).compute(loss_fn=loss_fn, mode="rev")
forward = JacobianAutograd(model).compute(loss_fn=loss_fn, mode="fwd")
numerical = JacobianNumerical(model).compute(loss_fn=loss_fn, mode="central")

print(compare_jacobian_dicts(reverse, numerical, "autograd", "numerical", rtol=1e-4).summary())
print()
print(check_model_differentiability(model, loss_fn).summary())
