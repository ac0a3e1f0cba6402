"""Simultaneous equations: their solution, its derivatives, and what happens where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import Model, Record, Scalar, exogenous, index, param, simulate
from macrostat_jax.solve import root


class Params(Record):
    level: Scalar = param(0.5, symbol="a", unit=".")


class Scenario(Record):
    scale: Scalar = exogenous(2.0, symbol="g", unit=".")


class State(Record):
    height: Scalar = index("y", "", unit=".")


def initial_state(params, scenario):
    return State.filled(1.0)


def step(prior, params, scenario):
    product = params.level * scenario.scale
    return State(height=root(lambda y, product: y**2 - product, prior.height, product))


SQUARE = Model(
    "SQUARE",
    Params,
    Scenario,
    State,
    initial_state,
    step,
    periods=6,
    solved=("height",),
)
"""y^2 = a g: no real solution where a g < 0."""


def height(level):
    return simulate(SQUARE, SQUARE.params(level=level)).height[-1]


def test_solution_and_derivatives_are_those_of_the_closed_form():
    # y = sqrt(2 a): y' = 1 / y, y'' = -1 / y^3
    for level in (0.5, 2.0, 7.0):
        y = np.sqrt(2 * level)
        assert height(level) == pytest.approx(y, rel=1e-12)
        assert jax.grad(height)(level) == pytest.approx(1 / y, rel=1e-12)
        assert jax.jacfwd(height)(level) == pytest.approx(1 / y, rel=1e-12)
        assert jax.hessian(height)(level) == pytest.approx(-1 / y**3, rel=1e-11)
        assert jax.jacrev(jax.jacrev(height))(level) == pytest.approx(-1 / y**3, rel=1e-11)


def test_the_derivative_does_not_go_through_the_iterations():
    """One Newton step from a far guess has another derivative than the solution."""

    def far(level):
        return root(lambda y, a: y**2 - a, jnp.asarray(100.0), level)

    assert jax.grad(far)(4.0) == pytest.approx(0.25, rel=1e-12)


def test_a_pytree_of_unknowns():
    # x + y = a, x - y = b: x = (a + b) / 2, y = (a - b) / 2
    def equations(unknown, args):
        x, y = unknown["x"], unknown["y"]
        return {"x": x + y - args[0], "y": x - y - args[1]}

    def solution(args):
        return root(equations, {"x": jnp.asarray(0.0), "y": jnp.asarray(0.0)}, args)

    found, slopes = solution((3.0, 1.0)), jax.jacrev(solution)((3.0, 1.0))
    assert found["x"] == pytest.approx(2.0) and found["y"] == pytest.approx(1.0)
    assert [float(s) for s in slopes["y"]] == pytest.approx([0.5, -0.5])


def test_single_precision_converges(float32):
    assert root(lambda y, a: y**2 - a, jnp.asarray(3.0), 2.0) == pytest.approx(2**0.5, rel=1e-6)


def test_a_period_without_a_solution_is_named():
    scenario = SQUARE.scenario(scale=-1.0, start=3)
    with pytest.raises(RuntimeError, match=r"equations of period 3 .* no solution .* for height"):
        simulate(SQUARE, scenario=scenario)
    assert np.isfinite(simulate(SQUARE).height).all()


def test_in_a_batch_the_other_runs_count():
    params = SQUARE.params(level=jnp.array([0.5, -1.0, 2.0, -3.0]))
    with pytest.warns(RuntimeWarning, match=r"in 2 of 4 runs .* \(run 1: from period 0\)"):
        path = simulate(SQUARE, params)
    np.testing.assert_allclose(path.height[-1, [0, 2]], [1.0, 2.0], rtol=1e-12)
    assert np.isnan(path.height[:, [1, 3]]).all()


def test_inside_a_transformation_it_is_nan():
    found = jax.jit(jax.vmap(height))(jnp.array([0.5, -1.0]))
    assert found[0] == pytest.approx(1.0) and np.isnan(found[1])


def test_unknown_solved_variable():
    with pytest.raises(KeyError, match="depth"):
        Model("BAD", Params, Scenario, State, initial_state, step, solved=("depth",))
