"""KirmansAnts: the law of the paths, their moments over time, and the path between the periods.

Where a sub-step has a bias, the law to compare with is that of the scheme, by quadrature: what the code
computes must agree with it within the error of sampling, and what it differs by from the law of the
equation is then known and bounded. All tolerances are four standard errors, or a level of 0.01 %.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from macrostat_jax import diff, run_keys, simulate
from macrostat_jax.models import KirmansAnts, kirmansants

RUNS, SUBSTEPS = 20_000, 50
MODEL = KirmansAnts.resize(substep=SUBSTEPS)
LEVEL = 1e-4
CRITICAL = stats.kstwobign.isf(LEVEL) / math.sqrt(RUNS)
"""The distance of the empirical distribution function, of RUNS runs, that the true one exceeds rarely."""


def scheme(increments: np.ndarray, rho: float, mu: float, x0: float) -> np.ndarray:
    """The sub-steps one by one, in x as the equation has it: the fractions after each."""
    x, found = x0, []
    for row in increments:
        dt = 1 / len(row)
        x = min(max(x, 1e-7), 1 - 1e-7)
        phi = math.asin(2 * x - 1)
        for xi in row:
            drift = (rho - mu / 2) * (1 - 2 * x) / math.sqrt(x * (1 - x))
            phi += drift * dt + math.sqrt(2 * mu * dt) * xi
            while abs(phi) > math.pi / 2:
                phi = math.copysign(math.pi, phi) - phi
            x = min(max((1 + math.sin(phi)) / 2, 1e-7), 1 - 1e-7)
            found.append(x)
    return np.array(found)


@functools.cache
def law(rho: float, mu: float, substeps: int = SUBSTEPS, cells: int = 800) -> tuple[Any, Any]:
    """The stationary law of the scheme: edges of cells of x, and its distribution function there.

    The chance to go from a cell to another is that of a normal step from its middle, folded at the
    boundaries: a matrix whose left eigenvector of 1 is the law. The cells are finest at the boundaries.
    """
    edges = math.pi / 2 * np.sin(np.linspace(-math.pi / 2, math.pi / 2, cells + 1))
    middles = (edges[1:] + edges[:-1]) / 2
    reach = math.asin(1 - 2e-7)
    mean = middles - (2 * rho - mu) / substeps * np.tan(np.clip(middles, -reach, reach))
    turns = np.round(mean / math.pi)
    mean = (mean - math.pi * turns) * (1 - 2 * (turns % 2))
    chances = np.zeros((cells, cells))
    for turn in range(-2, 3):
        image = math.pi * turn + (edges if turn % 2 == 0 else -edges)
        below = ndtr((image[None] - mean[:, None]) / math.sqrt(2 * mu / substeps))
        chances += np.abs(np.diff(below, axis=1))
    system = chances.T / chances.sum(axis=1) - np.eye(cells)
    system[0] = 1
    shares = np.linalg.solve(system, np.eye(cells)[0])
    return (1 + np.sin(edges)) / 2, np.concatenate([[0.0], np.cumsum(shares)])


def bias(rho: float, mu: float, substeps: int = SUBSTEPS) -> float:
    """How far the distribution function of the scheme is from that of the equation."""
    x, function = law(rho, mu, substeps)
    return float(np.abs(function - stats.beta.cdf(x, rho / mu, rho / mu)).max())


@pytest.fixture(scope="module", params=[(2.0, 1.0), (1.0, 1.0), (0.5, 1.0)])
def regime(request: Any) -> tuple[float, float, np.ndarray]:
    """Rates, and the last three periods of many runs that have forgotten where they began."""
    rho, mu = request.param
    periods = math.ceil(12 / (2 * rho)) + 2  # exp(-12): 6e-6 is left of the first deviation
    with jax.enable_x64(True):
        path = simulate(
            MODEL, MODEL.params(rho=rho, mu=mu), key=run_keys(5, RUNS), periods=periods
        ).density
    return rho, mu, np.asarray(path)[-3:]


def distance(sample: np.ndarray, function: Any) -> float:
    found: Any = stats.ks_1samp(sample, function)
    return float(found.statistic)


def by(x: np.ndarray, function: np.ndarray) -> Any:
    return lambda at: np.interp(at, x, function)


def test_the_stationary_law(regime):
    """Kolmogorov-Smirnov, 20,000 independent runs, at the level 0.01 %.

    Power: the empirical function is within CRITICAL of the true one but for a chance of LEVEL, so a law
    whose distribution function is off by 2 CRITICAL (0.031) is found out with a chance of at least
    1 - LEVEL. That is less than what rates wrong by 40 % do to it, as the last lines confirm.
    """
    rho, mu, path = regime
    x, function = law(rho, mu)
    # np.interp is linear within a cell: off by at most what a cell holds.
    assert distance(path[-1], by(x, function)) < CRITICAL + np.diff(function).max()
    assert bias(rho, mu) < (1e-5 if rho / mu == 0.5 else 0.01)
    assert distance(path[-1], stats.beta(rho / mu, rho / mu).cdf) < CRITICAL + bias(rho, mu)
    for factor in (0.6, 1.4):
        wrong = stats.beta(factor * rho / mu, factor * rho / mu).cdf
        assert np.abs(wrong(x) - function).max() > 2 * CRITICAL
        assert distance(path[-1], wrong) > CRITICAL


def test_variance_and_autocorrelation(regime):
    rho, mu, path = regime
    middles = np.diff(law(rho, mu)[1]), (law(rho, mu)[0][1:] + law(rho, mu)[0][:-1]) / 2 - 0.5
    exact, biased = 1 / (4 * (2 * rho / mu + 1)), np.sum(middles[0] * middles[1] ** 2)
    deviations = path - 0.5
    squares = deviations[-1] ** 2
    error = 4 * squares.std() / math.sqrt(RUNS)
    assert abs(squares.mean() - biased) < error
    assert abs(squares.mean() - exact) < error + abs(biased - exact)
    # The drift of x is linear: whatever the law, E[x(t + 1) | x(t)] - 1/2 = exp(-2 rho) (x(t) - 1/2). The
    # deviation from that is uncorrelated with x(t), up to the bias of the step: of the size of dt.
    for lag in (1, 2):
        products = deviations[-1] * deviations[-1 - lag]
        expected = math.exp(-2 * rho * lag) * squares.mean()
        error = 4 * products.std() / math.sqrt(RUNS)
        assert abs(products.mean() - expected) < error + abs(biased - exact) + 0.25 / SUBSTEPS


def test_moments_on_the_way():
    """At rho = 0.5, mu = 1, x(0) = 0.9, t = 1, where the scheme is exact; closed forms of both."""
    mean, variance = 0.5 + 0.4 * math.exp(-1), 0.103987
    assert mean == pytest.approx(0.647152, abs=5e-7)
    path = simulate(MODEL.configure(x0=0.9), key=run_keys(8, 4 * RUNS), periods=1).density[0]
    error = 4 / math.sqrt(4 * RUNS)
    assert abs(np.mean(path) - mean) < error * math.sqrt(variance)
    squares = (np.asarray(path) - mean) ** 2
    assert abs(squares.mean() - variance) < error * squares.std()
    given = kirmansants.State(density=jnp.asarray(0.9))
    same = simulate(MODEL, initial=given, key=run_keys(8, 3), periods=1).density[0]
    np.testing.assert_allclose(same, path[:3], rtol=1e-12)


@pytest.mark.parametrize(("rho", "mu"), [(0.5, 1.0), (1.0, 1.0), (2.0, 1.0), (0.7, 0.2)])
def test_paths_step_by_step(rho, mu):
    params = MODEL.params(rho=rho, mu=mu)
    noise = MODEL.noise(jax.random.key(3), periods=20)
    expected = scheme(np.asarray(noise.increment), rho, mu, 0.5)
    path = simulate(MODEL, params, noise=noise).density
    # Near 0 and 1 the square root has no more than half of the digits.
    np.testing.assert_allclose(path, expected[SUBSTEPS - 1 :: SUBSTEPS], rtol=0, atol=1e-9)
    path = simulate(kirmansants.recorded(MODEL), params, noise=noise)
    between = kirmansants.micro_trajectory(path)
    np.testing.assert_allclose(between, expected, rtol=0, atol=1e-9)


def test_the_path_between_the_periods():
    keys = run_keys(0, 2)
    model = MODEL.configure(x0=0.2)
    path = simulate(model, None, "Unimodal (rho=2.0)", key=keys, periods=4).density
    between = kirmansants.micro_trajectory(
        simulate(kirmansants.recorded(model), None, "Unimodal (rho=2.0)", key=keys, periods=4)
    )
    assert between.shape == (4 * SUBSTEPS, 2)
    np.testing.assert_array_equal(between[SUBSTEPS - 1 :: SUBSTEPS], path)
    params = MODEL.params(rho=2.0)
    same = simulate(model, params, key=keys, periods=4).density
    np.testing.assert_allclose(path, same, rtol=1e-12)
    fine = simulate(kirmansants.recorded(), key=keys[0], periods=1)
    assert kirmansants.micro_trajectory(fine).shape == (10_000,)


def test_the_draws_are_standard_normal():
    """A period's draws, against the normal law, at the level 0.01 %; symmetric and finite."""
    draws = np.asarray(KirmansAnts.noise(jax.random.key(4), periods=50).increment).ravel()
    assert np.abs(draws).max() < 5.4 and np.abs(draws).max() > 4
    assert distance(draws, stats.norm.cdf) < stats.kstwobign.isf(LEVEL) / math.sqrt(draws.size)
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(draws**power) - moment) < 4 * math.sqrt(spread / draws.size)
    periods = draws.reshape(50, -1)
    correlation = np.mean(periods[:-1] * periods[1:])
    assert abs(correlation) < 4 / math.sqrt(periods[1:].size)
    assert abs(np.mean(draws[:-1] * draws[1:])) < 4 / math.sqrt(draws.size)


