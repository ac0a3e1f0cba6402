"""Where many starts begin, and what to make of where they end."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from ..sample import Design, unit_points

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ._multistart import Ends

OUTCOMES = (
    "at the best cost",
    "stopped at a higher cost",
    "stuck at a saturated bound",
    "out of steps",
    "not finite",
)
"""What `MultiStart.status` counts: its numbers are places in this tuple."""
BEST, HIGHER, SATURATED, UNFINISHED, NOT_FINITE = range(5)
EDGE = 1e-6
"""Starts keep this share of the range away from its ends, at which a solver has no slope."""
FLAT = 1e-4
"""A value is at a saturated bound where the solver's coordinates move it this much less than usual."""


def draw_starts(problem: Any, starts: Any, design: str, seed: int) -> np.ndarray:
    """The solver's coordinates (n, k) of what `multi_start` takes as `starts`."""
    size = len(problem.start)
    if isinstance(starts, int | np.integer) and not isinstance(starts, bool):
        return _spread(problem, int(starts), design, seed)
    if isinstance(starts, Design):
        return _of_design(problem, starts)
    u = np.asarray(starts, float)
    if u.ndim != 2 or u.shape[1] != size or not len(u):
        raise ValueError(
            f"starts are a number, a Design, or coordinates of the shape (n, {size}), not {u.shape}."
        )
    if not np.isfinite(u).all():
        rows = np.flatnonzero(~np.isfinite(u).all(axis=1))
        raise ValueError(f"{len(rows)} of {len(u)} starts are not finite; the first is {rows[0]}.")
    return u


def _of_design(problem: Any, design: Design) -> np.ndarray:
    if set(design.names) != set(problem.names):
        raise ValueError(
            "The starts' design must be over the problem's free parameters. "
            f"The design has {', '.join(design.names)}; the problem has {', '.join(problem.names)}."
        )
    order = [design.names.index(name) for name in problem.names]
    return np.asarray(problem.unconstrain(design.points[:, order]), float)


def _spread(problem: Any, count: int, design: str, seed: int) -> np.ndarray:
    unit = unit_points(design, len(problem.start), count, seed)
    # Evenly over what lies between two bounds; a logistic distribution where there are fewer.
    unit = np.clip(unit, EDGE, 1 - EDGE)
    u = np.log(unit / (1 - unit))
    # A prior says where to look, except in a group that adds up, whose values depend on each other.
    alone = set(problem.bijection.alone.tolist())
    informed = [i for i, n in enumerate(problem.names) if n in problem.priors and i in alone]
    if informed:
        low, high = problem.bounds
        values = np.array(jax.vmap(problem.values)(u))
        for i in informed:
            found = problem.priors[problem.names[i]].quantile(unit[:, i], (low[i], high[i]))
            values[:, i] = np.clip(
                found, np.nextafter(low[i], high[i]), np.nextafter(high[i], low[i])
            )
        u[:, informed] = np.asarray(problem.unconstrain(values))[:, informed]
    return u


def prior_draws(problem: Any, count: int, seed: int) -> np.ndarray:
    """The solver's coordinates (count, k) of independent draws from the priors.

    Raises:
        ValueError: a parameter without a prior that has no finite bounds, or is in a group that adds up.
    """
    low, high = problem.bounds
    for i, name in enumerate(problem.names):
        if name not in problem.priors and not np.isfinite(high[i] - low[i]):
            raise ValueError(
                f"{name!r} has no prior, and no finite bounds within which it is uniform: give it one."
            )
    if problem.bijection.groups:
        raise ValueError("Draws from the priors of parameters that add up are not supported.")
    return _spread(problem, count, "random", seed)


