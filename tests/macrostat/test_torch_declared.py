"""A declaration with vectors, a matrix, data and constraints, as the torch API sees it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from macrostat.core import LinearConstraint
from macrostat.models._serve import derive
from macrostat_jax import (
    AddingUp,
    Axis,
    Matrix,
    Model,
    Record,
    Scalar,
    Vector,
    exogenous,
    flow,
    index,
    param,
)

SECTORS = Axis("sector", ("S1", "S2"))
INDUSTRIES = Axis("industry", ("A", "B", "C"))


class Params(Record):
    growth: Scalar = param(0.5, symbol="g", bounds=(0, 1), unit="%")
    share: Vector = param([0.3, 0.7], symbol="s", bounds=(0, 1), shape=SECTORS)
    requirement: Matrix = param([[0.1, 0.2], [0.3, 0.4]], shape=(SECTORS, SECTORS), bounds=(0, 1))
    stocks: Vector = param([1.0, 2.0, 3.0], shape=INDUSTRIES, bounds=(0, 9))


class Scenario(Record):
    demand: Scalar = exogenous(20.0)
    supply: Vector = exogenous([1.0, 2.0, 3.0], shape=INDUSTRIES)


class State(Record):
    income: Scalar = flow("Y", "g Y_{-1} + D", pays="F", gets="H")
    output: Vector = index("x", "s Y", shape=SECTORS)
    cells: Matrix = index("z", "a Y", shape=(SECTORS, SECTORS))
    goods: Vector = index("k_{-1}", "k S", shape=INDUSTRIES)


def initial_state(params: Params, scenario: Scenario) -> State:
    return State.filled(0.0)


def step(prior: State, params: Params, scenario: Scenario) -> State:
    income = params.growth * prior.income + scenario.demand
    return State(
        income=income,
        output=params.share * income,
        cells=params.requirement * income,
        goods=params.stocks * scenario.supply,
    )


DEFINITION = Model(
    "SECTORAL",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    constraints=(AddingUp(("share[0]", "share[1]"), 1.0),),
    scenarios={
        "boom": {"demand": 30.0, "share_add": [0.1, 0.0]},
        "fall": {"growth_multiply": 0.5},
    },
    shocks=("growth_add", "requirement_add"),
    trigger=2,
    periods=6,
)


@pytest.fixture(scope="module")
def classes() -> Any:
    return derive(DEFINITION)


def test_parameters(classes: Any):
    parameters = classes.Parameters()
    assert list(parameters.values) == [
        "Growth",
        *("S1.Share", "S2.Share"),
        *("S1.S1.Requirement", "S1.S2.Requirement", "S2.S1.Requirement", "S2.S2.Requirement"),
    ]
    assert parameters["S1.S2.Requirement"] == 0.2
    assert list(parameters.data) == ["Stocks"]
    assert parameters["vector_sectors"] == ["S1", "S2"]
    assert parameters["sectors"] == ["F", "H"]
    assert parameters["timesteps"] == 6 and parameters["scenario_trigger"] == 2
    tensors = parameters.vectorize_parameters()
    assert torch.equal(tensors["Requirement"], torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
    assert torch.equal(tensors["Stocks"], torch.tensor([1.0, 2.0, 3.0]))


def test_constraints_among_elements(classes: Any):
    parameters = classes.Parameters(parameters={"S1.Share": 0.4})
    assert parameters.get_constraints() == (LinearConstraint(("S1.Share", "S2.Share"), 1.0),)
    assert parameters["S2.Share"] == pytest.approx(0.6)


def test_scenarios(classes: Any):
    scenarios = classes.Scenarios()
    assert [info["Name"] for info in scenarios.info.values()] == ["Scenario.0", "boom", "fall"]
    assert scenarios["boom", "Demand"].squeeze().tolist() == [20.0, 20.0, 30.0, 30.0, 30.0, 30.0]
    assert scenarios["boom", "S1_Share_add"][-1].item() == pytest.approx(0.1)
    assert scenarios["boom", "S2_Share_add"][-1].item() == 0.0
    assert scenarios["fall", "Growth_multiply"].squeeze().tolist() == [1.0] * 2 + [0.5] * 4
    assert scenarios[0, "S2_S1_Requirement_add"].shape == (6, 1)
    assert scenarios[0, "Supply"].shape == (6, 3)


def test_variables(classes: Any):
    variables = classes.Variables()
    assert variables.info["Output"]["sectors"] == ["S1", "S2"]
    assert variables.info["Goods"]["sectors"] == ["A", "B", "C"]
    assert variables.info["Goods"]["notation"] == "k(t-1)"
    assert variables.shape("Goods") == (3,) and variables.shape("Cells") == (2, 2)
    assert variables.info["Cells"]["sectors"] == variables.info["Cells"]["matrix"] == ["S1", "S2"]


@pytest.mark.parametrize("scenario", [0, "boom", "fall"])
def test_compiled_and_eager_agree(classes: Any, scenario: int | str):
    class Eager(classes.Behavior):
        def step(self, t, scenario, params=None):
            super().step(t, scenario, params)

    hyper = {"dtype": torch.float64}
    model = classes.Model(hyperparameters=hyper)
    eager = classes.Model(hyperparameters=hyper, behavior=Eager)
    model.scenarios.add_scenario({"S2_S1_Requirement_add": 0.25}, name="cell")
    paths = model.simulate(scenario), eager.simulate(scenario)
    for key, path in paths[0].items():
        assert path.shape == (7, *model.variables.shape(key))
        assert torch.allclose(path, paths[1][key], atol=1e-12)
    cells = model.simulate("cell")
    assert cells["Cells"][-1, 1, 0] == pytest.approx(0.55 * cells["Income"][-1, 0])
    assert cells["Cells"][-1, 0, 1] == pytest.approx(0.2 * cells["Income"][-1, 0])


def test_the_steady_state_of_a_declaration_without_a_closed_form(classes: Any):
    found = classes.Model().compute_theoretical_steady_state()
    # Y = g Y + D: with g = 0.5 and D = 20, Y = 40
    assert torch.allclose(found["Income"][-1], torch.tensor([40.0]))


def test_sectors_out_of_order_are_refused():
    definition = DEFINITION.resize(sector=("S2", "S1"))
    with pytest.raises(
        ValueError, match=r"SECTORAL: all axes named 'sector' .* in sorted order, not"
    ):
        derive(definition).Parameters()
