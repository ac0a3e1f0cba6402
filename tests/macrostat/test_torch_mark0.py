"""Mark0COVID in the torch API: the published draws and paths, and its derivatives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from macrostat.diff import JacobianAutograd
from macrostat.models import get_model, get_model_classes

# The run `torch` of reference/record_published_mark0.py.
FIRMS, PERIODS, ROWS, SEED = 50, 60, [1, 2, 30, 60], 11
PARAMETERS = {
    "HiringFiringRate": 1.5,
    "GammaBaseline": 0.02,
    "WagePriceAdjustmentRatio": 0.8,
    "WageInflationFactor": 0.9,
    "InterestRateBaseline": 0.01,
    "CBInflationReaction": 0.5,
    "CBInflationTarget": 0.01,
    "DefaultThreshold": 1.0,
    "BankruptcyInterestEffect": 0.3,
    "FirmRevivalProbability": 0.2,
}


def small(periods: int = PERIODS, **hyper: Any) -> Any:
    classes = get_model_classes("Mark0COVID")
    hyper = {"N_firms": FIRMS, "timesteps": periods, "seed": SEED, **hyper}
    parameters = classes.Parameters(hyperparameters=hyper)
    for name, value in PARAMETERS.items():
        parameters.values[name]["value"] = value
    return classes.Model(parameters=parameters)


def test_a_seed_gives_the_published_path():
    reference = np.load(Path(__file__).parents[1] / "reference" / "mark0.npz")
    state = torch.random.get_rng_state()
    path = small().simulate()
    assert torch.equal(state, torch.random.get_rng_state())  # of torch's global generator
    alive = path["FirmAlive"].numpy()
    for name, values in path.items():
        assert values.dtype == torch.float64
        ours, theirs = values.numpy(), reference[f"torch/{name}"]
        assert len(ours) == PERIODS + 1
        if theirs.ndim == 1:  # there a scalar has no axis of its own
            ours = ours[:, 0]
        rows = slice(None) if len(theirs) == PERIODS + 1 else ROWS
        there = alive[rows] if name == "FirmPrice" else 1.0  # theirs go on after a failure
        np.testing.assert_allclose(
            ours[rows] * there, theirs * there, rtol=1e-9, atol=1e-9, err_msg=name
        )
    again = small(seed=SEED + 1).simulate()
    assert not torch.equal(path["Inflation"], again["Inflation"])


def test_hyperparameters():
    parameters = get_model_classes("Mark0COVID").Parameters()
    hyper = parameters.hyper
    assert (hyper["N_firms"], hyper["seed"], hyper["dtype"]) == (1000, 0, torch.float64)
    assert (hyper["timesteps"], hyper["timesteps_initialization"]) == (100, 0)
    assert hyper["sectors"] == ["Firms", "Household", "Bank", "CentralBank"]
    path = small(3, dtype=torch.float32, N_firms=7).simulate()
    assert path["FirmPrice"].shape == (4, 7) and path["FirmPrice"].dtype == torch.float32
    for bad in (0, -3, 2.5):
        with pytest.raises(ValueError, match="N_firms must be a positive integer"):
            small(3, N_firms=bad).simulate()


def test_the_rule_of_the_target_is_an_option():
    model = small(5)
    model.parameters["CBInflationReaction"] = 0.0
    ours = model.simulate()["ExpectedInflationUsed"]
    other = small(5, target_without_reaction=True)
    other.parameters["CBInflationReaction"] = 0.0
    theirs = other.simulate()["ExpectedInflationUsed"]
    assert ours[1] == 0 and theirs[1] == pytest.approx(0.5 * 0.01)


def test_shipped_scenarios():
    model = get_model("Mark0COVID")()
    names = [info["Name"] for info in model.scenarios.info.values()]
    assert names[1] == "Endogenous crises (R=0.5, Theta=3)"
    assert model.scenarios[3, "DefaultThreshold_add"][-1] == 4.0
    assert model.scenarios[2, "HiringFiringRate_add"][0] == -0.5


def wages(output: dict[str, torch.Tensor]) -> torch.Tensor:
    return output["AverageWage"][-1].sum() + output["Unemployment"][-1].sum()


def test_forward_and_reverse_mode_agree():
    """Where the published package has no forward mode. Its reverse mode is compared in the core's tests."""
    model = small(8)
    forward, reverse = (JacobianAutograd(model).compute(wages, mode=m) for m in ("fwd", "rev"))
    assert set(forward) == set(reverse) == set(model.parameters.values)
    for name, value in reverse.items():
        assert torch.isfinite(value)
        assert float(forward[name]) == pytest.approx(float(value), rel=1e-9, abs=1e-12), name
    step, values = 1e-6, model.parameters.values["PriceAdjustmentSize"]
    ends = []
    for size in (0.1 + step, 0.1 - step):
        values["value"] = size
        ends.append(float(wages(model.simulate())))
    slope = (ends[0] - ends[1]) / (2 * step)
    assert float(reverse["PriceAdjustmentSize"]) == pytest.approx(slope, rel=1e-5)


# What a loss touches --------------------------------------------------------------------------


LOSSES: dict[str, tuple[Any, set[str]]] = {
    "aggregates": (lambda output: output["Unemployment"][-1].sum(), {"Unemployment"}),
    "firms": (
        lambda output: (output["Unemployment"] > 0).sum() * output["FirmAssets"].square().mean(),
        {"FirmAssets"},
    ),
    "a vector": (
        lambda output: torch.cat(
            [output["FirmPrice"].mul_(2.0)[-1, :2], output["Inflation"][-1], torch.ones(1).double()]
        ),
        {"FirmPrice", "Unemployment"},
    ),
}
"""A loss, and which it asks about of: firms' variables, each of its own tensor, and unemployment, which stands
for the aggregates, all of which are one."""


def touched(monkeypatch: pytest.MonkeyPatch, model: Any) -> list[set[str]]:
    """The variables whose derivatives the programs are asked for, call by call."""
    from macrostat import _engine

    fields = model.definition.State.fields
    parts, found = _engine.parts(model.definition.resize(firm=200).State), []
    for name in ("pullback", "tangents"):
        own = getattr(_engine.Program, name)

        def watched(self: Any, which: Any, *rest: Any, own: Any = own):
            found.append({fields[key].name for i in which for key in parts[i]})
            return own(self, which, *rest)

        monkeypatch.setattr(_engine.Program, name, watched)
    return found


@pytest.mark.parametrize("kind", LOSSES)
def test_only_what_a_loss_touches_is_differentiated(kind: str, monkeypatch: pytest.MonkeyPatch):
    model, (loss, expected) = small(3, N_firms=200), LOSSES[kind]
    asked = touched(monkeypatch, model)
    forward, reverse = (JacobianAutograd(model).compute(loss, mode=m) for m in ("fwd", "rev"))
    known = {"Unemployment", "FirmPrice", "FirmAssets", "FirmWage", "FirmAlive"}
    assert [names & known for names in asked] == [expected, expected]
    for key, value in reverse.items():
        assert torch.allclose(forward[key], value, rtol=1e-9, atol=1e-12), key
    name, step, ends = "PriceAdjustmentSize", 1e-6, []
    for size in (0.1 + step, 0.1 - step):
        model.parameters.values[name]["value"] = size
        ends.append(loss(model.simulate()))
    slope = (ends[0] - ends[1]) / (2 * step)
    assert torch.allclose(reverse[name], slope, rtol=1e-5, atol=1e-9)