class Basin(NamedTuple):
    """Starts that ended at one cost.

    Attributes:
        cost: the lowest of them. starts: how many. first: the number of the start with the lowest.
        low, high: the least and the greatest values of the parameters there, (d,).
        saturated: the parameters that are at a saturated bound in all of them.
    """

    cost: float
    starts: int
    first: int
    low: np.ndarray
    high: np.ndarray
    saturated: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class MultiStart:
    """What n starts found: `print` it, draw it with `plot`, tabulate it with `to_pandas`.

    Attributes:
        problem, method, objective: what was asked.
        starts: where they began, in the solver's coordinates, (n, k).
        u: where they ended, (n, k). values: the parameters there, (n, d), in the order of problem.names.
        start_costs, costs: (n,).
        steps: how many each took, (n,).
        stopped: what the solver alone calls a success, (n,) of bool.
        status: places in `OUTCOMES`, (n,).
        saturated: which values are at a saturated bound, (n, d) of bool: where the solver's coordinates
            hardly move them, so that it stops for want of a slope.
        best: the number of the start with the lowest cost.
        within: costs up to this one count as that of the best.
    """

    problem: Any
    method: str
    objective: str
    starts: np.ndarray
    u: np.ndarray
    values: np.ndarray
    start_costs: np.ndarray
    costs: np.ndarray
    steps: np.ndarray
    stopped: np.ndarray
    status: np.ndarray
    saturated: np.ndarray
    best: int
    within: float

    def __len__(self) -> int:
        return len(self.costs)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.problem.names)

    @property
    def success(self) -> np.ndarray:
        """Which starts (n,) stopped at the cost of the best one."""
        return self.status == BEST

    @property
    def best_u(self) -> np.ndarray:
        """The solver's coordinates at the best fit, (k,)."""
        return self.u[self.best]

    @property
    def best_values(self) -> dict[str, float]:
        return dict(zip(self.names, self.values[self.best].tolist(), strict=True))

    @property
    def best_cost(self) -> float:
        return float(self.costs[self.best])

    @property
    def counts(self) -> dict[str, int]:
        """Outcome -> how many starts."""
        return {name: int((self.status == i).sum()) for i, name in enumerate(OUTCOMES)}

    @functools.cached_property
    def start_values(self) -> np.ndarray:
        """The parameters at the starts, (n, d)."""
        with jax.enable_x64(True):
            return np.asarray(jax.vmap(self.problem.values)(self.starts))

    @functools.cached_property
    def basins(self) -> tuple[Basin, ...]:
        """The starts that stopped, by cost, the best first. A cost of its own is 0.1 % above the one before."""
        order = [i for i in np.argsort(self.costs, kind="stable") if self.stopped[i]]
        groups: list[list[int]] = []
        ceiling = -np.inf
        for i in order:
            if self.costs[i] > ceiling:
                groups.append([])
                rise = 1e-3 * abs(self.costs[i])
                ceiling = self.costs[i] + max(rise, self.within - self.best_cost)
            groups[-1].append(i)
        return tuple(self._basin(np.array(group)) for group in groups)

    def _basin(self, rows: np.ndarray) -> Basin:
        values, held = self.values[rows], np.flatnonzero(self.saturated[rows].all(axis=0))
        names = tuple(self.names[i] for i in held)
        first = int(rows[0])
        return Basin(
            float(self.costs[first]),
            len(rows),
            first,
            values.min(axis=0),
            values.max(axis=0),
            names,
        )

    @functools.cached_property
    def loose(self) -> tuple[str, ...]:
        """Parameters whose values differ among the starts at the best cost, by more than 1 % of the spread
        of the starts: the data do not tell these values apart."""
        good = self.values[self.success]
        if len(good) < 2:
            return ()
        spread, usual = np.ptp(good, axis=0), np.ptp(self.start_values, axis=0)
        return tuple(n for n, s, u in zip(self.names, spread, usual, strict=True) if s > 0.01 * u)

    def to_pandas(self) -> pd.DataFrame:
        """A row per start: its outcome, costs, steps and the values where it ended."""
        import pandas as pd

        table = pd.DataFrame(
            {
                "outcome": pd.Categorical.from_codes(self.status, categories=list(OUTCOMES)),
                "cost": self.costs,
                "start_cost": self.start_costs,
                "steps": self.steps,
                "stopped": self.stopped,
            }
        )
        ended = pd.DataFrame(self.values, columns=list(self.names))
        return pd.concat([table, ended], axis=1).rename_axis("start")

    def sentence(self) -> str:
        """The outcome in words."""
        counts, n = self.counts, len(self)
        text = (
            f"{counts[OUTCOMES[BEST]]:,} of {n:,} starts ({counts[OUTCOMES[BEST]] / n:.1%}) found the lowest "
            f"{_called(self.objective)}, {self.best_cost:.6g}"
        )
        others = [
            f"{count:,} {name}"
            for name, count in counts.items()
            if count and name != OUTCOMES[BEST]
        ]
        if others:
            text += f"; {', '.join(others)}"
        text += f". The solver alone calls {int(self.stopped.sum()):,} a success."
        if self.status[self.best] != BEST:
            text += " The best start was still running when its steps were used up: allow more."
        if held := [n for n, one in zip(self.names, self.saturated[self.best], strict=True) if one]:
            text += f" At the best fit {', '.join(held)} {'is' if len(held) == 1 else 'are'} at a bound."
        if self.loose:
            text += f" Equally good fits differ in {', '.join(self.loose)}: the data do not tell them apart."
        return text

    def __str__(self) -> str:
        width = max(len(name) for name in (*self.names, "parameter"))
        good = self.values[self.success]
        lines = [self.sentence(), "", f"  {'parameter':{width}}  {'best fit':>12}  from starts in"]
        for i, name in enumerate(self.names):
            low, high = np.nanmin(self.start_values[:, i]), np.nanmax(self.start_values[:, i])
            line = f"  {name:{width}}  {self.values[self.best, i]:>12.6g}  [{low:.4g}, {high:.4g}]"
            if name in self.loose:
                line += f"  equally good from {good[:, i].min():.4g} to {good[:, i].max():.4g}"
            lines.append(line)
        if len(self.basins) > 1:
            lines += ["", *self._basin_lines()]
        return "\n".join(lines)

    def _basin_lines(self, most: int = 6) -> list[str]:
        shown = self.basins[:most]
        lines = [f"  {_called(self.objective):>12}  starts  where they ended"]
        for basin in shown:
            where = ", ".join(
                f"{name} {value:.4g}" for name, value in
                zip(self.names[:4], self.values[basin.first], strict=False)
            )  # fmt: skip
            more = ", ..." if len(self.names) > 4 else ""
            held = f" (bound: {', '.join(basin.saturated)})" if basin.saturated else ""
            lines.append(f"  {basin.cost:>12.6g}  {basin.starts:>6,}  {where}{more}{held}")
        if rest := self.basins[most:]:
            lines.append(f"  {len(rest)} more costs, {sum(b.starts for b in rest):,} starts")
        return lines

    def plot(self) -> Figure:
        """Costs by rank, and where the starts ended, parameter by parameter."""
        from ..plot import _starts

        return _starts.multi_start(self)


