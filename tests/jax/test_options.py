"""Options: choices of a model that are no numbers to differentiate by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import Model, Record, Scalar, index, models, param, simulate, smooth


class Params(Record):
    floor: Scalar = param(1.0, symbol="f", unit=".")


class Scenario(Record):
    pass


class State(Record):
    level: Scalar = index("y", "", unit=".")


def initial_state(params, scenario, *, start=3.0):
    return State.filled(start)


def step(prior, params, scenario, *, sharpness=None):
    """Halves the level, down to the floor; rounded off where a sharpness is given."""
    half = prior.level / 2
    if sharpness is None:
        return State(level=jnp.maximum(half, params.floor))
    return State(level=smooth.maximum(half, params.floor, sharpness))


FLOOR = Model("FLOOR", Params, Scenario, State, initial_state, step, periods=5)


def test_options_are_the_keyword_only_arguments():
    assert dict(FLOOR.options) == {"start": 3.0, "sharpness": None}
    assert not FLOOR.random and not FLOOR.random_start
    assert not models.GL06SIM.options
    np.testing.assert_array_equal(simulate(FLOOR).level, [1.5, 1, 1, 1, 1])


def test_a_configured_model_runs_and_differs_by_the_stated_distance():
    model = FLOOR.configure(sharpness=50.0)
    distance = simulate(model).level - simulate(FLOOR).level
    # log(2) / sharpness at most in each period; half of it is carried on
    assert 0 < np.max(distance) < 2 * np.log(2) / 50
    slope = jax.grad(lambda f: simulate(model, model.params(floor=f)).level[0])(1.4)
    assert 0 < slope < 1
    assert model.title == FLOOR.title and model.options["sharpness"] == 50.0


def test_each_function_gets_its_own_options():
    model = FLOOR.configure(start=8.0)
    np.testing.assert_array_equal(simulate(model).level, [4, 2, 1, 1, 1])
    both = model.configure(sharpness=1e6)
    np.testing.assert_allclose(simulate(both).level, [4, 2, 1, 1, 1], atol=2e-6)


def test_the_same_options_are_the_same_model():
    assert FLOOR.configure(sharpness=None) is FLOOR
    assert FLOOR.configure(sharpness=2.0) is FLOOR.configure(sharpness=2.0)
    assert FLOOR.configure() is FLOOR


def test_unknown_options_are_named():
    with pytest.raises(
        KeyError, match=r"FLOOR has no option 'smooth'. There are: start=3.0, sharp"
    ):
        FLOOR.configure(smooth=1.0)
    with pytest.raises(KeyError, match=r"GL06SIM has no option 'smooth'. There are: none"):
        models.GL06SIM.configure(smooth=1.0)


def test_an_option_of_two_functions_has_one_value():
    def other(params, scenario, *, sharpness=1.0):
        return State.filled(sharpness)

    message = r"TWO: the option 'sharpness' of initial_state is 1.0, another function's is None"
    with pytest.raises(ValueError, match=message):
        Model("TWO", Params, Scenario, State, other, step)


def test_values_that_compare_equal_are_not_the_same_option():
    def kind(prior, params, scenario, *, power=2):
        return State(level=float(isinstance(power, int)))  # type: ignore[arg-type]

    model = Model("KIND", Params, Scenario, State, initial_state, kind, periods=1)
    found = [simulate(model.configure(power=power)).level[0] for power in (3, 3.0, 2.0)]
    assert found == [1.0, 0.0, 0.0]


def test_options_are_hashable():
    weights = np.array([1.0, 2.0])

    def weighted(prior, params, scenario, *, weights=weights):
        return State(level=prior.level + weights.sum())

    model = Model("WEIGHTED", Params, Scenario, State, initial_state, weighted, periods=1)
    np.testing.assert_array_equal(simulate(model).level, [6.0])
    for array in (weights, weights + 1, [1.0]):
        with pytest.raises(TypeError, match=r"WEIGHTED: the option 'weights' takes a hashable"):
            model.configure(weights=array)


def test_an_option_without_a_default_is_refused():
    def bare(prior, params, scenario, *, sharpness):
        return prior

    with pytest.raises(TypeError, match="BARE: the option 'sharpness' needs a default"):
        Model("BARE", Params, Scenario, State, initial_state, bare)
