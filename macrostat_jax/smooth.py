r"""Differentiable switches, minima, maxima and choices.

A step that jumps or kinks has derivatives that are zero, wrong or missing where it does. These
functions round the corner off. Each says how far it is from the exact function: the larger the
`sharpness`, the nearer, and the larger the derivatives at the corner. All of them follow the dtype
of their arguments, and are finite, with finite derivatives, wherever their arguments (in `where`
and `mask`: times the sharpness) are. A sharpness that is not positive and finite is a ValueError.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


def where(condition_value: Any, a: Any, b: Any, sharpness: float = 1.0) -> Any:
    r"""`a` where `condition_value` is positive, `b` where it is negative, and between them near 0.

    a w + b (1 - w) with the logistic weight w = 1 / (1 + exp(-sharpness condition_value)), whose
    distance from the exact switch is at most |a - b| exp(-sharpness |condition_value|). Unlike
    `jnp.where`, both branches count everywhere: they must be finite on either side.

    Args:
        condition_value: a number whose sign decides, for instance `income - threshold`.
        a, b: the branches, of the same shape, or scalars.
        sharpness: per unit of `condition_value`, positive.
    """
    weight = jax.nn.sigmoid(_checked(sharpness) * jnp.asarray(condition_value))
    return weight * a + (1 - weight) * b


def mask(value: Any, sharpness: float = 1.0) -> Any:
    """1 where `value` is positive, 0 where it is negative: (1 + tanh(sharpness value)) / 2.

    At most exp(-2 sharpness |value|) from the exact step.
    """
    return 0.5 * (1 + jnp.tanh(_checked(sharpness) * jnp.asarray(value)))


def minimum(a: Any, b: Any, sharpness: float = 1.0) -> Any:
    """The smaller of two, element by element, from below.

    -log(exp(-sharpness a) + exp(-sharpness b)) / sharpness, without overflow. It lies below the
    exact minimum by at most log(2) / sharpness, which it reaches where a = b.
    """
    return -maximum(-jnp.asarray(a), -jnp.asarray(b), sharpness)


def maximum(a: Any, b: Any, sharpness: float = 1.0) -> Any:
    """The larger of two, element by element: at most log(2) / sharpness above the exact maximum."""
    a, b, sharpness = jnp.asarray(a), jnp.asarray(b), _checked(sharpness)
    # Measured from the larger one, sharpness times a number near the end of the range is finite.
    top = jax.lax.stop_gradient(jnp.maximum(a, b))
    top = jnp.where(jnp.isfinite(top), top, 0)
    return top + jnp.logaddexp(sharpness * (a - top), sharpness * (b - top)) / sharpness


def minimum_of(values: Any, sharpness: float = 1.0, axis: int = -1) -> Any:
    """The smallest of n values along an axis: at most log(n) / sharpness below the exact one."""
    return -maximum_of(-jnp.asarray(values), sharpness, axis)


def maximum_of(values: Any, sharpness: float = 1.0, axis: int = -1) -> Any:
    """The largest of n values along an axis: at most log(n) / sharpness above the exact one."""
    values, sharpness = jnp.asarray(values), _checked(sharpness)
    top = jax.lax.stop_gradient(jnp.max(values, axis=axis, keepdims=True))
    top = jnp.where(jnp.isfinite(top), top, 0)
    above = jax.scipy.special.logsumexp(sharpness * (values - top), axis=axis) / sharpness
    return jnp.squeeze(top, axis) + above


def _checked(sharpness: Any) -> Any:
    if not isinstance(sharpness, jax.core.Tracer):
        number = np.asarray(sharpness)
        if not np.all((number > 0) & np.isfinite(number)):
            raise ValueError(f"The sharpness must be positive and finite, not {sharpness}.")
    return sharpness


def safe_divide(a: Any, b: Any, otherwise: Any = 0.0) -> Any:
    """a / b, and `otherwise` where b is exactly 0.

    Guarded twice: where b is 0 the division sees a 1 in its place, so that no derivative there is
    NaN in forward or reverse mode; a and b then have the derivative 0. Elsewhere it is exact.
    """
    zero = jnp.asarray(b) == 0
    return jnp.where(zero, otherwise, a / jnp.where(zero, 1, b))


def straight_through(exact: Any, smooth: Any) -> Any:
    """The value of `exact` with the derivatives of `smooth`.

    For a decision that must be all or nothing in the model and still be learned from:
    `straight_through(x > 0, mask(x, 10.0))`. The derivatives are then deliberately not those of
    the function that is computed, and a finite difference does not confirm them.
    """
    smooth = jnp.asarray(smooth)
    exact = jax.lax.stop_gradient(jnp.asarray(exact).astype(smooth.dtype))
    return exact + (smooth - jax.lax.stop_gradient(smooth))


def gumbel_softmax(key: Any, logits: Any, temperature: float = 1.0, *, hard: bool = False) -> Any:
    """A random choice among the last axis of `logits`, as differentiable weights that sum to 1.

    The largest weight falls on choice i with the probability softmax(logits)[i]; the weights
    approach a one-hot vector as `temperature` goes to 0 (Jang, Gu and Poole 2017; Maddison, Mnih
    and Teh 2017).

    Args:
        key: a PRNG key.
        logits: log-probabilities up to a constant, shape (..., n).
        temperature: positive.
        hard: give the one-hot vector itself, with the derivatives of the weights.

    Raises:
        ValueError: a temperature that is not positive and finite.
    """
    from .stochastic import GumbelSoftmax

    logits = jnp.asarray(logits)
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return GumbelSoftmax(temperature, hard).choice(noise, logits)


def largest(values: Any) -> Any:
    """The largest element of a vector, whose derivative is that of this element (of the first, in a tie).

    For steps of models, where `jnp.max` costs memory in reverse mode: its derivative looks for the
    elements that equal the result, and one that is computed again need not do so to the last bit, so
    that a run keeps the intermediate values of all periods instead.

    Raises:
        ValueError: not a vector.
    """
    values = _vector(values)
    return values[jnp.argmax(values)]


def smallest(values: Any) -> Any:
    """The smallest element of a vector; as `largest`."""
    values = _vector(values)
    return values[jnp.argmin(values)]


def _vector(values: Any) -> Any:
    values = jnp.asarray(values)
    if values.ndim != 1 or not values.size:
        raise ValueError(
            f"This takes a vector of at least one element, not the shape {values.shape}."
        )
    return values
