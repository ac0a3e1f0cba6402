"""`macrostat.diff.sequence_space_jacobian`: the instance's own run, shock by shock."""

from typing import Any

import pytest
import torch
from diff_cases import own_model

from macrostat.diff import sequence_space_jacobian
from macrostat.models import get_model


def test_a_shock_to_one_period_of_the_scenario():
    model = get_model("GL06SIM")(hyperparameters={"timesteps": 12, "dtype": torch.float64})
    model.parameters["TaxRate"] = 0.25
    found = sequence_space_jacobian(model, ["NationalIncome"], "GovernmentDemand")
    slopes = found["NationalIncome"]["GovernmentDemand"]
    first = model.parameters.hyper["timesteps_initialization"]
    assert slopes.shape == (12 - first, 12 - first) and slopes.dtype == torch.float64
    # The model is linear in demand: a difference of two runs is exact up to rounding.
    base = model.simulate()["NationalIncome"].squeeze()
    path = torch.full((12, 1), 20.0, dtype=torch.float64)
    for at in (first, first + 4):
        shocked = path.clone()
        shocked[at] += 1.0
        model.scenarios.timeseries[0]["GovernmentDemand"] = shocked
        moved = model.simulate()["NationalIncome"].squeeze() - base
        torch.testing.assert_close(
            slopes[:, at - first], moved[first + 1 :], rtol=1e-10, atol=1e-10
        )


def test_all_of_a_model_with_vectors():
    model: Any = get_model("IOPC")(hyperparameters={"timesteps": 5})
    found = sequence_space_jacobian(model)
    definition = model.definition
    assert set(found) == {field.name for field in definition.State.fields.values()}
    for field in definition.State.fields.values():
        for series in definition.Scenario.fields.values():
            slopes = found[field.name][series.name]
            assert slopes.dtype == torch.get_default_dtype()
            assert slopes.shape[1 : 1 + len(field.shape)] == field.shape


def test_bad_input():
    with pytest.raises(TypeError, match="written in torch"):
        sequence_space_jacobian(own_model())
    with pytest.raises(KeyError, match="'Income' is not in"):
        sequence_space_jacobian(get_model("GL06SIM")(), "Income")