def judge(
    problem: Any, method: str, objective: str, starts: np.ndarray, ends: Ends, same: float
) -> MultiStart:
    """Which starts found the best fit, and what became of the others.

    Raises:
        ValueError: no start has a finite cost, at its beginning or its end.
    """
    finite = np.isfinite(ends.cost)
    if not finite.any():
        raise ValueError(
            f"None of {len(starts)} starts leads to a finite {_called(objective)}: do the bounds admit "
            "paths that explode?"
        )
    best = int(np.argmin(np.where(finite, ends.cost, np.inf)))
    lowest = float(ends.cost[best])
    before = ends.cost_before[np.isfinite(ends.cost_before)]
    size = float(np.median(np.abs(before))) if len(before) else abs(lowest)
    within = lowest + same * max(abs(lowest), 1e-3 * size)
    usual = np.ma.median(np.ma.masked_invalid(ends.slope_before), axis=0).filled(0.0)
    saturated = (ends.slope <= FLAT * usual) & finite[:, None]
    stopped = ends.stopped & finite
    status = np.select(
        [~finite, ~stopped, ends.cost <= within, saturated.any(axis=1)],
        [NOT_FINITE, UNFINISHED, BEST, SATURATED],
        HIGHER,
    )
    return MultiStart(
        problem, method, objective, starts, ends.u, ends.values, ends.cost_before, ends.cost,
        ends.steps, stopped, status, saturated, best, within,
    )  # fmt: skip


def _called(objective: str) -> str:
    return "cost" if objective == "cost" else "minus log posterior"
