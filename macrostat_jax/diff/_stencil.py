"""Finite-difference stencils in plain NumPy: where to evaluate, and what the values say.

One rule serves the JAX and the torch side. Derivatives are with respect to the parameter itself in
both spaces: a log step moves p to p exp(+-h), and the difference is divided by how far p moved.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

METHODS = ("central", "forward", "backward")
SPACES = ("log", "direct", "auto")


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Steps for the elements of a vector `x` (n,), one at a time.

    Args:
        x: the point, float64 (n,).
        method: `"central"` (error of order h^2), `"forward"` or `"backward"` (order h).
        space: `"log"` moves by a factor exp(+-h), keeping the sign; `"direct"` by +-h; `"auto"` is log,
            and direct for the elements that are zero.
        step: h > 0.
        halved: also evaluate with h / 2, for the error estimate.
        names: what to call the elements in errors.
    """

    x: np.ndarray
    method: str = "central"
    space: str = "log"
    step: float = 1e-3
    halved: bool = True
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"Unknown method {self.method!r}. There are: {', '.join(METHODS)}.")
        if self.space not in SPACES:
            raise ValueError(f"Unknown space {self.space!r}. There are: {', '.join(SPACES)}.")
        if not (math.isfinite(self.step) and self.step > 0):
            raise ValueError(f"The step must be finite and greater than 0, not {self.step}.")
        if self.space == "log":
            zeros = [
                self.names[int(i)] if self.names else int(i) for i in np.flatnonzero(self.x == 0)
            ]
            if zeros:
                raise ValueError(f"Cannot use log-space with zero parameters: {zeros}")

    @property
    def steps(self) -> tuple[float, ...]:
        return (self.step, self.step / 2) if self.halved else (self.step,)

    def _moved(self, h: float) -> np.ndarray:
        """Every element of x moved by the signed step h."""
        logarithmic = (self.space == "log") | ((self.space == "auto") & (self.x != 0))
        return np.where(logarithmic, self.x * math.exp(h), self.x + h)

    def _sides(self) -> tuple[int, ...]:
        return {"central": (1, -1), "forward": (1,), "backward": (-1,)}[self.method]

    def points(self) -> np.ndarray:
        """The points to evaluate, (R, n). Row 0 is x; then, step by step and side by side, n rows each."""
        rows = [self.x[None]]
        for h in self.steps:
            for side in self._sides():
                moved = np.tile(self.x, (self.x.size, 1))
                np.fill_diagonal(moved, self._moved(side * h))
                rows.append(moved)
        return np.concatenate(rows)

    def combine(
        self, values: np.ndarray, eps: float, points: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives and error estimates, each (n, *shape), from the values (R, *shape) at `points`.

        The estimate is what halving the step changes, extrapolated to step 0 (exact to leading order
        for a smooth function), plus the round-off of `values` with unit round-off `eps` divided by
        the step. Without `halved` the first part is unknown and only the round-off is given. `points`
        are those of `points()` as they were evaluated, where a dtype rounded them.
        """
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, which the judgement reports
            return self._combined(values, eps, self.points() if points is None else points)

    def _combined(
        self, values: np.ndarray, eps: float, points: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        n, sides = self.x.size, self._sides()
        shape = (-1,) + (1,) * (values.ndim - 1)
        base, blocks = (
            values[0],
            values[1:].reshape(len(self.steps), len(sides), n, *values.shape[1:]),
        )
        estimates, noise = [], np.zeros_like(blocks[0, 0])
        x, moved = points[0], points[1:].reshape(len(self.steps), len(sides), n, n)
        for rows, block in zip(moved, blocks, strict=True):
            ends = {side: block[i] for i, side in enumerate(sides)}
            at: dict[int, Any] = {side: np.diagonal(rows[i]) for i, side in enumerate(sides)}
            high, low = ends.get(1, base), ends.get(-1, base)
            width = (at.get(1, x) - at.get(-1, x)).reshape(shape)
            estimates.append((high - low) / width)
            size = np.maximum(np.abs(high), np.abs(low))
            # 8: the rounding of two losses and of the runs behind them, each a few units in the last place.
            noise = np.maximum(noise, 8 * eps * size / np.abs(width))
        if not self.halved:
            return estimates[0], noise
        change = np.abs(estimates[0] - estimates[1])
        return estimates[0], change * (4 / 3 if self.method == "central" else 2.0) + noise