def test_derivatives_along_a_path():
    """Against differences of the same random inputs, where the path crosses no kink."""
    key, params = jax.random.key(11), MODEL.params(rho=3.0, mu=0.5)
    exact = diff.jacobian(MODEL, params=params, key=key, periods=3)
    step = 1e-6

    def density(name: str, by: float) -> np.ndarray:
        changed = params.replace(**{name: getattr(params, name) + by})
        return np.asarray(simulate(MODEL, changed, key=key, periods=3).density)

    for name in MODEL.Params.fields:
        slope = (density(name, step) - density(name, -step)) / (2 * step)
        assert np.abs(exact[name]).max() > 0.01
        # Curvature by the square of the step, and the rounding of 150 sub-steps over it.
        np.testing.assert_allclose(exact[name], slope, rtol=1e-6, atol=1e-8)
    assert diff.check(MODEL, params=params, key=key, periods=3, step=1e-5).passed
    # Without drift a step of phi by the noise is one of phi at the end, up to the reflections.
    noise = MODEL.noise(key, periods=1)
    found = diff.jacobian(MODEL, noise=noise, wrt="noise", periods=1)["density", "noise.increment"]
    angle = math.asin(2 * float(simulate(MODEL, noise=noise).density[0]) - 1)
    size = math.cos(angle) / 2 * math.sqrt(2 / SUBSTEPS)
    np.testing.assert_allclose(np.abs(found).ravel(), size, rtol=1e-9)


