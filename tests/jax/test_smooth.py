"""Smooth switches: as near to the exact functions as they say, and finite at the extremes."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import smooth

SHARPNESS = (0.5, 10.0, 1e3)
VALUES = (-30.0, -1.0, -0.1, 0.0, 0.1, 0.5, 20.0, 30.0)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def close(dtype):
    """Room for rounding in numbers up to 30."""
    return 200 * float(np.finfo(dtype).eps)


def compiled(function, *arguments):
    """What it returns, in NumPy arrays: each operation of JAX on its own would be a program to compile."""
    return jax.tree.map(np.asarray, jax.jit(function)(*arguments))


@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_minimum_and_maximum_are_within_their_distance(sharpness, dtype):
    a, b = np.array(list(itertools.product(VALUES, VALUES)), dtype).T
    low, high = compiled(
        lambda a, b: (smooth.minimum(a, b, sharpness), smooth.maximum(a, b, sharpness)), a, b
    )
    assert low.dtype == high.dtype == dtype
    bound = math.log(2) / sharpness + close(dtype)
    for below in (np.minimum(a, b) - low, high - np.maximum(a, b)):
        assert np.all((below >= -close(dtype)) & (below <= bound))
    # A tie reaches the bound.
    assert np.max(high - np.maximum(a, b)) == pytest.approx(math.log(2) / sharpness, rel=2e-2)


@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_extremes_of_many_are_within_their_distance(sharpness, dtype):
    values = np.array([VALUES, VALUES[::-1]], dtype)
    bound = math.log(len(VALUES)) / sharpness + close(dtype)
    low, high, across, ties = compiled(
        lambda values, equal: (
            smooth.minimum_of(values, sharpness),
            smooth.maximum_of(values, sharpness),
            smooth.maximum_of(values, sharpness, axis=0),
            smooth.maximum_of(equal, sharpness),
        ),
        values,
        np.ones(5, dtype),
    )
    assert low.shape == high.shape == (2,) and low.dtype == high.dtype == dtype
    assert np.all((low <= -30 + close(dtype)) & (low >= -30 - bound))
    assert np.all((high >= 30 - close(dtype)) & (high <= 30 + bound))
    assert across.shape == (len(VALUES),)
    assert float(ties) == pytest.approx(1 + math.log(5) / sharpness, rel=1e-4)


@pytest.mark.parametrize("sharpness", SHARPNESS)
def test_switches_are_within_their_distance(sharpness, dtype):
    a, b = dtype.type(2), dtype.type(-3)
    value = np.array([0, *(v for v in VALUES if v != 0)], dtype)
    found, mask = compiled(
        lambda value: (smooth.where(value, a, b, sharpness), smooth.mask(value, sharpness)), value
    )
    assert found.dtype == mask.dtype == dtype
    assert found[0] == pytest.approx(-0.5) and mask[0] == 0.5  # at the switch itself
    value, found, mask = value[1:], found[1:], mask[1:]
    bound = 5 * np.exp(-sharpness * np.abs(value)) + close(dtype)
    assert np.all(np.abs(found - np.where(value > 0, a, b)) <= bound)
    bound = np.exp(-2 * sharpness * np.abs(value)) + close(dtype)
    assert np.all(np.abs(mask - np.where(value > 0, 1, 0).astype(dtype)) <= bound)


PAIRS = {
    "minimum": smooth.minimum,
    "maximum": smooth.maximum,
    "where": lambda a, b, sharpness: smooth.where(a - b, a, b, sharpness),
    "mask": lambda a, b, sharpness: smooth.mask(a, sharpness) * b,
    "minimum_of": lambda a, b, sharpness: smooth.minimum_of(jnp.stack([a, b]), sharpness),
    "maximum_of": lambda a, b, sharpness: smooth.maximum_of(jnp.stack([a, b]), sharpness),
    "safe_divide": lambda a, b, sharpness: smooth.safe_divide(a, b),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("sharpness", [1.0, 1e3])
def test_values_and_gradients_are_finite_at_the_extremes(name, sharpness, dtype):
    function = PAIRS[name]
    large = float(np.finfo(dtype).max) / 8
    if name == "where":
        large /= sharpness
    if name == "mask":
        large = math.sqrt(large)  # its product with b must not overflow
    if name == "safe_divide":
        large = 1e3
    pairs = itertools.product((-large, -20.0, 0.0, 30.0, large), repeat=2)
    a, b = np.array(list(pairs), dtype).T

    def values_and_slopes(a, b):
        both = [
            mode(lambda a, b: function(a, b, sharpness), argnums=(0, 1))(a, b)
            for mode in (jax.jacrev, jax.jacfwd)
        ]
        return function(a, b, sharpness), both

    found = compiled(jax.vmap(values_and_slopes), a, b)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found))


def test_what_overflows_when_written_out_is_finite(float32):
    assert float(smooth.minimum(20.0, 30.0, 100.0)) == 20.0
    assert float(smooth.maximum(jnp.inf, 1.0, 10.0)) == jnp.inf
    assert float(smooth.minimum(jnp.inf, 1.0, 10.0)) == 1.0


def test_what_it_refuses():
    for sharpness in (0.0, -1.0, math.nan, math.inf):
        for function in (
            lambda s: smooth.maximum(1.0, 2.0, s),
            lambda s: smooth.minimum_of([1.0, 2.0], s),
            lambda s: smooth.where(1.0, 2.0, 3.0, s),
            lambda s: smooth.mask(1.0, s),
        ):
            with pytest.raises(ValueError, match="The sharpness must be positive and finite, not"):
                function(sharpness)
    slope = jax.grad(lambda s: smooth.maximum(1.0, 1.0, s))(2.0)  # 1 + log(2) / s
    assert slope == pytest.approx(-math.log(2) / 4)
    for extreme in (smooth.largest, smooth.smallest):
        for values in (jnp.ones((2, 3)), 1.0, jnp.zeros(0)):
            with pytest.raises(ValueError, match="This takes a vector of at least one element"):
                extreme(values)
    assert smooth.largest([1.0, 3.0, 2.0]) == 3.0


def test_derivatives_are_the_analytic_ones():
    a, b, sharpness = 0.3, 0.5, 4.0
    weight = 1 / (1 + math.exp(sharpness * (a - b)))  # of a in the minimum
    slopes = compiled(jax.grad(smooth.minimum, argnums=(0, 1)), a, b, sharpness)
    np.testing.assert_allclose(slopes, [weight, 1 - weight], rtol=1e-12)
    hessian = compiled(jax.hessian(smooth.minimum), a, b, sharpness)
    assert hessian == pytest.approx(-sharpness * weight * (1 - weight), rel=1e-12)
    at_tie = compiled(jax.hessian(smooth.maximum), 1.0, 1.0, sharpness)
    assert at_tie == pytest.approx(sharpness / 4, rel=1e-12)
    values = np.array([a, b, a])
    many = compiled(jax.grad(lambda v: smooth.maximum_of(v, sharpness)), values)
    weights = np.exp(sharpness * values)
    np.testing.assert_allclose(many, weights / weights.sum(), rtol=1e-12)


def test_safe_divide(dtype):
    a, b = jnp.asarray([1.0, 1.0, 0.0], dtype), jnp.asarray([4.0, 0.0, 0.0], dtype)
    found = smooth.safe_divide(a, b, otherwise=7.0)
    np.testing.assert_array_equal(found, [0.25, 7.0, 7.0])
    assert found.dtype == dtype
    for mode in (jax.jacrev, jax.jacfwd):
        by_a, by_b = mode(smooth.safe_divide, argnums=(0, 1))(a, b)
        np.testing.assert_array_equal(np.diag(by_a), [0.25, 0, 0])
        np.testing.assert_array_equal(np.diag(by_b), [-1 / 16, 0, 0])
    # What it is for: the same ratio, guarded once, has NaN in reverse mode.
    once = jax.grad(lambda b: jnp.where(b == 0, 0.0, 1.0 / b))(0.0)
    assert np.isnan(once)


def test_straight_through_is_exact_in_value_and_smooth_in_derivative(dtype):
    def decide(x):
        return smooth.straight_through(x > 0, smooth.mask(x, 10.0))

    for x in (-0.3, 0.01, 5.0):
        x = jnp.asarray(x, dtype)
        assert decide(x) == (1 if x > 0 else 0) and decide(x).dtype == dtype
        assert jax.grad(decide)(x) == jax.grad(lambda x: smooth.mask(x, 10.0))(x)


def test_gumbel_softmax_draws_with_the_right_probabilities(dtype):
    logits = np.log(np.array([0.2, 0.3, 0.5], dtype))
    keys = jax.random.split(jax.random.key(0), 20_000)
    draw = jax.jit(jax.vmap(lambda key: smooth.gumbel_softmax(key, logits, 0.5, hard=True)))
    hard = np.asarray(draw(keys))
    assert hard.dtype == dtype and set(np.unique(hard)) == {0.0, 1.0}
    # Five standard errors of a mean of 20,000 draws.
    np.testing.assert_allclose(hard.mean(axis=0), [0.2, 0.3, 0.5], atol=5 * 0.5 / 141)
    soft = compiled(lambda key, logits: smooth.gumbel_softmax(key, logits, 0.5), keys[0], logits)
    np.testing.assert_allclose(soft.sum(), 1, rtol=1e-6)

    def drawn(logits, key, hard):
        return smooth.gumbel_softmax(key, logits, 0.5, hard=hard)

    slopes = [
        compiled(jax.jacrev(functools.partial(drawn, hard=hard)), logits, keys[0])
        for hard in (False, True)
    ]
    np.testing.assert_array_equal(slopes[0], slopes[1])


def test_python_numbers_take_on_the_dtype_of_what_they_meet(float32):
    x = jnp.float32(0.5)
    for value in (
        smooth.minimum(x, 1.0),
        smooth.maximum(0.0, x, 5.0),
        smooth.where(x, 1.0, 2.0),
        smooth.safe_divide(1, x),
        smooth.safe_divide(x, 2),
    ):
        assert value.dtype == np.dtype("float32")
