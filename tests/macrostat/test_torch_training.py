"""Library models as torch modules: optimisers, state dictionaries, devices, graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from macrostat.models import get_model


def training(name: str = "GL06SIM", **changes: float) -> Any:
    hyper = {"timesteps": 40, "dtype": torch.float64}
    return get_model(name)(parameters=changes, hyperparameters=hyper).get_model_training_instance()


def misfit(behavior: Any, target: torch.Tensor) -> torch.Tensor:
    return (behavior()["NationalIncome"] - target).square().mean()


@pytest.fixture
def target() -> torch.Tensor:
    return training(TaxRate=0.25)()["NationalIncome"].detach()


def test_adam_over_named_parameters(target: torch.Tensor):
    behavior = training()
    chosen = [p for name, p in behavior.named_parameters() if name == "params.TaxRate"]
    optimiser = torch.optim.Adam(chosen, lr=0.01)
    losses = []
    for _ in range(150):
        optimiser.zero_grad()
        loss = misfit(behavior, target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]
    assert behavior.params["TaxRate"].item() == pytest.approx(0.25, abs=5e-3)


def test_lbfgs_with_a_closure_finds_the_tax_rate(target: torch.Tensor):
    behavior = training()
    rate = behavior.params["TaxRate"]
    optimiser = torch.optim.LBFGS([rate], max_iter=30, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = misfit(behavior, target)
        loss.backward()
        return loss

    for _ in range(3):
        optimiser.step(closure)
    # The misfit is quadratic there: its root is found to the root of float64's resolution.
    assert rate.item() == pytest.approx(0.25, abs=1e-7)


def test_state_dictionaries_carry_the_parameters(target: torch.Tensor):
    behavior, other = training(TaxRate=0.3), training()
    other.load_state_dict(behavior.state_dict())
    assert torch.equal(other()["NationalIncome"], behavior()["NationalIncome"])
    assert not torch.equal(training()()["NationalIncome"], behavior()["NationalIncome"])


def test_to_moves_and_casts():
    behavior = training().to("cpu").to(torch.float32)
    assert all(p.dtype == torch.float32 for p in behavior.params.values())
    path = behavior()["NationalIncome"]
    assert path.device.type == "cpu" and torch.isfinite(path).all()


def test_a_run_leaves_its_series_with_their_graph():
    behavior = training()
    behavior()
    series = behavior.variables.timeseries["NationalIncome"]
    (slope,) = torch.autograd.grad(series[-1].sum(), behavior.params["TaxRate"])
    # Y* = G / theta: after 39 periods within 0.4 % of -G / theta^2 = -500
    assert slope.item() == pytest.approx(-500.0, rel=3e-2)