def test_single_precision():
    path = simulate(MODEL, key=jax.random.key(2), periods=5).density
    with jax.enable_x64(False):
        single = simulate(MODEL, key=jax.random.key(2), periods=5).density
    assert single.dtype == jnp.float32
    # The draws are the same in both; 250 sub-steps round by 1e-7 each, more where x is near 0 or 1.
    np.testing.assert_allclose(single, path, rtol=0, atol=1e-3)


@pytest.mark.parametrize("x0", [0.0, 1.0, -0.5, math.nan])
def test_bad_start(x0):
    with pytest.raises(ValueError, match=r"x0 must be strictly in \(0, 1\); got"):
        KirmansAnts.configure(x0=x0)


def test_bad_input():
    with pytest.raises(TypeError, match=r"KirmansAnts is random: pass key=jax.random.key\(seed\)"):
        simulate(KirmansAnts)
    with pytest.raises(ValueError, match="must lie in its bounds"):
        KirmansAnts.params(mu=0.0)
    with pytest.raises(ValueError, match="size of at least 1"):
        KirmansAnts.resize(substep=-1)
    with pytest.raises(ValueError, match="'increment' must have the shape"):
        simulate(MODEL, noise=kirmansants.Noise(increment=jnp.zeros((4, SUBSTEPS + 1))))


def test_where_the_scheme_does_not_converge():
    """Below rho = mu / 2 it keeps to the law of rho = mu / 2, as the docstring says: by quadrature."""
    assert [round(bias(0.3, 1.0, n), 2) for n in (50, 100)] == [0.08, 0.08]
    assert [round(bias(1.0, 1.0, n), 3) for n in (100, 1000)] == [0.007, 0.003]
    x, function = law(0.3, 1.0)
    assert np.abs(function - stats.beta.cdf(x, 0.5, 0.5)).max() < 0.01
    path = simulate(MODEL, MODEL.params(rho=0.3), key=run_keys(6, RUNS), periods=20).density
    assert distance(np.asarray(path[-1]), by(x, function)) < CRITICAL + np.diff(function).max()
