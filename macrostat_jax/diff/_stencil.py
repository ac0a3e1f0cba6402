"""Finite-difference stencils in plain NumPy: where to evaluate, and what the values say.

One rule serves the JAX and the torch side. Derivatives are with respect to the parameter itself in
all spaces: a log step moves p to p exp(+-h), and the difference is divided by how far p moved.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

SIDES = {
    "central": (1, -1),
    "forward": (1,),
    "backward": (-1,),
    "five-point": (1, -1, 2, -2),
    "richardson": (1, -1),
}
METHODS = tuple(SIDES)
ORDERS = {"central": 2, "forward": 1, "backward": 1, "five-point": 4, "richardson": 2}
"""The error of a difference is of the order of this power of its step."""
SPACES = ("log", "direct", "auto", "relative")
DEFAULT_STEP, FIRST_STEP = 1e-3, 2.0**-4
SHORTER = (0.5, 0.4)
"""The error estimate compares with shorter steps. With two of them, and no common measure: a difference
that crosses two equal jumps may be the same at half the step, and is not at 0.4 of it, too."""
SHORTER_OF_FIVE = (0.6, 0.35)  # those at two steps must not fall on those at one
RUNGS, RATIO = 6, 4.0


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Steps for the elements of a vector `x` (n,), one at a time.

    Args:
        x: the point, float64 (n,).
        method: `"central"` (error of order h^2), `"forward"` or `"backward"` (order h), `"five-point"`
            (order h^4), or `"richardson"`: central differences at a ladder of steps, extrapolated.
        space: `"log"` moves by a factor exp(+-h), keeping the sign; `"relative"` by +-h |x|;
            `"direct"` by +-h; `"auto"` is log, and direct for the elements that are zero.
        step: h > 0; `"auto"` takes a ladder of steps and the best one for each entry; None is 1e-3. Of
            Richardson's ladder it is the first one; None is 1/16.
        halved: also evaluate with shorter steps, for the error estimate.
        names: what to call the elements in errors.
        eps: the unit round-off of what is evaluated: where the automatic ladder lies.
    """

    x: np.ndarray
    method: str = "central"
    space: str = "log"
    step: float | str | None = None
    halved: bool = True
    names: Sequence[str] = ()
    eps: float = 2.0**-52

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"Unknown method {self.method!r}. There are: {', '.join(METHODS)}.")
        if self.space not in SPACES:
            raise ValueError(f"Unknown space {self.space!r}. There are: {', '.join(SPACES)}.")
        if isinstance(self.step, str):
            if self.step != "auto":
                raise ValueError(f"The step must be a number or 'auto', not {self.step!r}.")
        elif self.step is not None and not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"The step must be finite and greater than 0, not {self.step}.")
        if self.space in ("log", "relative"):
            zeros = [
                self.names[int(i)] if self.names else int(i) for i in np.flatnonzero(self.x == 0)
            ]
            if zeros:
                raise ValueError(f"Cannot use {self.space}-space with zero parameters: {zeros}")

    @property
    def steps(self) -> tuple[float, ...]:
        """From the longest to the shortest."""
        if self.method == "richardson":
            first = FIRST_STEP if self.step in (None, "auto") else float(self.step)  # pyright: ignore[reportArgumentType]
            # Down to where rounding would take over: the sixth root, some 2e-3 in float64.
            last = min(self.eps ** (1 / 3), first / RATIO**2)
            count = 1 + round(math.log(first / last, RATIO))
            return tuple(first * RATIO**-k for k in range(count))
        if self.step == "auto":
            # Where h^p is the rounding over h, and the neighbourhood of that.
            best = self.eps ** (1 / (ORDERS[self.method] + 1))
            return tuple(best * RATIO ** (RUNGS // 2 - k) for k in range(RUNGS))
        step = DEFAULT_STEP if self.step is None else float(self.step)
        shorter = SHORTER_OF_FIVE if self.method == "five-point" else SHORTER
        return (step, *(step * part for part in shorter)) if self.halved else (step,)

    @property
    def described(self) -> str:
        """`central differences, auto step 0.001`."""
        if self.method == "richardson":
            return f"Richardson extrapolation, {self.space} steps from {self.steps[0]:g}"
        size = "automatic step" if self.step == "auto" else f"step {self.steps[0]:g}"
        return f"{self.method} differences, {self.space} {size}"

    def _moved(self, h: float) -> np.ndarray:
        """Every element of x moved by the signed step h."""
        if self.space == "relative":
            return self.x + h * np.abs(self.x)
        logarithmic = (self.space == "log") | ((self.space == "auto") & (self.x != 0))
        return np.where(logarithmic, self.x * math.exp(h), self.x + h)

    def points(self) -> np.ndarray:
        """The points to evaluate, (R, n). Row 0 is x; then, step by step and side by side, n rows each."""
        rows = [self.x[None]]
        for h in self.steps:
            for side in SIDES[self.method]:
                moved = np.tile(self.x, (self.x.size, 1))
                np.fill_diagonal(moved, self._moved(side * h))
                rows.append(moved)
        return np.concatenate(rows)

    def combine(
        self, values: np.ndarray, eps: float, points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives and error estimates, each (n, *shape), from the values (R, *shape) at `points`.

        The estimate is what shorter steps change, extrapolated to step 0 (exact to leading order for a
        smooth function; the larger of two such), plus the round-off of `values` with unit round-off
        `eps` divided by the step. Of several steps, or extrapolations, each entry has the one with the
        smallest estimate. Without `halved` the first part is unknown and only the round-off is given.
        `points` are those of `points()` as they were evaluated, where a dtype rounded them.
        """
        with np.errstate(
            invalid="ignore", over="ignore"
        ):  # inf - inf is NaN: the judgement's matter
            slopes, noise = self._slopes(values, eps, self.points() if points is None else points)
            if self.method == "richardson":
                return extrapolated(slopes, noise, RATIO ** -ORDERS[self.method])
            if self.step == "auto":
                return _best_rung(slopes, noise, RATIO ** -ORDERS[self.method])
            if not self.halved:
                return slopes[0], noise[0]
            shares = [(h / self.steps[0]) ** ORDERS[self.method] for h in self.steps[1:]]
            changes = [
                np.abs(slopes[0] - s) / (1 - share)
                for s, share in zip(slopes[1:], shares, strict=True)
            ]
            # What rounding makes of the shorter steps is in the changes already.
            return slopes[0], np.maximum(*changes) + 2 * noise[0]

    def _slopes(
        self, values: np.ndarray, eps: float, points: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The difference at each step, and what the rounding of the values makes of it."""
        n, sides, base = self.x.size, SIDES[self.method], values[0]
        shape = (-1,) + (1,) * (values.ndim - 1)
        blocks = values[1:].reshape(len(self.steps), len(sides), n, *values.shape[1:])
        x, moved = points[0], points[1:].reshape(len(self.steps), len(sides), n, n)
        slopes, noise = [], []
        for rows, block in zip(moved, blocks, strict=True):
            at = np.stack([np.diagonal(row) for row in rows])
            if len(sides) == 4:
                weights = _weights(at - x)
                terms = weights.reshape(*weights.shape, *shape[1:]) * (block - base)
                slopes.append(terms.sum(axis=0))
                width = 1 / np.abs(weights).sum(axis=0)
            else:
                high, low = (block[0], block[1]) if len(sides) == 2 else (block[0], base)
                width = at[0] - (at[1] if len(sides) == 2 else x)
                slopes.append((high - low) / width.reshape(shape))
            size = np.abs(block).max(axis=0, initial=0.0)
            size = np.maximum(size, np.abs(base)) if len(sides) == 1 else size
            # 8: the rounding of two losses and of the runs behind them, each a few units in the last place.
            noise.append(8 * eps * size / np.abs(width).reshape(shape))
        return slopes, noise


def _weights(moves: np.ndarray) -> np.ndarray:
    """(4, n): the weights of f(x + move) - f(x) in a derivative that is exact for polynomials of degree 4.

    For the moves that were made, however rounding or logarithms have bent them.
    """
    size = np.abs(moves).max(axis=0)
    powers = (moves / size)[None] ** np.arange(1, 5)[:, None, None]
    unit = np.zeros((moves.shape[1], 4, 1))
    unit[:, 0] = 1.0
    return np.linalg.solve(powers.transpose(2, 0, 1), unit)[..., 0].T / size


def _best_rung(
    slopes: list[np.ndarray], noise: list[np.ndarray], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Of the differences at several steps, that with the smallest error estimate, entry by entry.

    What the next shorter step changes is its error, and a `share` of that of the step before: the
    larger of the two, since either may vanish by chance.
    """
    changes = [np.abs(a - b) / (1 - share) for a, b in itertools.pairwise(slopes)]
    errors = [
        np.maximum(
            changes[min(k, len(changes) - 1)] * (1 if k < len(changes) else share),
            changes[k - 1] * share if k else 0.0,
        )
        + noise[k]
        for k in range(len(slopes))
    ]
    return _least(slopes, errors)


def extrapolated(
    slopes: list[np.ndarray], noise: list[np.ndarray], share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Richardson's extrapolation to step 0 of differences whose error is a series in h^p.

    Args:
        slopes: from the longest step to the shortest, each h a constant part of the one before.
        noise: what rounding makes of each.
        share: that part to the power p.

    Returns:
        Of the whole tableau, entry by entry, what has the smallest error estimate: the larger of its
        distances from the two that it was extrapolated from, plus the rounding in it.
    """
    found, errors, row, row_noise = [], [], [slopes[0]], [noise[0]]
    for slope, rounding in zip(slopes[1:], noise[1:], strict=True):
        longer, longer_noise, row, row_noise = row, row_noise, [slope], [rounding]
        for order in range(1, len(longer) + 1):
            part = share**order
            better = (row[-1] - part * longer[order - 1]) / (1 - part)
            rounding = (row_noise[-1] + part * longer_noise[order - 1]) / (1 - part)
            change = np.maximum(np.abs(better - row[-1]), np.abs(better - longer[order - 1]))
            found.append(better)
            errors.append(change + rounding)
            row.append(better)
            row_noise.append(rounding)
    return _least(found, errors)


def _least(found: list[np.ndarray], errors: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    stacked = np.stack(errors)
    chosen = np.argmin(np.where(np.isnan(stacked), np.inf, stacked), axis=0)[None]
    values: Any = np.take_along_axis(np.stack(found), chosen, axis=0)[0]
    return values, np.take_along_axis(stacked, chosen, axis=0)[0]
