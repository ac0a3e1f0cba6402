"""Fits whose optimum is at a bound: what they find, and what they say of errors there."""

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
    Vector,
    estimation,
    exogenous,
    index,
    noise,
    param,
)
from macrostat_jax.estimation._objectives import Task
from macrostat_jax.estimation._outcome import judge
from macrostat_jax.estimation._solvers import Ended


class Params(Record):
    level: Scalar = param(1.0)
    slope: Scalar = param(1.0, bounds=(0, 5))
    growth: Scalar = param(0.5, bounds=(0, float("inf")))


class Scenario(Record):
    x: Scalar = exogenous(0.0)


class State(Record):
    y: Scalar = index("y")


LINE = Model(
    "LINE", Params, Scenario, State, lambda p, s: State.filled(0.0),
    lambda prior, p, s: State(y=p.level + p.slope * s.x + (p.growth - 0.5) * s.x**2),
)  # fmt: skip
RNG = np.random.default_rng(11)
X = np.linspace(-1.0, 2.0, 24)
FALLING = 2.0 - 0.4 * X + 0.5 * RNG.normal(size=24)
"""Data that want a slope below its bound, 0."""
DESIGN = np.stack([np.ones(24), X, X**2], axis=1)


def line(y: np.ndarray, free: Any = ("level", "slope"), **more: Any) -> estimation.Problem:
    return estimation.Problem(
        LINE, {"y": y}, free=free, scenario=LINE.scenario(periods=24, x=X), **more
    )


SEARCHES = ["lm", "dogleg", "bounded", "least_squares", "bfgs", "lbfgs", "newton", "trust-exact"]


@pytest.mark.parametrize("method", [*SEARCHES, "adam", "cma"])
def test_every_search_ends_at_the_bound_itself(method):
    """With the slope at 0 a regression on a constant is left: its mean, and the error of that."""
    for library, methods in {"cma": ["cma"], "optax": ["adam"]}.items():
        if method in methods:
            pytest.importorskip(library)
    found = estimation.fit(line(FALLING), method)
    assert found.success and found.at_bound == ("slope",) and found.values["slope"] == 0.0
    error = FALLING.std(ddof=1) / np.sqrt(24)
    assert found.values["level"] == pytest.approx(FALLING.mean(), abs=1e-6 * error)
    assert found.standard_errors["level"] == pytest.approx(error, rel=1e-9)
    assert np.isnan(found.standard_errors["slope"])
    assert "At a bound: slope; the data would go further" in found.outcome
    said = str(found)
    assert "slope is at a bound, where there is no interval and no standard error" in said
    assert "suppose that it stays there" in said and "fit.profile('slope')" in said


@pytest.mark.parametrize("name", ["slope", "growth"])
def test_a_search_that_begins_at_a_saturated_bound_gets_away(name):
    """From there the coordinates have no slope: an optimum inside is found all the same."""
    y = DESIGN @ [1.0, 1.5, 0.4] + 0.1 * RNG.normal(size=24)
    problem = line(y, ("level", "slope", "growth"))
    found = estimation.fit(problem, start={name: 1e-13})
    closed = np.linalg.lstsq(DESIGN, y, rcond=None)[0] + [0, 0, 0.5]
    assert found.success and not found.at_bound
    np.testing.assert_allclose(found.estimates, closed, atol=1e-4)


def test_a_fit_at_a_bound_is_where_another_begins():
    found = estimation.fit(line(FALLING))
    again = estimation.fit(line(FALLING), start=found)
    assert again.success and again.values["slope"] == 0.0
    rising = line(DESIGN @ [1.0, 1.5, 0.0] + 0.1 * RNG.normal(size=24))
    assert estimation.fit(rising, start=found).values["slope"] == pytest.approx(1.5, abs=0.1)


def test_what_cannot_go_on_within_the_bounds_says_that_it_is_stuck():
    """A prior without a maximum is no sum of squares: BFGS is left where it stopped."""
    y = DESIGN[:, :2] @ [1.0, 1.5] + 0.1 * RNG.normal(size=24)
    prior = {"level": estimation.Beta(0.9, 0.9, 0.0, 2.0)}
    problem = line(y, sigma=0.1, priors=prior, start={"slope": 1e-13})
    found = estimation.fit(problem, "bfgs")
    assert not found.success and "Stuck" in found.outcome and "bound of slope" in found.outcome


def test_the_interval_of_what_is_at_a_bound_is_one_sided():
    """By the profile: for each slope the best level, which is a regression in closed form."""
    found = estimation.fit(line(FALLING, sigma=0.5))
    profile = found.profile("slope", points=41)
    assert profile.interval[0] == -np.inf and "interval up to" in str(profile)

    def drop(slope: float) -> float:
        error = FALLING - slope * X
        return float(((error - error.mean()) ** 2).sum() / 0.25)

    limit = stats.chi2.ppf(0.95, 1)
    end: Any = optimize.brentq(lambda b: drop(b) - drop(0.0) - limit, 0.0, 5.0)
    assert profile.interval[1] == pytest.approx(end, rel=1e-3)


