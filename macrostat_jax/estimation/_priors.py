"""Priors of parameters: thin names for the densities that jax.scipy and scipy have."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.scipy.stats as jstats
import numpy as np

LEAST_MASS = 0.5
"""A prior with less of its mass within the bounds of its parameter contradicts them."""
AT_MODE = 1e-10
"""Where twice the log density is this near to its maximum, it is taken for a parabola: the root of the
difference has no derivative at 0, and is rounding near it."""


@dataclasses.dataclass(frozen=True)
class Prior:
    """A distribution of one parameter. The numbers that follow its name are its parameters."""

    positive: ClassVar[tuple[str, ...]] = ()
    """The parameters of the distribution that must be positive."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or np.ndim(value) or not np.isfinite(value):
                raise ValueError(f"{self!r}: {field.name} must be a finite number, not {value!r}.")
            if field.name in self.positive and value <= 0:
                raise ValueError(f"{self!r}: {field.name} must be positive, not {value!r}.")

    def logpdf(self, x: Any) -> Any:
        """The logarithm of the density at x; traceable."""
        raise NotImplementedError

    def residual(self, x: Any) -> Any:
        """r(x) with r^2 / 2 the log density at the mode less that at x; traceable.

        With it least squares take any prior whose density has a maximum; of a normal one it is
        (x - mu) / sigma.
        """
        mode, (low, high) = self.mode, self.support
        drop = 2 * (self.logpdf(jnp.asarray(mode, x.dtype)) - self.logpdf(x))
        near = drop < AT_MODE
        # At an edge of the support the density falls like a line or not at all: there is no parabola.
        bend = (
            -jax.grad(jax.grad(self.logpdf))(jnp.asarray(mode, x.dtype))
            if low < mode < high
            else 0.0
        )
        root = jnp.sqrt(jnp.where(near, 1.0, drop))
        return (x - mode) * jnp.where(
            near, jnp.sqrt(bend), root / jnp.where(near, 1.0, jnp.abs(x - mode))
        )

    def _frozen(self) -> Any:
        """The same distribution in scipy."""
        raise NotImplementedError

    @property
    def mode(self) -> float:
        """Where the density is greatest; NaN where it has no maximum."""
        raise NotImplementedError

    @property
    def support(self) -> tuple[float, float]:
        """The interval outside of which the density is 0."""
        low, high = self._frozen().support()
        return float(low), float(high)

    @property
    def mean(self) -> float:
        return float(self._frozen().mean())

    @property
    def sd(self) -> float:
        return float(self._frozen().std())

    def mass(self, low: float, high: float) -> float:
        """The probability of an interval."""
        frozen = self._frozen()
        return float(frozen.cdf(high) - frozen.cdf(low))

    def share(self, x: Any, bounds: tuple[float, float] = (-np.inf, np.inf)) -> np.ndarray:
        """The probability of values up to x, given that they lie within bounds."""
        frozen = self._frozen()
        low, high = frozen.cdf(bounds[0]), frozen.cdf(bounds[1])
        return np.asarray((frozen.cdf(np.asarray(x, float)) - low) / (high - low))

    def quantile(self, q: Any, bounds: tuple[float, float] = (-np.inf, np.inf)) -> np.ndarray:
        """The value that is exceeded with probability 1 - q, given that it lies within bounds.

        A design over the prior is `quantile` of a design over [0, 1].
        """
        frozen = self._frozen()
        low, high = frozen.cdf(bounds[0]), frozen.cdf(bounds[1])
        return np.asarray(frozen.ppf(low + np.asarray(q, float) * (high - low)))


@dataclasses.dataclass(frozen=True)
class Normal(Prior):
    """Normal with mean `mu` and standard deviation `sigma`."""

    mu: float
    sigma: float
    positive: ClassVar[tuple[str, ...]] = ("sigma",)

    def logpdf(self, x: Any) -> Any:
        return jstats.norm.logpdf(x, self.mu, self.sigma)

    def residual(self, x: Any) -> Any:
        return (x - self.mu) / self.sigma

    @property
    def mode(self) -> float:
        return self.mu

    def _frozen(self) -> Any:
        from scipy import stats

        return stats.norm(self.mu, self.sigma)


@dataclasses.dataclass(frozen=True)
class HalfNormal(Prior):
    """The absolute value of a normal number with mean 0 and standard deviation `sigma`."""

    sigma: float
    positive: ClassVar[tuple[str, ...]] = ("sigma",)

    def logpdf(self, x: Any) -> Any:
        inside = jstats.norm.logpdf(x, 0.0, self.sigma) + np.log(2.0)
        return jnp.where(x >= 0, inside, -jnp.inf)

    def residual(self, x: Any) -> Any:
        return x / self.sigma

    @property
    def mode(self) -> float:
        return 0.0

    def _frozen(self) -> Any:
        from scipy import stats

        return stats.halfnorm(scale=self.sigma)


