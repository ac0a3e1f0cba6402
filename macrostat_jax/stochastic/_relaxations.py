r"""Discrete random choices, and what to put in the place of their derivatives.

A model makes its choices through its option `relaxation`, an object of one of these classes, and
`model.configure(relaxation=...)` says how:

    up = relaxation.bernoulli(noise.up, params.theta)

All of them decide alike: with one and the same noise the choices of `Exact`, `StraightThrough` and
`GumbelSoftmax(hard=True)` are equal bit by bit. They differ in the derivative of a choice.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

from .. import smooth


@dataclasses.dataclass(frozen=True)
class Exact:
    """The choice itself. Its derivative is zero: no change of a probability that is small enough
    changes a choice that has been drawn."""

    def bernoulli(self, u: Any, p: Any) -> jax.Array:
        """1 with probability p, else 0: the event u > 1 - p, which is logit(u) + logit(p) > 0.

        Args:
            u: uniform on (0, 1), of any shape.
            p: the probability, in [0, 1], of a shape that fits; elsewhere the result is NaN.

        Returns:
            0.0 or 1.0 in the dtype of u and p.
        """
        u, p = jnp.asarray(u), jnp.asarray(p)
        return jax.lax.stop_gradient(
            jnp.where((p >= 0) & (p <= 1), (u > 1 - p).astype(p.dtype), jnp.nan)
        )

    def choice(self, gumbels: Any, logits: Any) -> jax.Array:
        """A choice among the last axis of `logits`: i with probability softmax(logits)[i].

        Args:
            gumbels: standard Gumbel draws, shape (..., n).
            logits: log-probabilities up to a constant, shape (..., n).

        Returns:
            Weights (..., n): 1.0 at the chosen one and 0.0 elsewhere.
        """
        return jax.lax.stop_gradient(_one_hot(_perturbed(gumbels, logits)))

    def indicator(self, x: Any, scale: Any = 1.0) -> jax.Array:
        """1 where x is positive, else 0: a decision that nothing random is left in.

        Args:
            x: of any shape; NaN stays NaN.
            scale: the size of differences of x that matter, positive; used by the relaxations.
        """
        x = jnp.asarray(x)
        return jax.lax.stop_gradient(jnp.where(jnp.isnan(x), jnp.nan, (x > 0).astype(x.dtype)))


@dataclasses.dataclass(frozen=True)
class StraightThrough(Exact):
    """The choice itself, with the derivative of its expectation: that of p for `bernoulli`, of
    softmax(logits) for `choice`, and of the logistic function of x / scale for `indicator`
    (Bengio, Léonard and Courville 2013).

    Unbiased where the loss is linear in each choice with coefficients that do not depend on the
    other choices; otherwise biased, by what the loss's slope at 0 or 1 differs from its rise.
    """

    def bernoulli(self, u: Any, p: Any) -> jax.Array:
        return smooth.straight_through(super().bernoulli(u, p), p)

    def choice(self, gumbels: Any, logits: Any) -> jax.Array:
        return smooth.straight_through(super().choice(gumbels, logits), jax.nn.softmax(logits))

    def indicator(self, x: Any, scale: Any = 1.0) -> jax.Array:
        return smooth.straight_through(super().indicator(x, scale), jax.nn.sigmoid(x / scale))


@dataclasses.dataclass(frozen=True)
class GumbelSoftmax(Exact):
    """The choice as a weight between 0 and 1 that the noise perturbs, at a temperature
    (Jang, Gu and Poole 2017; Maddison, Mnih and Teh 2017).

    As the temperature falls the weights, and the mean of their derivatives, come nearer to those of
    the choice, while the variance of the derivatives grows as 1 / temperature.

    Args:
        temperature: positive and finite.
        hard: the choice itself, with the derivatives of the weights; else the weights themselves,
            so that the model's path is another one.

    Raises:
        ValueError: a temperature that is not positive and finite.
    """

    temperature: float = 1.0
    hard: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.temperature, jax.core.Tracer):
            return
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(
                f"The temperature of a relaxation must be positive and finite, not {self.temperature}."
            )

    def bernoulli(self, u: Any, p: Any) -> jax.Array:
        u, p = jnp.asarray(u), jnp.asarray(p)
        perturbed = _logit(u) + _logit(p)
        return self._given(super().bernoulli(u, p), jax.nn.sigmoid(perturbed / self.temperature))

    def choice(self, gumbels: Any, logits: Any) -> jax.Array:
        perturbed = _perturbed(gumbels, logits)
        return self._given(_one_hot(perturbed), jax.nn.softmax(perturbed / self.temperature))

    def indicator(self, x: Any, scale: Any = 1.0) -> jax.Array:
        soft = jax.nn.sigmoid(x / (scale * self.temperature))
        return self._given(super().indicator(x, scale), soft)

    def _given(self, exact: Any, soft: Any) -> jax.Array:
        return smooth.straight_through(exact, soft) if self.hard else soft


EXACT = Exact()


def _logit(p: Any) -> jax.Array:
    return jnp.log(p) - jnp.log1p(-p)


def _perturbed(gumbels: Any, logits: Any) -> jax.Array:
    return jnp.asarray(gumbels) + jnp.asarray(logits)


def _one_hot(values: Any) -> jax.Array:
    """1 at the largest of the last axis; NaN where there is one among them."""
    chosen = jax.nn.one_hot(jnp.argmax(values, axis=-1), values.shape[-1], dtype=values.dtype)
    return jnp.where(jnp.isnan(values).any(axis=-1, keepdims=True), jnp.nan, chosen)
