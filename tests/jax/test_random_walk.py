"""RandomWalk, whose moments are known, and the relaxations of its choices."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import Model, _fingerprint, models, run_keys, simulate
from macrostat_jax.diff import jacobian
from macrostat_jax.stochastic import EXACT, Exact, GumbelSoftmax, StraightThrough

WALK: Any = models.RandomWalk
HARD = (EXACT, StraightThrough(), GumbelSoftmax(0.3), GumbelSoftmax(2.0))


def test_a_walk_is_the_sum_of_its_steps():
    noise = WALK.noise(jax.random.key(4))
    steps = np.where(np.asarray(noise.up) > 0.6, 1.0, -1.0)
    np.testing.assert_array_equal(simulate(WALK, noise=noise).position, np.cumsum(steps))


def test_moments_of_many_walks():
    runs, theta = 4000, 0.3
    path = simulate(WALK, WALK.params(theta=theta), key=run_keys(0, runs))
    n, drift = np.arange(1, 51), 2 * theta - 1
    x = np.asarray(path.position)
    for found, expected in ((x, n * drift), (x**2, n + n * (n - 1) * drift**2)):
        error = found.std(axis=1, ddof=1) / np.sqrt(runs)
        # 4 of 50 correlated means; before the second step x^2 is 1 in every run.
        assert np.all(np.abs(found.mean(axis=1) - expected) <= 4 * error)


def every_walk(n):
    """All 2^n walks of n steps, as random inputs that lead to them at any theta in between."""
    return WALK.Noise(up=np.array(list(itertools.product([1e-9, 1 - 1e-9], repeat=n))))


def test_the_density_is_that_of_the_steps():
    n, theta = 5, 0.3
    path = simulate(WALK, WALK.params(theta=theta), noise=every_walk(n)).position.T
    prior = np.concatenate([np.zeros((2**n, 1)), path[:, :-1]], axis=1)
    record = WALK.State
    logs = WALK.log_density(
        record(position=prior), record(position=path), WALK.params(theta=theta), WALK.Scenario()
    )
    chances = np.exp(np.sum(logs, axis=1))
    ups = (path[:, -1] + n) / 2
    np.testing.assert_allclose(chances, theta**ups * (1 - theta) ** (n - ups), rtol=1e-12)
    assert chances.sum() == pytest.approx(1, rel=1e-12)
    assert chances @ path[:, -1] == pytest.approx(n * (2 * theta - 1), rel=1e-12)


@pytest.mark.parametrize("relaxation", HARD[1:])
def test_hard_choices_are_the_exact_ones(relaxation):
    keys = run_keys(2, 20)
    found = simulate(WALK.configure(relaxation=relaxation), key=keys)
    np.testing.assert_array_equal(found.position, simulate(WALK, key=keys).position)


def test_derivatives_of_one_walk():
    key = jax.random.key(3)

    def slopes(relaxation):
        return jacobian(WALK.configure(relaxation=relaxation), "position", key=key)["theta"]

    np.testing.assert_array_equal(slopes(EXACT), np.zeros(50))
    np.testing.assert_allclose(slopes(StraightThrough()), 2 * np.arange(1, 51), rtol=1e-12)
    # By hand: the weight is w = 1 / (1 + exp(-z / t)) with z = logit(u) + logit(theta).
    u, theta, t = np.asarray(WALK.noise(key).up), 0.4, 0.7
    z = np.log(u / (1 - u)) + np.log(theta / (1 - theta))
    w = 1 / (1 + np.exp(-z / t))
    expected = np.cumsum(2 * w * (1 - w) / (t * theta * (1 - theta)))
    for hard in (True, False):
        np.testing.assert_allclose(slopes(GumbelSoftmax(t, hard)), expected, rtol=1e-10)
    soft = simulate(WALK.configure(relaxation=GumbelSoftmax(t, hard=False)), key=key).position
    np.testing.assert_allclose(soft, np.cumsum(2 * w - 1), rtol=1e-10)


@pytest.mark.parametrize("relaxation", HARD)
def test_choices_and_indicators(relaxation):
    logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    gumbels = jax.random.gumbel(jax.random.key(0), (4000, 3), jnp.float64)
    chosen = np.asarray(relaxation.choice(gumbels, jnp.broadcast_to(logits, gumbels.shape)))
    np.testing.assert_array_equal(chosen, EXACT.choice(gumbels, logits[None]))
    error = np.sqrt(np.exp(logits) * (1 - np.exp(logits)) / 4000)
    assert np.all(np.abs(chosen.mean(axis=0) - np.exp(logits)) < 4 * error)
    x = jnp.array([-1e-3, 0.0, 1e-3])
    np.testing.assert_array_equal(relaxation.indicator(x, 0.5), [0, 0, 1])
    slope = jax.vmap(jax.grad(lambda x: relaxation.indicator(x, 0.5)))(x)
    if relaxation is EXACT:
        np.testing.assert_array_equal(slope, 0)
    else:
        width = 0.5 * getattr(relaxation, "temperature", 1.0)
        np.testing.assert_allclose(slope, 1 / (4 * width), rtol=1e-4)


def test_soft_weights_tend_to_the_choice():
    gumbels = jax.random.gumbel(jax.random.key(1), (100, 4), jnp.float64)
    logits = jnp.zeros((100, 4))
    exact = np.asarray(EXACT.choice(gumbels, logits))
    far = [
        np.abs(GumbelSoftmax(t, hard=False).choice(gumbels, logits) - exact).max()
        for t in (1, 1e-4)
    ]
    assert far[0] > 0.5 and far[1] < 1e-6


@pytest.mark.parametrize("relaxation", HARD)
def test_what_is_no_probability_is_not_a_choice(relaxation):
    p = jnp.array([-0.1, 0.0, 0.4, 1.0, 1.1, jnp.nan])
    found = np.asarray(relaxation.bernoulli(jnp.full(6, 0.7), p))
    np.testing.assert_array_equal(np.isnan(found[[0, 4, 5]]), True)
    if relaxation in HARD[:2]:
        np.testing.assert_array_equal(found[1:4], [0, 1, 1])
    assert np.isnan(relaxation.choice(jnp.zeros(2), jnp.array([jnp.nan, 0.0]))).all()
    assert np.isnan(relaxation.indicator(jnp.nan))


@pytest.mark.parametrize("theta", [0, 1, -0.2, 1.5, np.array([0.5, 1.0])])
def test_theta_lies_strictly_between_0_and_1(theta):
    with pytest.raises(ValueError, match=r"'theta' must lie in its bounds \(0, 1\), not"):
        WALK.params(theta=theta)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_temperatures_are_positive(temperature):
    with pytest.raises(ValueError, match="temperature of a relaxation must be positive and finite"):
        GumbelSoftmax(temperature)


def test_a_theta_that_a_shock_moves_out_of_bounds_makes_nan():
    path = simulate(WALK, shocks=WALK.shocks(theta_add=0.7, start=3), key=jax.random.key(0))
    assert np.isfinite(path.position[:3]).all() and np.isnan(path.position[3:]).all()


def test_a_store_tells_temperatures_apart():
    """A sweep goes on in a store only if it is of the same model: the temperature is part of that."""
    models = [WALK.configure(relaxation=GumbelSoftmax(t)) for t in (0.5, 0.5, 0.7)]
    first, same, other = (_fingerprint.of_code(model.step) for model in models)
    assert first == same != other


def test_single_precision(float32):
    for relaxation in (*HARD, GumbelSoftmax(0.5, hard=False)):
        path = simulate(WALK.configure(relaxation=relaxation), key=jax.random.key(0), periods=3)
        assert path.position.dtype == np.float32


def test_declarations_of_densities_are_checked():
    records = (WALK.Params, WALK.Scenario, WALK.State, WALK.initial_state)

    def declare(density, step=WALK.step, **more):
        return Model("WRONG", *records, step, log_density=density, **more)

    random = {"Noise": WALK.Noise}
    with pytest.raises(TypeError, match="log_density must return one real number"):
        declare(lambda prior, state, params, scenario: jnp.ones(2), **random)
    with pytest.raises(TypeError, match="missing 1 required positional argument") as error:
        declare(lambda prior, state, params, scenario, more: 0.0, **random)
    assert "raised by log_density" in "".join(error.value.__notes__)
    with pytest.raises(TypeError, match="log_density, and its step is not random"):
        declare(WALK.log_density, lambda prior, params, scenario: prior)


def test_exact_is_the_default():
    assert WALK.options["relaxation"] == EXACT and isinstance(StraightThrough(), Exact)
