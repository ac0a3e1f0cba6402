"""Fits from many starts: what they find, what they say of those that fail, and of bad input."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from macrostat_jax import (
    Model,
    Record,
    Scalar,
    count_compilations,
    index,
    models,
    param,
    sample,
    simulate,
)
from macrostat_jax.estimation import Beta, Problem, multi_start
from macrostat_jax.estimation._starts import draw_starts

pytest.importorskip("optimistix")

SIM = models.GL06SIM
FREE = ("tax_rate", "propensity_to_consume_income", "propensity_to_consume_savings")
TRUTH = np.array([0.2, 0.6, 0.4])
OBSERVED = ("national_income", "household_money_stock")


AT_ONCE: Any = {"chunk": 256}
"""One compiled program serves most tests."""


@functools.cache
def sim(noise: float = 0.0) -> Problem:
    return problem_of_sim(noise)


def problem_of_sim(noise: float, **more: Any) -> Problem:
    path = simulate(SIM, periods=60)
    rng = np.random.default_rng(0)
    data = {n: np.asarray(getattr(path, n)) + noise * rng.normal(size=60) for n in OBSERVED}
    return Problem(SIM, data, list(OBSERVED), list(FREE), sigma=1.0, **more)


@functools.cache
def many(noise: float = 1.0) -> Any:
    return multi_start(sim(noise), 1000)


# Two wells ------------------------------------------------------------------------------------


class Params(Record):
    a: Scalar = param(0.5, bounds=(-2, 2))
    b: Scalar = param(0.5, bounds=(0, 1))
    c: Scalar = param(0.5, bounds=(0, 1))


class Scenario(Record):
    pass


class State(Record):
    x: Scalar = index("x")
    y: Scalar = index("y")


def wells(prior: State, params: Params, scenario: Scenario) -> State:
    """x has the values (a^2 - 1, a / 10), whose squares have two wells; y knows the sum of b and c alone."""
    x = jnp.where(prior.x == 0, params.a**2 - 1, params.a / 10)
    return State(x=x, y=params.b + params.c)


WELLS = Model("WELLS", Params, Scenario, State, lambda p, s: State.filled(0.0), wells, periods=2)


def test_starts_of_sim_find_the_truth():
    found = many(0.0)
    assert len(found) == 1000
    assert found.success.mean() >= 0.99
    # The cost is within a thousandth of a millionth of that of a typical start; the least singular value
    # of J at the truth says how far from it that may be.
    jacobian = jax.jacfwd(lambda u: sim().residuals(u))(sim().start)
    slope = jax.jacfwd(sim().values)(sim().start)
    least = np.linalg.svd(jacobian @ np.linalg.inv(slope))[1][-1]
    near = 1.5 * np.sqrt(2 * found.within) / least
    np.testing.assert_allclose(
        found.values[found.success], np.tile(TRUTH, (found.success.sum(), 1)), atol=near
    )
    assert not found.loose
    assert "1,000 starts" in str(found)


def test_the_best_is_the_minimum_that_scipy_finds():
    problem, found = sim(1.0), many(1.0)
    residuals, jacobian = jax.jit(problem.residuals), jax.jit(jax.jacfwd(problem.residuals))
    other: Any = optimize.least_squares(
        lambda u: np.asarray(residuals(u)), np.zeros(3), jac=lambda u: np.asarray(jacobian(u)),  # pyright: ignore[reportArgumentType]
        xtol=1e-15, ftol=1e-15, gtol=1e-12,
    )  # fmt: skip
    assert found.best_cost == pytest.approx(other.cost, rel=1e-12)
    np.testing.assert_allclose(found.best_u, other.x, atol=1e-6)
    assert found.success.mean() >= 0.99
    assert found.best_values == dict(zip(FREE, found.values[found.best].tolist(), strict=True))


def test_what_the_solver_calls_a_success_may_be_none():
    """BFGS runs some starts of SIM into saturated bounds, where it stops: they are told from the others."""
    found = multi_start(sim(1.0), 256, method="bfgs")
    counts = found.counts
    stuck = found.status == 2
    assert found.stopped.sum() > found.success.sum() > 200
    assert counts["stuck at a saturated bound"] == stuck.sum() > 5
    assert (found.costs[stuck] > 10 * found.best_cost).all()
    # At a bound, as their values say too.
    edge = np.minimum(found.values, 1 - found.values).min(axis=1)
    assert (edge[stuck] < 1e-3).all() and (edge[found.success] > 0.1).all()
    assert sum(counts.values()) == 256
    assert "stuck at a saturated bound" in found.sentence()
    assert found.basins[0].starts >= found.success.sum()
    assert len(found.basins) > 1 and found.basins[1].saturated
    table = found.to_pandas()
    assert (table["outcome"] == "at the best cost").sum() == found.success.sum()
    assert list(table.columns[-3:]) == list(FREE)


@pytest.mark.parametrize(
    "method", ["lm", "dogleg", "lbfgs", pytest.param("adam", marks=pytest.mark.slow)]
)
def test_two_wells_and_what_is_not_identified(method):
    """x sees a^2 - 1 and a / 10 against 0 and 0.1: wells near 1 and -1, of which the first is the deeper
    one. Of b and c only the sum counts."""
    if method == "adam":
        pytest.importorskip("optax")
    data = {"x": np.array([0.0, 0.1]), "y": np.array([1.0, 1.0])}
    problem = Problem(WELLS, data, ["x", "y"], ["a", "b", "c"], sigma=1.0)
    found = multi_start(problem, 64, method=method, design="sobol")
    ends = found.values[found.success, 0]
    np.testing.assert_allclose(ends, 1.0, atol=1e-3)
    assert 10 < found.success.sum() < 54
    assert (found.costs[found.stopped & ~found.success] > 100 * found.within).all()
    assert found.counts["out of steps"] <= 3
    if method != "adam":
        assert found.loose == ("b", "c")
        second = found.basins[1]
        other: Any = optimize.minimize_scalar(
            lambda a: ((a**2 - 1) ** 2 + (a / 10 - 0.1) ** 2) / 2, bounds=(-2, 0), method="bounded",
            options={"xatol": 1e-10},
        )  # fmt: skip
        assert second.cost == pytest.approx(other.fun, rel=1e-8)
        assert second.starts >= 25


def test_chunks_and_rounds_do_not_change_what_is_found():
    whole = multi_start(sim(1.0), 48, **AT_ONCE)
    parts = multi_start(sim(1.0), 48, chunk=16)
    np.testing.assert_allclose(whole.costs, parts.costs, rtol=1e-10)
    np.testing.assert_array_equal(whole.status, parts.status)
    # Starts go on where they were: few steps a round are no fewer in all.
    assert whole.steps.max() > 20


def test_a_second_call_compiles_nothing():
    multi_start(sim(1.0), 48, chunk=16)
    with count_compilations() as compiled:
        multi_start(sim(1.0), 80, seed=3, chunk=16)
    assert compiled.count == 0


def test_starts_from_designs_and_priors():
    problem = sim(1.0)
    design = sample.latin_hypercube(SIM, 16, {n: (0.1, 0.9) for n in reversed(FREE)})
    found = multi_start(problem, design, **AT_ONCE)
    np.testing.assert_allclose(found.start_values, design.points[:, ::-1], atol=1e-12)
    u = np.zeros((5, 3))
    np.testing.assert_array_equal(multi_start(problem, u, **AT_ONCE).starts, u)
    informed = problem_of_sim(1.0, priors={"tax_rate": Beta(2, 8)})
    u = draw_starts(informed, 64, "latin_hypercube", 0)
    begun = np.asarray(jax.vmap(informed.values)(u))
    assert stats.kstest(begun[:, 0], stats.beta(2, 8).cdf).pvalue > 0.5  # a Latin hypercube: even
    assert stats.kstest(begun[:, 1], stats.uniform.cdf).pvalue > 0.5


def test_the_posterior_as_objective():
    informed = problem_of_sim(1.0, priors={"tax_rate": Beta(20, 80)})
    found = multi_start(informed, 16, method="bfgs", objective="posterior")
    slope = jax.grad(informed.log_density)(found.best_u)
    assert np.abs(slope).max() < 1e-3 * np.abs(np.asarray(informed.start)).max()
    assert found.best_cost == pytest.approx(-float(informed.log_density(found.best_u)), rel=1e-12)


def test_steps_that_are_used_up():
    found = multi_start(sim(1.0), 16, steps=2)
    assert found.counts["out of steps"] == 16
    assert "allow more" in found.sentence()
    assert (found.costs <= found.start_costs).all()


def test_paths_that_explode_are_counted():
    """x doubles its exponent in every period: most starts overflow."""

    class Grows(Record):
        g: Scalar = param(0.5, bounds=(0, 1e6))

    class Level(Record):
        x: Scalar = index("x")

    model = Model(
        "GROWS", Grows, Scenario, Level, lambda p, s: Level(x=jnp.ones(())),
        lambda prior, p, s: Level(x=prior.x * p.g), periods=100,
    )  # fmt: skip
    problem = Problem(model, {"x": 0.99 ** np.arange(1, 101)}, ["x"], ["g"], sigma=1.0)
    found = multi_start(problem, np.array([[-14.0], [-13.0], [10.0], [12.0]]))
    assert found.status.tolist()[2:] == [4, 4]
    assert found.counts["not finite"] == 2 and found.success.sum() >= 1
    assert found.best_values["g"] == pytest.approx(0.99, rel=1e-6)
    with pytest.raises(ValueError, match="None of 2 starts leads to a finite cost"):
        multi_start(problem, np.array([[10.0], [12.0]]))


def test_float64_whatever_the_default():
    with jax.enable_x64(False):
        found = multi_start(sim(1.0), 16, **AT_ONCE)
    assert found.u.dtype == np.float64
    assert found.best_cost == pytest.approx(many(1.0).best_cost, rel=1e-10)


def test_the_picture():
    figure = multi_start(sim(1.0), 64, **AT_ONCE).plot()
    assert len(figure.axes) == 2
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "newton"}, "Unknown method: 'newton'. Use one of lm, dogleg"),
        ({"objective": "posterior"}, "'lm' is for sums of squares"),
        ({"objective": "loss"}, "The objective is 'cost' or 'posterior'"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"tolerance": 0.0}, "tolerance must be a finite number above 0"),
        ({"chunk": 0}, "chunk must be a whole number"),
        ({"starts": np.zeros((4, 2))}, r"of the shape \(n, 3\), not \(4, 2\)"),
        ({"starts": np.full((4, 3), np.nan)}, "4 of 4 starts are not finite"),
        ({"starts": 0}, "at least 1, not 0"),
        (
            {"starts": sample.random(SIM, 4, {"tax_rate": (0.1, 0.2)})},
            "The design has tax_rate; the problem has tax_rate, propensity",
        ),
    ],
)
def test_bad_input(options: dict[str, Any], said: str):
    options = {"starts": 4} | options
    with pytest.raises(ValueError, match=said):
        multi_start(sim(1.0), options.pop("starts"), **options)
