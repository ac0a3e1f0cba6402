"""What many starts found: their costs by rank, and where they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._parts import COLOURS, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..estimation import MultiStart

BY_OUTCOME = (COLOURS[0], COLOURS[4], COLOURS[1], COLOURS[3], COLOURS[7])
"""Colours in the order of the outcomes."""
MOST_ROWS = 16


def multi_start(found: MultiStart) -> Figure:
    """Costs by rank on the left, the ends of the starts by parameter on the right."""
    from matplotlib.figure import Figure

    shown = min(len(found.names), MOST_ROWS)
    figure = Figure(figsize=(11, max(3.4, 1.6 + 0.42 * shown)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    _costs(left, found)
    _ends(right, found, shown)
    counts = found.counts
    figure.suptitle(
        f"{len(found):,} starts by {found.method}: {counts['at the best cost']:,} at the best "
        f"{'cost' if found.objective == 'cost' else 'posterior density'}"
    )
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8
    )
    return figure


def _costs(axis: Any, found: MultiStart) -> None:
    bare(axis)
    order = np.argsort(np.where(np.isfinite(found.costs), found.costs, np.inf), kind="stable")
    costs, status = found.costs[order], found.status[order]
    rank = np.arange(1, len(found) + 1)
    positive = found.objective == "cost"
    lift = costs
    if positive:
        # An exact fit has a cost of rounding, or 0: what is far below the start costs is drawn as one.
        usual = np.nanmedian(np.where(np.isfinite(found.start_costs), found.start_costs, np.nan))
        lift = np.maximum(costs, 1e-16 * usual)
        axis.set_yscale("log")
    axis.plot(rank, np.sort(found.start_costs), color="0.8", label="at the starts, sorted")
    _by_outcome(axis, rank, lift, status, found)
    axis.set_xlabel("rank")
    axis.set_ylabel("cost" if positive else "minus log posterior")


def _ends(axis: Any, found: MultiStart, shown: int) -> None:
    bare(axis)
    begun = found.start_values[:, :shown]
    low, high = np.nanmin(begun, axis=0), np.nanmax(begun, axis=0)
    place = (found.values[:, :shown] - low) / np.where(high > low, high - low, 1.0)
    # Those that failed are few and would hide below the others.
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, len(found))
    for i in range(shown):
        _by_outcome(axis, place[:, i], i + jitter, found.status, found, label=False)
        axis.plot(place[found.best, i], i, "|", color="black", markersize=18, markeredgewidth=1.6)
        axis.annotate(f"{found.values[found.best, i]:.4g}", (1.04, i), fontsize=8,
                      va="center", xycoords=("axes fraction", "data"), annotation_clip=False)  # fmt: skip
    labels = [f"{n}\n[{a:.3g}, {b:.3g}]" for n, a, b in zip(found.names, low, high, strict=False)]
    axis.set_yticks(range(shown), labels, fontsize=8)
    axis.set_ylim(shown - 0.5, -0.5)
    left = len(found.names) - shown
    axis.set_xlabel("where they ended, within the range of the starts; the best as a line" + (
        f" ({left} more parameters)" if left else ""
    ))  # fmt: skip


def _by_outcome(
    axis: Any,
    x: np.ndarray,
    y: np.ndarray,
    status: np.ndarray,
    found: MultiStart,
    label: bool = True,
) -> None:
    for number, (outcome, colour) in enumerate(zip(found.counts, BY_OUTCOME, strict=True)):
        rows = (status == number) & np.isfinite(x) & np.isfinite(y)
        if rows.any():
            name = f"{outcome} ({found.counts[outcome]:,})" if label else None
            axis.plot(x[rows], y[rows], ".", color=colour, markersize=4, alpha=0.7, label=name)