@dataclasses.dataclass(frozen=True)
class LogNormal(Prior):
    """Its logarithm is normal with mean `mu` and standard deviation `sigma`."""

    mu: float
    sigma: float
    positive: ClassVar[tuple[str, ...]] = ("sigma",)

    def logpdf(self, x: Any) -> Any:
        inside = jnp.where(x > 0, x, 1.0)
        log = jnp.log(inside)
        return jnp.where(x > 0, jstats.norm.logpdf(log, self.mu, self.sigma) - log, -jnp.inf)

    @property
    def mode(self) -> float:
        return float(np.exp(self.mu - self.sigma**2))

    def _frozen(self) -> Any:
        from scipy import stats

        return stats.lognorm(self.sigma, scale=np.exp(self.mu))


@dataclasses.dataclass(frozen=True)
class Beta(Prior):
    """Beta with the shapes `a` and `b`, stretched to the interval from `low` to `high`."""

    a: float
    b: float
    low: float = 0.0
    high: float = 1.0
    positive: ClassVar[tuple[str, ...]] = ("a", "b")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_order(self, self.low, self.high)

    def logpdf(self, x: Any) -> Any:
        return jstats.beta.logpdf(x, self.a, self.b, self.low, self.high - self.low)

    @property
    def support(self) -> tuple[float, float]:
        return float(self.low), float(self.high)

    @property
    def mode(self) -> float:
        if min(self.a, self.b) < 1:
            return float("nan")
        share = (self.a - 1) / (self.a + self.b - 2) if self.a + self.b > 2 else 0.5
        return self.low + share * (self.high - self.low)

    def _frozen(self) -> Any:
        from scipy import stats

        return stats.beta(self.a, self.b, self.low, self.high - self.low)


@dataclasses.dataclass(frozen=True)
class Gamma(Prior):
    """Gamma with mean `shape * scale`."""

    shape: float
    scale: float
    positive: ClassVar[tuple[str, ...]] = ("shape", "scale")

    def logpdf(self, x: Any) -> Any:
        return jstats.gamma.logpdf(x, self.shape, 0.0, self.scale)

    @property
    def mode(self) -> float:
        return (self.shape - 1) * self.scale if self.shape >= 1 else float("nan")

    def _frozen(self) -> Any:
        from scipy import stats

        return stats.gamma(self.shape, scale=self.scale)


@dataclasses.dataclass(frozen=True)
class InverseGamma(Prior):
    """One over a gamma number: its mean is `scale / (shape - 1)` where the shape exceeds 1."""

    shape: float
    scale: float
    positive: ClassVar[tuple[str, ...]] = ("shape", "scale")

    def logpdf(self, x: Any) -> Any:
        inside = jnp.where(x > 0, x, 1.0)
        found = jstats.gamma.logpdf(1 / inside, self.shape, 0.0, 1 / self.scale)
        return jnp.where(x > 0, found - 2 * jnp.log(inside), -jnp.inf)

    @property
    def mode(self) -> float:
        return self.scale / (self.shape + 1)

    def _frozen(self) -> Any:
        from scipy import stats

        return stats.invgamma(self.shape, scale=self.scale)


@dataclasses.dataclass(frozen=True)
class Exponential(Prior):
    """Exponential with mean `scale`."""

    scale: float
    positive: ClassVar[tuple[str, ...]] = ("scale",)

    def logpdf(self, x: Any) -> Any:
        return jstats.expon.logpdf(x, 0.0, self.scale)

    @property
    def mode(self) -> float:
        return 0.0

    def _frozen(self) -> Any:
        from scipy import stats

        return stats.expon(scale=self.scale)


@dataclasses.dataclass(frozen=True)
class Uniform(Prior):
    """The same density from `low` to `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_order(self, self.low, self.high)

    def logpdf(self, x: Any) -> Any:
        return jstats.uniform.logpdf(x, self.low, self.high - self.low)

    def residual(self, x: Any) -> Any:
        return jnp.zeros_like(x)

    @property
    def support(self) -> tuple[float, float]:
        return float(self.low), float(self.high)

    @property
    def mode(self) -> float:
        return (self.low + self.high) / 2

    def _frozen(self) -> Any:
        from scipy import stats

        return stats.uniform(self.low, self.high - self.low)


def _check_order(prior: Prior, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"{prior!r}: low must be less than high.")


def check_within(name: str, prior: Prior, low: float, high: float) -> float:
    """The prior's mass within the bounds of its parameter.

    A density that ends on both sides must end within the bounds; one without end is cut off at them, if
    at least half of it is within.

    Raises:
        TypeError: no prior. ValueError: with the prior and the bounds.
    """
    if not isinstance(prior, Prior):
        raise TypeError(
            f"The prior of {name!r} must be one of estimation.Normal, Beta, ...; not {prior!r}."
        )
    least, most = prior.support
    if np.isfinite(least) and np.isfinite(most) and not (low <= least and most <= high):
        raise ValueError(
            f"The prior {prior!r} of {name!r} reaches from {least:g} to {most:g}, its bounds from "
            f"{low:g} to {high:g}: give bounds that contain the prior, or a prior within the bounds."
        )
    mass = prior.mass(low, high)
    if mass < LEAST_MASS:
        raise ValueError(
            f"The prior {prior!r} of {name!r} has {mass:.0%} of its mass within its bounds, from {low:g} "
            f"to {high:g}: they contradict each other."
        )
    return mass
