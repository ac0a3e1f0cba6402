"""From all real numbers to numbers within bounds, and to groups of them that add up, and back.

A search or a sampler that moves u in R^k meets no wall: x(u) is always admissible. A number between two
bounds is low + (high - low) / (1 + exp(-u)); one with a single bound lies softplus(u) = log(1 + exp(u))
from it; one without bounds is u in units of its scale. Of n numbers that add up to a total, n - 1 are
taken one by one from what the ones before leave (a stick that is broken), each within what its own bounds
and those of all that follow admit; the last is the rest. The Jacobian dx/du is then triangular, and its
log-determinant a sum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Group:
    """Coordinates that share a total with a number that is no coordinate: the rest.

    Attributes:
        members: the positions of the coordinates, at least one.
        low, high: the bounds of the rest.
        centred: whether u = 0 makes equal shares of what is above the lower bounds: where no upper
            bound can bind.
    """

    members: tuple[int, ...]
    low: float
    high: float
    centred: bool = False


class Constrained(NamedTuple):
    """Numbers within their bounds.

    Attributes:
        values: (k,). rests: the rest of each group, (g,).
        log_det: the logarithm of |det d values / d u|.
    """

    values: Any
    rests: Any
    log_det: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Bijection:
    """R^k to k numbers within bounds, some of them in groups with a total.

    Attributes:
        low, high: (k,), infinite where there is no bound.
        scale: (k,), positive: the unit of numbers with one bound or none.
        groups: disjoint.
    """

    low: np.ndarray
    high: np.ndarray
    scale: np.ndarray
    groups: tuple[Group, ...] = ()

    @property
    def alone(self) -> np.ndarray:
        """The positions that are in no group."""
        taken = {i for group in self.groups for i in group.members}
        return np.array([i for i in range(len(self.low)) if i not in taken], int)

    def constrain(self, u: Any, totals: Any) -> Constrained:
        """Traced code: u (k,), and the total (g,) of each group, less what is fixed of it."""
        values: list[Any] = [None] * len(self.low)
        rests, log_det = [], jnp.zeros((), u.dtype)
        alone = self.alone
        if len(alone):
            found, slopes = self._box(u[alone], alone)
            log_det = log_det + slopes.sum()
            for at, i in enumerate(alone):
                values[i] = found[at]
        for group, total in zip(self.groups, totals, strict=True):
            left = total
            for at, i in enumerate(group.members):
                low, high = self._room(group, at, left)
                values[i], slope = _into(u[i] + _shift(group, at), low, high, self.scale[i])
                left = left - values[i]
                log_det = log_det + slope
            rests.append(left)
        return Constrained(jnp.stack(values), jnp.stack(rests) if rests else u[:0], log_det)

    def unconstrain(self, values: np.ndarray, totals: Sequence[float]) -> np.ndarray:
        """The u of values (..., k) strictly within their bounds; NaN where they are not. NumPy, float64."""
        values = np.asarray(values, float)
        u = np.empty(values.shape)
        for i in self.alone:
            u[..., i] = _out_of(values[..., i], self.low[i], self.high[i], float(self.scale[i]))
        for group, total in zip(self.groups, totals, strict=True):
            left = np.asarray(total, float)
            for at, i in enumerate(group.members):
                low, high = self._room(group, at, left)
                u[..., i] = _out_of(values[..., i], low, high, float(self.scale[i])) - _shift(
                    group, at
                )
                left = left - values[..., i]
        return u

    def _box(self, u: Any, at: np.ndarray) -> tuple[Any, Any]:
        """All that are in no group at once, by kind: a program of few operations, however many they are."""
        low, high, scale = self.low[at], self.high[at], self.scale[at]
        both, below, above = (
            np.isfinite(low) & np.isfinite(high),
            np.isfinite(low) & ~np.isfinite(high),
            ~np.isfinite(low) & np.isfinite(high),
        )
        values, slopes = u * scale.astype(u.dtype), jnp.log(scale).astype(u.dtype)
        if both.any():
            lower, width = (
                np.where(both, low, 0.0),
                np.where(both, high, 1.0) - np.where(both, low, 0.0),
            )
            inside, steep = _between(u, lower.astype(u.dtype), width.astype(u.dtype))
            values, slopes = jnp.where(both, inside, values), jnp.where(both, steep, slopes)
        if below.any() or above.any():
            sign = np.where(above, -1.0, 1.0).astype(u.dtype)
            origin = np.where(below, low, np.where(above, high, 0.0)).astype(u.dtype)
            beyond = origin + sign * scale.astype(u.dtype) * jax.nn.softplus(u)
            steep = jnp.log(scale).astype(u.dtype) + jax.nn.log_sigmoid(u)
            values = jnp.where(below | above, beyond, values)
            slopes = jnp.where(below | above, steep, slopes)
        return values, slopes

    def _room(self, group: Group, at: int, left: Any) -> tuple[Any, Any]:
        """What the bounds of a member, and of all after it, admit; None where nothing bounds it."""
        i, after = group.members[at], list(group.members[at + 1 :])
        least = float(self.low[after].sum() + group.low)
        most = float(self.high[after].sum() + group.high)
        return (
            _tighter(self.low[i], left - most if np.isfinite(most) else None, "maximum"),
            _tighter(self.high[i], left - least if np.isfinite(least) else None, "minimum"),
        )


def _shift(group: Group, at: int) -> float:
    """Of what is left for j numbers, u = 0 gives each a j-th part."""
    return -float(np.log(len(group.members) - at)) if group.centred else 0.0


def _tighter(own: float, other: Any, choose: str) -> Any:
    if other is None:
        return own if np.isfinite(own) else None
    if not np.isfinite(own):
        return other
    return getattr(jnp if isinstance(other, jax.Array) else np, choose)(own, other)


def _between(u: Any, low: Any, width: Any) -> tuple[Any, Any]:
    slope = jnp.log(width) + jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-u)
    return low + width * jax.nn.sigmoid(u), slope


def _into(u: Any, low: Any, high: Any, scale: float) -> tuple[Any, Any]:
    """One number from one u, with the logarithm of its derivative."""
    unit = jnp.asarray(scale, u.dtype)
    if low is not None and high is not None:
        return _between(u, low, high - low)
    if low is None and high is None:
        return unit * u, jnp.log(unit)
    steep = jnp.log(unit) + jax.nn.log_sigmoid(u)
    beyond = unit * jax.nn.softplus(u)
    origin: Any = high if low is None else low
    return (origin - beyond if low is None else origin + beyond), steep


def _out_of(x: Any, low: Any, high: Any, scale: float) -> np.ndarray:
    low = np.asarray(-np.inf if low is None else low, float)
    high = np.asarray(np.inf if high is None else high, float)
    with np.errstate(all="ignore"):  # what is not inside is NaN in the end
        if np.isfinite(low).all() and np.isfinite(high).all():
            u = np.log((x - low) / (high - x))
        elif np.isfinite(low).all() or np.isfinite(high).all():
            distance = (x - low if np.isfinite(low).all() else high - x) / scale
            u = distance + np.log(-np.expm1(-distance))
        else:
            u = x / scale
    return np.where((low < x) & (x < high), u, np.nan)


def interval(value: float, half: float, low: float, high: float) -> tuple[float, float]:
    """value - half to value + half, to first order, bent so as to stay within bounds; NaN at a bound.

    Symmetric in log((x - low) / (high - x)), or in the logarithm of the distance from a single bound.
    """
    below, above = value - low, high - value
    if not (below > 0 and above > 0):
        return np.nan, np.nan
    if np.isinf(below) and np.isinf(above):
        return value - half, value + half
    with np.errstate(over="ignore"):
        if np.isinf(above):
            return low + below * np.exp(-half / below), low + below * np.exp(half / below)
        if np.isinf(below):
            return high - above * np.exp(half / above), high - above * np.exp(-half / above)
        reach = np.exp(half * (1 / below + 1 / above))
        # Of the odds r = below / above, the ends have r / reach and r reach.
        return (
            low + (high - low) * below / (below + above * reach),
            high - (high - low) * above / (above + below * reach),
        )
