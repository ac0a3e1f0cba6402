"""Pictures of sensitivity: Sobol indices, screening and elasticities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._parts import COLOURS, DOWN, MOST, UP, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..sensitivity import Elasticities, Screening, SobolIndices

BARS = 15
"""How many parameters one picture of bars can bear."""


def sobol_indices(indices: SobolIndices, output: str | None = None) -> Figure:
    """First-order and total indices as bars with 95 % intervals, the largest on top.

    Of a path or array, the bars are of all its elements, and below them are the first-order shares of
    each period: what is missing to 1 is interaction. The dotted line is the variance itself. An estimate
    below zero is drawn there as zero.

    Raises:
        KeyError: an output that was not computed. ValueError: one that does not vary.
    """
    from ..sensitivity._outputs import labels_of

    label = labels_of(indices.first, output)
    one = indices.overall
    first, total = one.first[label], one.total[label]
    if not np.isfinite(total).any():
        raise ValueError(f"{label!r} does not vary: there is nothing to draw.")
    order = np.argsort(-total, kind="stable")
    shown = order[:BARS]
    path = indices.first[label].ndim == 2
    figure, axes = _figure(len(shown), path)
    axis = axes[0]
    places = np.arange(len(shown))
    bars = (
        ("first order", first, one.first_error[label], -0.2, UP),
        ("total", total, one.total_error[label], 0.2, DOWN),
    )
    for name, values, errors, shift, colour in bars:
        axis.barh(
            places + shift,
            values[shown],
            height=0.38,
            xerr=1.96 * errors[shown],
            color=colour,
            error_kw={"ecolor": "0.3", "elinewidth": 1},
            label=name,
        )
    _named(axis, [indices.names[i] for i in shown], len(order) - len(shown))
    axis.axvline(0, color="0.2", linewidth=0.8)
    axis.set_xlabel("share of the variance" + (", over the whole path" if path else ""))
    axis.set_title(f"What accounts for the variance of {label}{indices.about}", fontsize=11)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    if path:
        _shares(axes[1], indices, label, order[: MOST - 1])
    return figure


def _shares(axis: Any, indices: SobolIndices, label: str, order: np.ndarray) -> None:
    first, variance = indices.first[label], indices.variance[label]
    time = np.arange(first.shape[1])
    axis.stackplot(
        time,
        np.clip(np.nan_to_num(first[order]), 0, None),
        labels=[indices.names[i] for i in order],
        colors=COLOURS[: len(order)],
        alpha=0.85,
        linewidth=0,
    )
    if (largest := variance.max()) > 0:
        axis.plot(time, variance / largest, ":", color="0.2", label="variance, of its largest")
    axis.set_ylim(0, 1.05)
    axis.set_xlim(0, max(len(time) - 1, 1))
    axis.set_xlabel("period, or element")
    axis.set_ylabel("first-order shares")
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def screening(found: Screening, output: str | None = None) -> Figure:
    """Each parameter by the mean size of its effects and their standard deviation.

    To the right: what matters. Far above the dashed line, where the standard deviation is as large as the
    mean: effects that depend on where one stands, by curvature or interaction.

    Raises:
        KeyError: an output that was not computed.
    """
    from ..sensitivity._outputs import labels_of

    label = labels_of(found.mu, output)
    star, error, sigma = (found._mean(c, label) for c in ("mu_star", "mu_star_error", "sigma"))
    figure, (axis,) = _figure(12, False)
    order = np.argsort(-star, kind="stable")
    axis.errorbar(star, sigma, xerr=1.96 * error, fmt="o", color=UP, ecolor="0.7", markersize=5)
    named = sorted(order[:BARS], key=lambda i: sigma[i])
    heights = _apart(sigma[named], 0.05 * float(sigma.max()))
    right, lift = 0.01 * float(star.max()), 0.012 * float(sigma.max())
    for i, height in zip(named, heights, strict=True):
        axis.text(star[i] + right, height + lift, found.names[i], fontsize=8)
    most = float(max(star.max(), sigma.max(), 1e-300))
    axis.plot([0, most], [0, most], "--", color="0.7", linewidth=0.8, zorder=0)
    axis.set_xlim(0, 1.25 * float((star + 1.96 * error).max()) or 1)
    axis.set_ylim(0, 1.15 * float(sigma.max()) or 1)
    over = ", mean over its elements" if found.mu[label].ndim > 1 else ""
    axis.set_xlabel(rf"$\mu^*$: mean size of an effect (95 %){over}")
    axis.set_ylabel(r"$\sigma$: standard deviation of the effects")
    axis.set_title(f"Screening{found.about}: what moves {label}", fontsize=11)
    return figure


def _apart(heights: np.ndarray, gap: float) -> list[float]:
    """Rising heights, moved up where they are closer than `gap`: names do not overlap."""
    found: list[float] = []
    for height in heights:
        found.append(max(float(height), found[-1] + gap if found else 0.0))
    return found


def elasticities(found: Elasticities, output: str | None = None) -> Figure:
    """Elasticities as bars, the largest on top; of a path, those of its last period, and below them over
    time.

    Raises:
        KeyError: an output that was not computed. ValueError: one that is zero.
    """
    from ..sensitivity._outputs import labels_of

    label = labels_of(found.values, output)
    table = found.to_pandas().loc[label].to_numpy()
    names = found.jacobian.columns()
    last = table[-1]
    if not np.isfinite(last).any():
        raise ValueError(f"{label!r} is zero: it has no elasticities.")
    order = np.argsort(-np.abs(np.nan_to_num(last)), kind="stable")
    shown = order[:BARS]
    path = np.ndim(found.levels[label]) == 1
    figure, axes = _figure(len(shown), path)
    axis = axes[0]
    colours = [UP if last[i] > 0 else DOWN for i in shown]
    axis.barh(np.arange(len(shown)), last[shown], color=colours)
    _named(axis, [names[i] for i in shown], len(order) - len(shown))
    axis.axvline(0, color="0.2", linewidth=0.8)
    when = " in the last period" if path else ""
    axis.set_xlabel(f"% of {label}{when} per % of the parameter")
    axis.set_title(f"Elasticities of {label}, {found.jacobian.model.name}", fontsize=11)
    if path:
        for i in order[:MOST]:
            axes[1].plot(np.arange(len(table)), table[:, i], label=names[i])
        axes[1].axhline(0, color="0.7", linewidth=0.8, zorder=0)
        axes[1].set_xlabel("period")
        axes[1].set_ylabel("elasticity")
        axes[1].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _figure(rows: int, two: bool) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    height = 1.6 + 0.34 * max(rows, 2)
    figure = Figure(figsize=(9, height + (3 if two else 0)), layout="constrained")
    ratios = [height, 3] if two else [1]
    axes = figure.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0]
    for axis in axes:
        bare(axis)
    return figure, list(axes)


def _named(axis: Any, names: list[str], left: int) -> None:
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.invert_yaxis()
    if left:
        axis.annotate(
            f"{left} more, smaller",
            (1, 0),
            xycoords="axes fraction",
            ha="right",
            va="bottom",
            fontsize=7,
            color="0.4",
        )