def test_a_profile_takes_others_off_their_bounds():
    """At a low level the slope is at its bound no more: against scipy's bounded minimum."""
    found = estimation.fit(line(FALLING, sigma=0.5))
    assert found.at_bound == ("slope",)
    profile = found.profile("level", points=9, width=14.0)

    def best(level: float) -> float:
        cost: Any = optimize.minimize_scalar(
            lambda slope: ((level + slope * X - FALLING) ** 2).sum() / 0.5,
            bounds=(0, 5), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        return 2 * cost.fun

    expected = np.array([best(level) for level in profile.values]) - best(found.values["level"])
    np.testing.assert_allclose(profile.drop, expected, rtol=1e-4, atol=1e-4)
    assert profile.others["slope"].max() > 0.2


# Numbers that add up ------------------------------------------------------------------------------


class Shares(Record):
    share: Vector = param((0.2, 0.3, 0.5), bounds=(0, 1), shape=3)


class Spent(Record):
    spent: Vector = index("s", shape=3)


def spent(prior: Spent, params: Shares, scenario: Any) -> Spent:
    return Spent(spent=params.share + 0.0 * prior.spent)


SPENDING = Model(
    "SPENDING", Shares, type("None_", (Record,), {}), Spent, lambda p, s: Spent.filled(0.0), spent
)
NAMES = [f"share[{i}]" for i in range(3)]


def shares(truth: Any, **more: Any) -> estimation.Problem:
    data = {f"spent[{i}]": np.full(8, truth[i]) + 0.01 * RNG.normal(size=8) for i in range(3)}
    return estimation.Problem(SPENDING, data, free=NAMES[:2], tied=[NAMES], sigma=0.01, **more)


def test_a_derived_share_at_its_bound_has_no_error():
    """Shares of 0.6 and 0.5 leave -0.1: the nearest ones that add up have a third of 0."""
    problem = shares((0.6, 0.5, -0.1))
    means = [one.target.mean() for one in problem.series]
    found = estimation.fit(problem)
    assert found.success and found.at_bound == ("share[2]",)
    assert "At a bound: share[2]; the data would go further" in found.outcome
    # On the line a + b = 1: half of the difference, of two means of eight.
    assert found.values["share[0]"] == pytest.approx((1 + means[0] - means[1]) / 2, abs=1e-9)
    assert found.standard_errors["share[0]"] == pytest.approx(0.01 / np.sqrt(8 * 2), rel=1e-6)
    assert np.isnan(found.standard_errors["share[2]"])
    assert "at a bound" in str(found) and "nan" not in str(found)


def test_a_search_that_saturates_a_derived_share_gets_away_or_is_stuck():
    """Starts whose rest is 1e-13, with the optimum inside: the rest has a slope that the others show."""
    problem = shares((0.3, 0.3, 0.4), start={NAMES[0]: 0.5, NAMES[1]: 0.5 - 1e-13})
    found = estimation.fit(problem)
    assert found.success and found.values["share[2]"] == pytest.approx(0.4, abs=0.03)
    task = Task(problem, False, "lm", 1, 1e-10)
    on_the_edge = problem.nearest(np.array([0.5, 0.5]))
    at = judge(task, Ended(on_the_edge, 1, 1, True, ""), problem.scales, 1)
    assert not at.success and "saturated bound of share[2]" in at.sentence


# Simulated moments --------------------------------------------------------------------------------


class Noise(Record):
    e: Scalar = noise("normal")


WHITE = Model(
    "WHITE", Params, Scenario, State, lambda p, s: State.filled(0.0),
    lambda prior, p, s, n: State(y=p.slope + (1 + p.growth) * n.e), Noise=Noise, periods=200,
)  # fmt: skip


def test_simulated_moments_end_at_a_bound_and_say_so():
    """A mean of -1 wants a slope below 0. What is left to see is the variance."""
    problem = estimation.Problem(
        WHITE,
        moments=estimation.Moments(
            lambda path: jnp.stack([path.y.mean(), path.y.var()]), [-1.0, 2.25], names=["mean", "var"]
        ),
        free=["slope", "growth"], key=jax.random.key(0),
    )  # fmt: skip
    found = estimation.simulated_moments(problem, runs=100, covariance=np.diag([0.01, 0.05]))
    assert found.success and found.at_bound == ("slope",) and found.values["slope"] == 0.0
    assert "At a bound, where there is no standard error: slope" in str(found)
    errors = found.standard_errors
    assert np.isnan(errors["slope"]) and np.isnan(found.covariance[0]).all()
    # A regression of the moments on one slope, weighted by their precision.
    slope = found.jacobian[:, 1]
    expected = np.sqrt(1.01 / (slope @ np.diag([100.0, 20.0]) @ slope))
    assert errors["growth"] == pytest.approx(expected, rel=1e-6)
    assert found.freedom == 1 and found.p_value < 1e-6  # no slope gives a mean of -1
