"""Simulated moments: against closed forms, and what they say of models that are wrong."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from macrostat_jax import Model, Record, Scalar, index, models, noise, param, run_keys, simulate
from macrostat_jax.estimation import Moments, Normal, Problem, simulated_moments


class Params(Record):
    rho: Scalar = param(0.5, bounds=(-0.99, 0.99))
    sigma: Scalar = param(1.0, bounds=(0, 10))
    mean: Scalar = param(0.5)


class Scenario(Record):
    pass


class Noise(Record):
    e: Scalar = noise("normal")


class State(Record):
    x: Scalar = index("x")


AR = Model(
    "AR1", Params, Scenario, State, lambda p, s: State(x=p.mean),
    lambda prior, p, s, n: State(x=p.mean + p.rho * (prior.x - p.mean) + p.sigma * n.e),
    Noise=Noise, periods=150,
)  # fmt: skip
NAMES = ("mean", "variance", "lag 1", "lag 2", "lag 3")
FREE = ("rho", "sigma", "mean")
TRUTH: dict[str, Any] = {"rho": 0.7, "sigma": 0.5, "mean": 1.0}


class Factors(Record):
    a: Scalar = param(1.0)
    b: Scalar = param(1.5)


PRODUCT = Model(
    "PRODUCT", Factors, Scenario, State, lambda p, s: State(x=p.a),
    lambda prior, p, s, n: State(x=p.a * p.b + n.e), Noise=Noise, periods=50,
)  # fmt: skip


def five(path: Any) -> Any:
    x = path.x[20:] - path.x[20:].mean()
    lags = [(x[lag:] * x[: len(x) - lag]).mean() for lag in range(4)]
    return jnp.stack([path.x[20:].mean(), *lags])


@functools.cache
def sample_of_runs(seed: int, runs: int) -> np.ndarray:
    path = simulate(AR, AR.params(**TRUTH), key=run_keys(seed, runs))
    return np.asarray(jax.vmap(five, in_axes=1)(path))


def problem(target: np.ndarray, **more: Any) -> Problem:
    return Problem(
        AR, moments=Moments(five, target, names=NAMES), free=FREE, key=jax.random.key(0), **more
    )


@functools.cache
def fitted() -> Any:
    """To the moments of one run of the model, with other random numbers."""
    return simulated_moments(problem(sample_of_runs(99, 3)[0]), runs=200)


@pytest.mark.parametrize("weights", ["identity", "optimal", np.diag([1.0, 2.0, 3.0, 4.0, 5.0])])
def test_the_same_random_numbers_give_the_parameters_back(weights):
    """Against its own average moments the criterion is zero at the truth."""
    found = simulated_moments(
        problem(sample_of_runs(0, 100).mean(axis=0)), runs=100, weights=weights
    )
    np.testing.assert_allclose(found.estimates, list(TRUTH.values()), atol=1e-5)
    assert found.success and found.statistic < 1e-6


def test_errors_by_the_sandwich_formula():
    """With derivatives by differences of runs, and the formula written out."""
    found = fitted()

    def average(values: np.ndarray) -> np.ndarray:
        path = simulate(AR, AR.params(**dict(zip(FREE, values, strict=True))), key=run_keys(0, 200))
        return np.asarray(jax.vmap(five, in_axes=1)(path))

    def slopes() -> np.ndarray:
        steps = 1e-6 * np.eye(3)
        pairs = [(average(found.estimates + h), average(found.estimates - h)) for h in steps]
        return np.stack([(a - b).mean(axis=0) / 2e-6 for a, b in pairs], axis=1)

    runs, g = average(found.estimates), slopes()
    np.testing.assert_allclose(found.moments, runs.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.jacobian, g, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.spread, np.cov(runs.T), rtol=1e-10)
    for weights, one in (
        (np.eye(5), simulated_moments(found.problem, runs=200, weights="identity", covariance=found.spread)),
        (np.linalg.inv(found.spread),
         simulated_moments(found.problem, runs=200, covariance=found.spread)),
    ):  # fmt: skip
        g = one.jacobian
        bread = np.linalg.inv(g.T @ weights @ g)
        sandwich = bread @ g.T @ weights @ found.spread @ weights @ g @ bread * (1 + 1 / 200)
        np.testing.assert_allclose(one.covariance, sandwich, rtol=1e-6)
    gap = one.moments - one.target
    statistic = gap @ np.linalg.inv(found.spread) @ gap / (1 + 1 / 200)
    assert one.statistic == pytest.approx(statistic, rel=1e-9)
    assert one.p_value == pytest.approx(stats.chi2.sf(statistic, 2), rel=1e-9)


def test_the_truth_is_within_the_errors():
    found = fitted()
    gaps = (found.estimates - np.array(list(TRUTH.values()))) / np.sqrt(np.diag(found.covariance))
    # Three estimates: the chi-squared distribution of their joint distance.
    gap = found.estimates - np.array(list(TRUTH.values()))
    assert gap @ np.linalg.solve(found.covariance, gap) < stats.chi2.ppf(0.999, 3), gaps
    assert found.freedom == 2 and 0.001 < found.p_value < 1
    assert "do not contradict the model" in str(found)


@pytest.mark.slow
def test_intervals_cover_and_tests_reject_as_often_as_they_say():
    targets = sample_of_runs(7, 200)
    one = problem(targets[0])
    fits = [simulated_moments(one, runs=100, target=target) for target in targets]
    gaps = np.array(
        [(f.estimates - list(TRUTH.values())) / np.sqrt(np.diag(f.covariance)) for f in fits]
    )
    # Autocovariances of 130 periods are biased and skewed: the nominal 90 % are met to a few points.
    np.testing.assert_array_less(np.abs((np.abs(gaps) < 1.645).mean(axis=0) - 0.9), 0.12)
    assert np.mean([f.p_value < 0.05 for f in fits]) < 0.15


def test_a_model_that_cannot_be_right_is_rejected():
    """Lags of opposite signs in a row, as no such model makes them."""
    found = simulated_moments(problem(np.array([1.0, 0.5, 0.1, 0.4, -0.3])), runs=100)
    assert found.p_value < 1e-6
    assert "contradict the model" in found.sentence()
    table = found.to_pandas()
    assert list(table.index) == list(NAMES) and np.abs(table["gap"].to_numpy()).max() > 3


def test_pictures_and_names():
    found = fitted()
    assert found.values.keys() == found.standard_errors.keys() == TRUTH.keys()
    found.plot().canvas.draw()


def test_as_many_moments_as_parameters():
    def three(path: Any) -> Any:
        return five(path)[:3]

    exact = Problem(
        AR, moments=Moments(three, sample_of_runs(99, 3)[0][:3]), free=FREE, key=jax.random.key(0)
    )
    found = simulated_moments(exact, runs=50)
    np.testing.assert_allclose(found.moments, found.target, atol=1e-6)
    assert found.freedom == 0 and np.isnan(found.p_value)
    assert "nothing is left to test the model by" in found.sentence()


def test_bad_input():
    target = sample_of_runs(99, 3)[0]
    with pytest.raises(ValueError, match="'identity', 'optimal' or a matrix, not 'best'"):
        simulated_moments(problem(target), weights="best")
    with pytest.raises(ValueError, match=r"symmetric matrix \(5, 5\), not \(4, 4\)"):
        simulated_moments(problem(target), weights=np.eye(4))
    with pytest.raises(ValueError, match="not positive definite"):
        simulated_moments(problem(target), covariance=np.ones((5, 5)))
    with pytest.raises(ValueError, match="target takes 5 finite numbers"):
        simulated_moments(problem(target), target=target[:4])
    with pytest.raises(ValueError, match="5 moments needs more than 5 runs"):
        simulated_moments(problem(target), runs=5)
    sim = Problem(
        models.GL06SIM,
        moments=Moments(lambda path: path.national_income[-1], 100.0),
        free=["tax_rate"],
    )
    with pytest.raises(TypeError, match="simulated moments are for random models"):
        simulated_moments(sim)


def test_what_the_moments_do_not_see_has_an_infinite_error():
    """Two moments, of two parameters that only act as a product."""
    one = Problem(
        PRODUCT, moments=Moments(lambda path: jnp.stack([path.x.mean(), (path.x**2).mean()]), [2.0, 5.0]),
        free=["a", "b"], key=jax.random.key(0),
    )  # fmt: skip
    found = simulated_moments(one, runs=50)
    assert np.isinf(list(found.standard_errors.values())).all()
    assert "Not identified: " in found.sentence()


def test_given_noise_says_how_long_a_run_is():
    given = AR.noise(jax.random.key(3), periods=40)
    one = Problem(AR, moments=Moments(five, sample_of_runs(99, 3)[0]), free=FREE, noise=given)
    assert one.calendar.periods == 40


def test_priors_are_not_passed_over_in_silence():
    target = sample_of_runs(99, 3)[0]
    one = problem(target, priors={FREE[0]: Normal(0.5, 0.5)})
    with pytest.raises(ValueError, match=f"knows no priors; the problem has some, of {FREE[0]}"):
        simulated_moments(one)


def test_discrete_choices_have_no_slope():
    def last(path: Any) -> Any:
        return path.position[-1]

    walk = Problem(
        models.RandomWalk, moments=Moments(last, 5.0), free=["theta"], key=jax.random.key(0)
    )
    with pytest.raises(ValueError, match="do not move with theta"):
        simulated_moments(walk, runs=20)
