"""The number of agents is a property of a variant of the model, not of its declaration."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import (
    AddingUp,
    Axis,
    Matrix,
    Model,
    Record,
    Scalar,
    Vector,
    exogenous,
    index,
    param,
    simulate,
    steady_state,
)
from macrostat_jax.diff import gradient, jacobian
from macrostat_jax.models import GL06SIM

FIRM = Axis("firm", size=4)


class Params(Record):
    persistence: Scalar = param(0.5, bounds=(0, 1))
    productivity: Vector = param(2.0, shape=FIRM)


class Scenario(Record):
    pass


class State(Record):
    output: Vector = index("y", "", shape=FIRM)
    total: Scalar = index("Y", "")


def initial_state(params, scenario):
    return State.filled(0.0)


def step(prior, params, scenario):
    output = params.persistence * prior.output + params.productivity
    return State(output=output, total=output.sum())


FIRMS = Model("FIRMS", Params, Scenario, State, initial_state, step, periods=50)


@pytest.mark.parametrize("firms", [1, 4, 1000])
def test_every_firm_reaches_its_own_level(firms):
    model = FIRMS.resize(firm=firms)
    path = simulate(model)
    assert path.output.shape == (50, firms)
    # y* = productivity / (1 - persistence) = 4, up to 4 * 0.5**50
    assert path.total[-1] == pytest.approx(4.0 * firms, rel=1e-12)


def test_derivatives_and_values_follow_the_size():
    model = FIRMS.resize(firm=3)
    slopes = jacobian(model, "total", mode="forward")
    assert slopes["productivity"].shape == (50, 3)
    assert slopes["productivity"][-1] == pytest.approx([2.0, 2.0, 2.0], rel=1e-12)
    values = model.params(productivity=jnp.array([1.0, 2.0, 3.0]))
    by_firm = gradient(model, lambda path: path.total[-1], params=values)
    assert by_firm["persistence"] == pytest.approx(6.0 / 0.25, rel=1e-9)


def test_the_same_size_is_the_same_model_and_compiles_once():
    assert FIRMS.resize(firm=4) is FIRMS
    assert FIRMS.resize(firm=7) is FIRMS.resize(firm=7)
    assert jax.tree.structure(FIRMS.resize(firm=7).params()) == jax.tree.structure(
        FIRMS.resize(firm=7).params()
    )


def test_an_axis_that_cannot_change_is_named():
    with pytest.raises(KeyError, match=r"GL06SIM has no axis 'firm'. There are: none"):
        GL06SIM.resize(firm=3)
    with pytest.raises(TypeError, match="the axis 'firm' takes a size, not"):
        FIRMS.resize(firm=("A", "B"))


def test_parameters_of_another_size_are_refused():
    message = r"'productivity' must have the shape \(3,\), or a batch axis before it; not \(4,\)"
    with pytest.raises(ValueError, match=message):
        simulate(FIRMS.resize(firm=3), FIRMS.params())


SECTOR = Axis("sector", ("A", "B"))


class SectorParams(Record):
    requirement: Matrix = param([[0.1, 0.2], [0.3, 0.1]], bounds=(0, 1), shape=(SECTOR, SECTOR))
    markup: Vector = param(0.5, shape=SECTOR)


class SectorScenario(Record):
    demand: Vector = exogenous([1.0, 2.0], shape=SECTOR)


class SectorState(Record):
    output: Vector = index("x", "", shape=SECTOR)


def leontief(prior, params, scenario):
    size = params.requirement.shape[0]
    return SectorState(output=jnp.linalg.solve(jnp.eye(size) - params.requirement, scenario.demand))


SECTORS = Model(
    "SECTORS",
    SectorParams,
    SectorScenario,
    SectorState,
    lambda params, scenario: SectorState.filled(0.0),
    leontief,
)


def test_other_sectors_by_label():
    model = SECTORS.resize(sector=("Farms", "Mines", "Shops"))
    assert model.State.fields["output"].axes[0].labels == ("Farms", "Mines", "Shops")
    params = model.params(requirement=0.1)
    scenario = model.scenario(demand=np.array([1.0, 2.0, 4.0]), periods=3)
    path = simulate(model, params, scenario)
    # (I - a J)^-1 d = d + a sum(d) / (1 - 3 a), with every entry of the matrix a = 0.1
    np.testing.assert_allclose(path.output[-1], np.array([1, 2, 4]) + 1.0, rtol=1e-13)


def test_defaults_that_no_longer_fit_are_asked_for():
    model = SECTORS.resize(sector=("Farms", "Mines", "Shops"))
    with pytest.raises(
        ValueError, match=r"SECTORS: 'requirement' of shape \(3, 3\) has no default"
    ):
        model.params()
    with pytest.raises(ValueError, match=r"'demand' of shape \(3,\) has no default"):
        model.scenario()
    with pytest.raises(ValueError, match=r"'demand' of shape \(3,\) has no default"):
        model.scenario(demand=np.ones(3), start=1)
    np.testing.assert_array_equal(model.params(requirement=0.1).markup, [0.5, 0.5, 0.5])


def test_a_size_is_what_its_axis_says():
    def begin(params, scenario, *, firm=5):
        return State.filled(0.0)

    message = r"FIRMS: the option 'firm' of initial_state is 5, the size of that axis is 4"
    with pytest.raises(ValueError, match=message):
        Model("FIRMS", Params, Scenario, State, begin, step)
    with pytest.raises(KeyError, match=r"FIRMS has no option 'firm'. .* Sizes are set with resize"):
        FIRMS.configure(firm=3)


def test_constraints_wait_for_the_values_of_another_size():
    class Shares(Record):
        share: Vector = param((0.25, 0.25, 0.25, 0.25), shape=FIRM)

    model = Model(
        "SHARES",
        Shares,
        Scenario,
        State,
        initial_state,
        lambda prior, params, scenario: State(output=params.share, total=params.share.sum()),
        constraints=(AddingUp(("share[0]", "share[1]")),),
        periods=1,
    ).resize(firm=2)
    np.testing.assert_array_equal(
        simulate(model, model.params(share=[0.4, 0.1])).output, [[0.4, 0.6]]
    )


def test_records_of_the_declaration_serve_the_resized_model():
    """Everywhere alike: in a simulation and in a steady state."""
    model, params = FIRMS.resize(firm=2), Params(persistence=0.5, productivity=np.array([1.0, 3.0]))  # type: ignore[arg-type]
    np.testing.assert_allclose(simulate(model, params).output[-1], [2, 6], rtol=1e-12)
    np.testing.assert_allclose(steady_state(model, params).output, [2, 6], rtol=1e-12)
    one: Any = params.replace(productivity=1.0)
    np.testing.assert_allclose(steady_state(model, one).output, [2, 2], rtol=1e-12)


def test_labels_are_not_a_size():
    with pytest.raises(TypeError, match="the axis 'sector' takes a sequence of labels, not 3"):
        SECTORS.resize(sector=3)
    with pytest.raises(TypeError, match=r"axis 'sector' takes a sequence of labels, not 3\.0"):
        SECTORS.resize(sector=3.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the axis 'firm' takes a size, not True"):
        FIRMS.resize(firm=True)
    with pytest.raises(TypeError, match="a sequence of labels, not 'ABC'"):
        SECTORS.resize(sector="ABC")
    assert SECTORS.resize(sector=["A", "B"]) is SECTORS
