"""Smooth, kink or jump? What a ladder of steps says, without any derivative.

A function of one number s is evaluated at a ladder of steps to both sides of 0. Where its slope changes
more than curvature explains, the place is enlarged, by factors of 16, until the second difference says
what it is: over a jump it keeps its size, over a kink it shrinks with the width, where the function is
smooth with its square.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._judge import IMMATERIAL
from ._stencil import extrapolated

LONGEST, SHORTEST, RATIO = 2.0**-10, 2.0**-24, 4.0
LADDER = tuple(LONGEST / RATIO**k for k in range(1 + round(math.log(LONGEST / SHORTEST, RATIO))))
SHORT = 2.0**-15
"""Steps below this are short."""
NOISE_STEP, NOISE_ROWS = 2.0**-42, 12
PARTS, LEVELS, NARROWEST = 32, 9, 1e-12
WIDEST_START = 2.0**-13
"""Brackets narrower than this begin this wide: rounding leaves nothing to be seen in them later."""
CLEAR = 10.0
"""Multiples of the rounding that a second difference must have to say anything."""
CURVED = 8.0
"""Slopes may change so many times faster in one place than in most others before it is looked at."""


def signed_steps(reach: float = LONGEST) -> np.ndarray:
    """The ladder to both sides of 0, and 0, in order: (2 K + 1,)."""
    up = np.array(LADDER) * (reach / LONGEST)
    return np.concatenate([-up, [0.0], up[::-1]])


def noise_of(rows: np.ndarray) -> np.ndarray:
    """How far rounding moves each output (V,), from rows (M, V) at close, equal steps.

    Third differences leave nothing of a smooth function at such steps; their median does not see a
    jump that one of them crosses. At least two units in the last place.
    """
    third = np.abs(np.diff(rows, n=3, axis=0))
    # The third difference of noise of variance v has the variance 20 v; 0.67: median of |normal|.
    spread = np.median(third, axis=0) / (0.67 * math.sqrt(20.0))
    size = np.abs(rows).max(axis=0, initial=0.0)
    return np.maximum(6 * spread, 2 * np.finfo(float).eps * size)


@dataclasses.dataclass
class Event:
    """A place at which a function of one number is not smooth.

    Attributes:
        kind: `"jump"` or `"kink"`.
        low, high: it lies between them.
        size: by how much the output jumps, or its slope per unit of s changes.
        output: the number of the output in which it is largest.
    """

    kind: str
    low: float
    high: float
    size: float
    output: int

    @property
    def distance(self) -> float:
        """How far from 0 it is; 0 where it is nearer than can be told."""
        if self.low <= 0 <= self.high:
            return 0.0
        return min(abs(self.low), abs(self.high))


def suspects(
    steps: np.ndarray, values: np.ndarray, noise: np.ndarray, size: np.ndarray
) -> list[tuple[float, float]]:
    """Brackets in which a slope changes more than curvature explains, the nearest to 0 first.

    Args:
        steps: (S,), in order. values: (S, V). noise, size: (V,), the rounding and the scale of each.
    """
    width = np.diff(steps)[:, None]
    slopes = np.diff(values, axis=0) / width
    change = np.abs(np.diff(slopes, axis=0))
    apart = (width[1:] + width[:-1]) / 2
    rounding = 4 * noise * (1 / width[1:] + 1 / width[:-1])
    least = np.maximum(1e-5 * np.median(np.abs(slopes), axis=0), IMMATERIAL * size)
    curvature = np.maximum(change - rounding, 0) / apart
    usual = np.median(curvature, axis=0)
    with np.errstate(invalid="ignore"):
        seen = (change > least + rounding) & (curvature > CURVED * usual)
    found, nodes = [], np.flatnonzero(seen.any(axis=1))
    for group in np.split(nodes, np.flatnonzero(np.diff(nodes) > 1) + 1):
        if group.size:
            found.append((float(steps[group[0]]), float(steps[group[-1] + 2])))
    return sorted(found, key=lambda pair: 0.0 if pair[0] <= 0 <= pair[1] else min(map(abs, pair)))


@dataclasses.dataclass
class _Zoom:
    low: float
    high: float
    sizes: list[float] = dataclasses.field(default_factory=list)
    widths: list[float] = dataclasses.field(default_factory=list)
    output: int = 0
    done: bool = False


def enlarge(
    brackets: list[tuple[int, float, float]],
    evaluate: Callable[[list[int], np.ndarray], np.ndarray],
    noise: np.ndarray,
    size: np.ndarray,
    steepest: np.ndarray,
) -> list[Event | None]:
    """What is in each bracket; None where it is smooth.

    Args:
        brackets: (function, low, high).
        evaluate: functions (N,) and steps (N, PARTS + 1) -> values (N, PARTS + 1, V); all in one batch.
        noise, size, steepest: (V,): of each output the rounding, the scale, and that of its slopes.
    """
    zooms = []
    for _, low, high in brackets:
        wider = max(0.0, WIDEST_START - (high - low)) / 2
        zooms.append(_Zoom(low - wider, high + wider))
    scale = np.where(size > 0, size, 1.0)
    for _ in range(LEVELS):
        open_ones = [i for i, zoom in enumerate(zooms) if not zoom.done]
        if not open_ones:
            break
        grids = np.stack([np.linspace(zooms[i].low, zooms[i].high, PARTS + 1) for i in open_ones])
        values = evaluate([brackets[i][0] for i in open_ones], grids)
        for i, grid, rows in zip(open_ones, grids, values, strict=True):
            zoom = zooms[i]
            second = np.abs(np.diff(rows, n=2, axis=0))
            if not np.isfinite(second).all():
                zoom.done = True
                continue
            relative = np.where(second > CLEAR * noise, second / scale, 0.0)
            at, output = np.unravel_index(np.argmax(relative), relative.shape)
            if relative[at, output] == 0:  # nothing left but rounding
                zoom.done = True
                continue
            zoom.output = int(output)
            zoom.sizes.append(float(second[at, output]))
            zoom.widths.append((zoom.high - zoom.low) / PARTS)
            zoom.low, zoom.high = float(grid[at]), float(grid[at + 2])
            zoom.done = zoom.high - zoom.low < NARROWEST
    return [_classified(zoom, steepest, scale) for zoom in zooms]


def _classified(zoom: _Zoom, steepest: np.ndarray, size: np.ndarray) -> Event | None:
    if len(zoom.sizes) < 3:  # rounding takes over before it can be told
        return None
    # How the second difference shrinks with the width, at the narrowest widths.
    sizes, widths = np.log(zoom.sizes[-3:]), np.log(zoom.widths[-3:])
    power = (sizes[0] - sizes[-1]) / (widths[0] - widths[-1])
    if power > 1.5:
        return None
    kind, o = "jump" if power < 0.4 else "kink", zoom.output
    # Of the last width but one: the place was then not yet at the edge of what can be told.
    amount = zoom.sizes[-2] / (1.0 if kind == "jump" else zoom.widths[-2])
    least = IMMATERIAL * size[o]
    if kind == "kink":
        least = max(least, 1e-6 * steepest[o])
    return Event(kind, zoom.low, zoom.high, float(amount), o) if amount > least else None


def slope_at_zero(
    steps: np.ndarray, values: np.ndarray, noise: np.ndarray, within: float
) -> tuple[np.ndarray, np.ndarray]:
    """The derivative at 0 and its error bar (V,), extrapolated from the steps shorter than `within`.

    Differences are central where both sides are finite, else to the side that is.
    """
    middle = len(steps) // 2
    base, up, down = values[middle], values[middle + 1 :], values[:middle][::-1]
    h = steps[middle + 1 :]
    used = [k for k in range(len(h)) if h[k] < within][::-1]  # the longest first
    finite = [np.isfinite(side).all() for side in (up, down)]
    if not used or not any(finite):
        return np.full(base.shape, np.nan), np.full(base.shape, np.inf)
    slopes: list[np.ndarray] = []
    rounding: list[np.ndarray] = []
    for k in used:
        if all(finite):
            slopes.append((up[k] - down[k]) / (2 * h[k]))
            rounding.append(noise / h[k])
        else:
            slopes.append((up[k] - base) / h[k] if finite[0] else (base - down[k]) / h[k])
            rounding.append(2 * noise / h[k])
    if len(slopes) == 1:
        return slopes[0], np.abs(slopes[0]) + rounding[0]
    share: Any = RATIO**-2 if all(finite) else RATIO**-1
    return extrapolated(slopes, rounding, share)
