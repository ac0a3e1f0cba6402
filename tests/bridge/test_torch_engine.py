"""Models run and differentiated by torch alone, against JAX."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from jax import lax

from bridge import Torch, TorchModel
from macrostat_jax import diff, engines, models, simulate

SIZES = {
    "KirmansAnts": {"substep": 20},
    "Mark0COVID": {"firm": 12},
    "TwoMarketsABM": {"household": 24, "firm": 6},
}


def sized(name: str) -> tuple[Any, dict[str, Any]]:
    model = getattr(models, name).resize(**SIZES.get(name, {}))
    inputs: dict[str, Any] = {"key": jax.random.key(1)} if model.random else {}
    if (
        name == "TwoMarketsABM"
    ):  # its people are drawn from a key of their own, which only JAX can do
        with jax.enable_x64(True):
            inputs["initial"] = simulate(model, periods=2, **inputs)[-1]
    return model, inputs


@pytest.mark.parametrize("name", models.names())
def test_torch_runs_and_differentiates_every_model(name: str):
    model, inputs = sized(name)
    wrt = list(model.Params.fields)[:3]
    of = list(model.State.fields)[:5]
    with jax.enable_x64(True):
        path = engines.simulate(model, engine=Torch(), periods=5, **inputs)
        expected = simulate(model, periods=5, **inputs)
        for key in model.State.fields:
            np.testing.assert_allclose(
                getattr(path, key), getattr(expected, key), rtol=1e-12, atol=1e-12
            )
        right = diff.jacobian(model, of, wrt=wrt, mode="forward", periods=3, **inputs)
        found = engines.jacobian(model, of, wrt=wrt, engine=Torch(), periods=3, **inputs)
    for output, blocks in right.values.items():
        for label, block in blocks.items():
            scale = 1e-10 * max(1.0, float(np.nanmax(np.abs(block), initial=0)))
            np.testing.assert_allclose(found[output, label], block, rtol=1e-10, atol=scale)


@pytest.mark.parametrize("mode", ["jacrev", "jacfwd"])
def test_modes_of_torch_agree(mode: Any):
    arguments: dict[str, Any] = {"wrt": ("tax_rate", "scenario.government_demand"), "periods": 4}
    found = engines.jacobian(models.GL06SIM, engine=Torch(mode=mode), **arguments)
    with jax.enable_x64(True):
        right = diff.jacobian(models.GL06SIM, **arguments)
    np.testing.assert_allclose(found.matrix(), right.matrix(), rtol=1e-12, atol=1e-12)


UNARY = (
    "neg abs exp exp2 expm1 log log1p sqrt rsqrt square sin cos tan asin acos atan sinh cosh tanh"
)
UNARY += " logistic erf erfc erf_inv sign floor ceil round is_finite"
BINARY = "add sub mul div rem max min pow atan2 eq ne lt le gt ge"


@pytest.mark.parametrize("name", (UNARY + " " + BINARY).split())
def test_primitives(name: str):
    x = np.array([0.13, 0.4, 0.87])
    others = (x[::-1] + 0.1,) if name in BINARY.split() else ()
    with jax.enable_x64(True):
        program = jax.make_jaxpr(lambda x: getattr(lax, name)(x, *others))(x)
        right = getattr(lax, name)(x, *others)
    (found,) = Torch().run(program, torch.tensor(x))
    np.testing.assert_allclose(found.numpy(), right, rtol=1e-13)


def test_a_module_of_torch_alone():
    module = TorchModel(models.GL06SIM, periods=30)
    names = [name for name, _ in module.named_parameters()]
    assert names == list(models.GL06SIM.Params.fields)
    module()["national_income"][-1].backward()
    with jax.enable_x64(True):
        gradient = diff.gradient(models.GL06SIM, lambda p: p.national_income[-1], periods=30)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad, gradient[name], rtol=1e-10)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = (module()["national_income"][-1] - 95.0) ** 2
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_bad_modes():
    with pytest.raises(ValueError, match="mode must be 'autograd', 'jacrev' or 'jacfwd'"):
        Torch(mode="forward")  # pyright: ignore[reportArgumentType]
