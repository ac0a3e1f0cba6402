"""Fits: data against the fitted path, and profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._parts import COLOURS, bare, date_ticks, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fit(found: Any, series: Sequence[str] | None = None, *, title: str = "") -> Figure:
    """Data as dots, the fitted path as a line, a panel per series.

    Args:
        found: a `Fit`. series: which ones; default: all.
        title: the figure's title; default: the model's.
    """
    known = {one.label: one for one in found.series}
    chosen = list(known) if series is None else list(series)
    if unknown := [name for name in chosen if name not in known]:
        raise KeyError(f"{unknown} are not observed. Observed are: {', '.join(known)}.")
    if not chosen:
        raise ValueError("The fit has no series to draw: it is to moments alone.")
    figure, axes = panels(len(chosen), title or found.problem.model.title, height=2.6)
    for axis, name in zip(axes, chosen, strict=True):
        one = known[name]
        position = {date: i for i, date in enumerate(one.all_dates)}
        at = [position[date] for date in one.dates]
        axis.plot(at, one.data, "o", markersize=3.5, color=COLOURS[0], alpha=0.75, label="data")
        axis.plot(one.path, color=COLOURS[1], linewidth=1.6, label="model")
        _dates(axis, one.all_dates)
        axis.set_ylabel(name + _kind(found, name), fontsize=8)
        note = f"$R^2$ {one.r2:.3f}" if np.isfinite(one.r2) else f"RMSE {one.rmse:.3g}"
        axis.set_title(note, fontsize=8, loc="right")
    axes[0].legend(fontsize=8, frameon=False, ncols=2, loc="best")
    return figure


def _kind(found: Any, name: str) -> str:
    """What of a series is compared, where that is not its level."""
    (one,) = [series for series in found.problem.series if series.label == name]
    kind = one.observed.transform
    kind = getattr(kind, "__name__", kind)
    return "" if kind == "level" else f" ({kind.replace('_', ' ')})"


def _dates(axis: Any, dates: Sequence[str]) -> None:
    ticks = date_ticks(dates)
    axis.set_xticks(ticks, [dates[i] for i in ticks])
    axis.tick_params(labelsize=8)


def profile(found: Any) -> Figure:
    """The profile likelihood over the values of a parameter, its interval and the estimate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    bare(axis)
    what = "log posterior density" if found.priors else "log-likelihood"
    axis.plot(found.values, found.drop, "o-", markersize=3, label=f"twice the fall of the {what}")
    limit, level = found.limit, f"{found.level:.0%} level"
    axis.axhline(limit, color="0.5", linestyle="--", linewidth=1, label=level)
    axis.axvline(found.estimate, color=COLOURS[1], linewidth=1, label="estimate")
    low, high = found.interval
    ends = np.clip([low, high], found.values[0], found.values[-1])
    axis.axvspan(*ends, color=COLOURS[0], alpha=0.1, linewidth=0)
    top = np.nanmax(np.append(found.drop, 1.2 * limit))
    axis.set_ylim(min(0.0, float(np.nanmin(found.drop))), min(float(top), 5 * limit))
    axis.set_xlabel(found.name)
    axis.legend(fontsize=8, frameon=False)
    return figure
