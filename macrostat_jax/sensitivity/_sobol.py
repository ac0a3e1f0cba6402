"""Sobol indices: which share of an output's variance each parameter accounts for."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._model import Model
from ..sample import Design
from . import _designs, _outputs, _tables, _variance
from ._designs import Bounds, Log
from ._outputs import Of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ESTIMATORS = ("saltelli", "jansen")
Table = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SobolIndices:
    """Sobol indices of all outputs. Made by `sobol` and `sobol_from`.

    An output's first-order index of a parameter is the share of its variance that would go if the
    parameter were known; its total index the share that would stay if all others were known. An output
    that does not vary has none: NaN.

    Attributes:
        names: the d parameters.
        first, total: output -> array (d, *shape of the output).
        first_error, total_error: their standard errors, by bootstrap over the groups of runs. The points
            are more evenly spread than random ones, so that they are rather too large than too small.
        second, second_error: likewise, of pairs: (d, d, *shape), filled above the diagonal, NaN
            elsewhere; None where they were not asked for.
        mean, variance: of each output over the region: output -> array of its shape.
        overall: the indices of each output as a whole: over its elements (the periods of a path),
            weighted by their variances; this object itself where every output is one number.
        groups, runs: how many were used, of `groups * (d + 2)` runs or `groups * (2 d + 2)`.
        nonfinite, dropped: how many runs were not finite, and how many groups were left out for it.
        about: what was run, for the heading.
    """

    names: tuple[str, ...]
    first: Table
    first_error: Table
    total: Table
    total_error: Table
    second: Table | None
    second_error: Table | None
    mean: Table
    variance: Table
    groups: int
    runs: int
    nonfinite: int = 0
    dropped: int = 0
    estimator: str = "saltelli"
    about: str = ""
    whole: SobolIndices | None = None

    @property
    def overall(self) -> SobolIndices:
        return self if self.whole is None else self.whole

    def to_pandas(self) -> pd.DataFrame:
        """A row per output number and parameter: first, first_error, total, total_error."""
        columns = {
            "first": self.first,
            "first_error": self.first_error,
            "total": self.total,
            "total_error": self.total_error,
        }
        return _tables.tidy(self.names, columns)

    def pairs(self) -> pd.DataFrame:
        """A row per output number and pair of parameters: second, second_error.

        Raises:
            ValueError: second-order indices were not asked for.
        """
        if self.second is None or self.second_error is None:
            raise ValueError("Second-order indices: ask for them with second_order=True.")
        at = list(itertools.combinations(range(len(self.names)), 2))
        names = tuple(f"{self.names[i]} x {self.names[j]}" for i, j in at)
        rows, columns = (list(side) for side in zip(*at, strict=True)) if at else ([], [])
        tables = {
            "second": {k: v[rows, columns] for k, v in self.second.items()},
            "second_error": {k: v[rows, columns] for k, v in self.second_error.items()},
        }
        return _tables.tidy(names, tables).rename_axis(["output", "element", "pair"])

    def to_dict(self) -> dict[str, Any]:
        """The overall indices, of what JSON can hold."""
        one = self.overall
        columns = ("first", "first_error", "total", "total_error")
        return {
            "method": "sobol",
            "runs": self.runs,
            "nonfinite": self.nonfinite,
            "dropped_groups": self.dropped,
            "outputs": {
                label: {
                    name: {c: _tables.number(getattr(one, c)[label][i]) for c in columns}
                    for i, name in enumerate(self.names)
                }
                for label in one.first
            },
        }

    def plot(self, output: str | None = None) -> Figure:
        """`plot.sobol_indices`: bars; of a path, also the shares of its variance over time."""
        from ..plot import sobol_indices

        return sobol_indices(self, output)

    def __str__(self) -> str:
        lines = [f"Sobol indices{self.about}", f"  {self.runs} runs in {self.groups} groups."]
        if self.nonfinite:
            lines.append(
                f"  {self.nonfinite} runs were not finite: {self.dropped} groups were left out."
            )
        one = self.overall
        if self.whole is not None:
            lines.append("  Of paths and arrays: over all elements, weighted by their variances.")
        for label in one.first:
            lines += ["", *self._block(label)]
        return "\n".join(lines)

    __repr__ = __str__

    def _block(self, label: str) -> list[str]:
        one = self.overall
        first, total = one.first[label], one.total[label]
        if not np.isfinite(total).any():
            varies = one.variance[label] > 0
            return [f"{label}: " + ("its variance is infinite." if varies else "it does not vary.")]
        order = np.argsort(-total, kind="stable")
        rows = [
            [
                self.names[i],
                _tables.with_error(first[i], one.first_error[label][i]),
                _tables.with_error(total[i], one.total_error[label][i]),
            ]
            for i in order
        ]
        head = [label, "first (± 95 %)", "total (± 95 %)"]
        found = _tables.aligned([head, *rows])
        rest = 1 - first.sum()
        found.append(f"  first-order indices sum to {first.sum():.3f}: {_said(rest)}")
        if one.second is not None and one.second_error is not None:
            found += self._interactions(one.second[label], one.second_error[label])
        return found

    def _interactions(self, second: np.ndarray, error: np.ndarray, most: int = 5) -> list[str]:
        pairs = list(itertools.combinations(range(len(self.names)), 2))
        pairs = sorted(pairs, key=lambda at: -abs(second[at]))
        rows = [
            [f"{self.names[i]} x {self.names[j]}", _tables.with_error(second[i, j], error[i, j])]
            for i, j in pairs[:most]
        ]
        head = ["pairs" + (f", the {most} largest" if len(pairs) > most else ""), "(± 95 %)"]
        return _tables.aligned([head, *rows]) if rows else []


def _said(rest: float) -> str:
    if rest > 0.02:
        return f"interactions account for {100 * rest:.0f} % of the variance."
    if rest < -0.1:
        return "no more than 1 is possible: that takes more runs."
    return "there is next to no interaction."


def sobol(
    what: Model | Callable[[np.ndarray], Any],
    n: int,
    bounds: Bounds | None = None,
    *,
    of: Of = None,
    second_order: bool = False,
    estimator: str = "saltelli",
    resamples: int = 200,
    nonfinite: str = "raise",
    log: Log = False,
    seed: int = 0,
    **options: Any,
) -> SobolIndices:
    """First-order and total Sobol indices of all outputs at once, whole paths included.

    Args:
        what: a model; or a function of a batch of points (runs, d) to an array, or a pytree of arrays,
            with the runs first.
        n: how many groups of runs: a power of 2. Runs: n (d + 2), or n (2 d + 2) with `second_order`.
        bounds: parameter -> (low, high), as for `sample.sobol`; `around(model, 0.1)` makes some.
        of: of a model: a variable, several, None for all, or a function of the path as for `sweep`.
        second_order: also the indices of pairs.
        estimator: of the first-order indices: "saltelli" (more exact for small indices), or "jansen" (for
            large ones). Total indices are Jansen's in either case.
        resamples: of the bootstrap.
        nonfinite: what to do where runs are not finite: "raise", or "drop" the groups that they are in.
            The region is then no longer a box, and the result says so.
        log, seed: as for `sample.sobol`.
        options: of a model: as for `sample.sweep` (scenario, periods, key, chunk, progress, ...), and
            `params`, those that are not sampled.

    Raises:
        ValueError: runs that are not finite; and as `saltelli` and `sample.sweep`.

    Source: Saltelli et al. (2010), Computer Physics Communications 181, 259-270, table 2 (b), (c) and (f);
    of pairs, Saltelli (2002), Computer Physics Communications 145, 280-297; of paths as a whole, Lamboni,
    Monod and Makowski (2011), Reliability Engineering and System Safety 96, 450-459.
    """
    _check(estimator, resamples)
    model = what if isinstance(what, Model) else None
    design = _designs.saltelli(model, n, bounds, second_order=second_order, log=log, seed=seed)
    outputs = _outputs.evaluate(what, design, of, options)
    about = f" of {model.name}" if model else ""
    return _indices(design, outputs, estimator, resamples, nonfinite, about)


def sobol_from(
    design: Design,
    values: Any,
    *,
    axis: int = 0,
    estimator: str = "saltelli",
    resamples: int = 200,
    nonfinite: str = "raise",
) -> SobolIndices:
    """The indices of runs that were made elsewhere: `design` is from `saltelli`, `values` of its runs.

    Args:
        design: the whole design, whose runs come in its order.
        values: an array, or a pytree of arrays, with the runs on `axis`: `sweep(...).values`.
        axis: that of the runs; 1 for the whole paths of a sweep (`Sweep.axis`).
        estimator, resamples, nonfinite: as for `sobol`.

    Raises:
        ValueError: another design, or runs that are missing; and as `sobol`.
    """
    _check(estimator, resamples)
    outputs = _outputs.of_runs(values, len(design), axis)
    return _indices(design, outputs, estimator, resamples, nonfinite, "")


def _check(estimator: str, resamples: int) -> None:
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is one of {', '.join(ESTIMATORS)}, not {estimator!r}.")
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 2:
        raise ValueError(
            f"resamples must be a whole number, at least 2 (200 do), not {resamples!r}."
        )


def _indices(
    design: Design,
    outputs: _outputs.Outputs,
    estimator: str,
    resamples: int,
    nonfinite: str,
    about: str,
) -> SobolIndices:
    origin = _designs.require(design, "saltelli", "saltelli", outputs.matrix)
    groups, per = origin["groups"], origin["per"]
    good, bad = _outputs.finite_groups(outputs, groups, nonfinite, "groups of runs")
    runs = outputs.matrix.reshape(groups, per, -1)
    runs = runs if good.all() else runs[good]
    weights = _variance.resampled(len(runs), resamples, origin["seed"])
    found, whole = _variance.estimate(
        runs, weights, outputs.owner, len(design.names), origin["second_order"], estimator,
        outputs.rounding,
    )  # fmt: skip
    more: dict[str, Any] = {
        "groups": len(runs),
        "runs": len(runs) * per,
        "nonfinite": bad,
        "dropped": groups - len(runs),
        "estimator": estimator,
        "about": about,
    }
    scalars = dataclasses.replace(outputs, shapes=dict.fromkeys(outputs.shapes, ()))
    overall = SobolIndices(design.names, **_tabled(whole, scalars), **more)
    if not any(outputs.shapes.values()):
        return overall
    return SobolIndices(design.names, **_tabled(found, outputs), **more, whole=overall)


def _tabled(found: _variance.Estimates, outputs: _outputs.Outputs) -> dict[str, Table | None]:
    return {
        name: None if array is None else outputs.split(array)
        for name, array in found._asdict().items()
    }
