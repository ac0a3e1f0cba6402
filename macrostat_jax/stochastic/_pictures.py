"""Pictures of how estimators of a gradient compare."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ._compare import Comparison, Measured

TRUTH: dict[str, Any] = {"color": "black", "linewidth": 1.2, "linestyle": (0, (4, 2)), "zorder": 9}


def draw(comparison: Comparison, wrt: str | None) -> Figure:
    label = _label(comparison, wrt)
    shape = np.shape(comparison.reference[label])
    if len(shape) > 1:
        raise ValueError(
            f"A picture takes a loss that is a number or a path of numbers, and a scalar input; the "
            f"gradient by {label!r} has the shape {shape}."
        )
    return _over_time(comparison, label) if shape else _numbers(comparison, label)


def _label(comparison: Comparison, wrt: str | None) -> str:
    if wrt is None:
        return next(iter(comparison.reference))
    if wrt not in comparison.reference:
        raise KeyError(f"{wrt!r} is not among {', '.join(comparison.reference)}.")
    return wrt


def _colours(comparison: Comparison) -> dict[str, Any]:
    """A colour for each estimator; shades of one for the temperatures of Gumbel-softmax."""
    import matplotlib

    names = [one.name for one in comparison.measured if one.estimate.estimator != "gumbel_softmax"]
    soft = [one.name for one in comparison.measured if one.estimate.estimator == "gumbel_softmax"]
    plain = [matplotlib.colormaps["tab10"](i) for i in (7, 2, 3, 4, 5, 6, 8, 9)]
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.8, max(len(soft), 1)))
    colours = {name: plain[i % len(plain)] for i, name in enumerate(names)}
    return {**colours, **dict(zip(soft, shades, strict=False))}


def _panels(comparison: Comparison) -> list[tuple[str, list[Measured]]]:
    """One panel for each estimator, all temperatures of Gumbel-softmax in one."""
    groups: dict[str, list[Measured]] = {}
    for one in comparison.measured:
        soft = one.estimate.estimator == "gumbel_softmax"
        title = "Gumbel-softmax" if one.estimate.options.get("hard", True) else "Gumbel, soft"
        groups.setdefault(title if soft else one.name, []).append(one)
    return list(groups.items())


def _over_time(comparison: Comparison, label: str) -> Figure:
    from matplotlib.figure import Figure

    groups, colours = _panels(comparison), _colours(comparison)
    truth = comparison.reference[label]
    steps = np.arange(1, len(truth) + 1)
    columns = min(3, len(groups))
    above = math.ceil(len(groups) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.5 * above + 3.0), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.4 * above, 2.8])
    top, bottom = parts
    panels = top.subplots(above, columns, sharex=True, sharey=True, squeeze=False).reshape(-1)
    for panel in panels[len(groups) :]:
        panel.set_axis_off()
    for panel, (title, members) in zip(panels, groups, strict=False):
        for one in reversed(members):  # the noisiest, of the lowest temperature, comes first
            _runs(panel, steps, one, label, colours[one.name])
        for one in members:
            name = one.name.rpartition(", ")[2] if len(members) > 1 else "mean"
            mean = one.estimate.mean[label]
            panel.plot(steps, mean, color=colours[one.name], linewidth=2.2, label=name, zorder=5)
        panel.plot(steps, truth, **TRUTH, label="truth")
        panel.set_title(title[:1].upper() + title[1:], fontsize=9)
        panel.legend(fontsize=7, frameon=False, loc="upper left")
    low, high = _range(comparison, label)
    panels[0].set_ylim(low, high)
    for panel in panels[::columns]:
        panel.set_ylabel(f"gradient by {label}", fontsize=8)
    for panel in panels[: len(groups)][-columns:]:
        panel.tick_params(labelbottom=True)
    bias, spread = bottom.subplots(1, 2)
    for one in comparison.measured:
        colour = colours[one.name]
        value, error = one.bias[label], one.bias_error[label]
        bias.fill_between(steps, value - 2 * error, value + 2 * error, color=colour, alpha=0.18)
        bias.plot(steps, value, color=colour, linewidth=1.3, label=one.name)
        if np.any(one.deviation[label] > 0):
            spread.plot(steps, one.deviation[label], color=colour, linewidth=1.3)
    bias.axhline(0, **TRUTH)
    bias.set_title("Bias, with two standard errors", fontsize=9)
    spread.set_yscale("log")
    spread.set_title("Standard deviation of one run", fontsize=9)
    handles, names = bias.get_legend_handles_labels()
    bottom.legend(
        handles, names, loc="outside lower center", ncols=min(3, len(names)), frameon=False,
        fontsize=7,
    )  # fmt: skip
    for axis in (*panels, bias, spread):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=7)
    for axis in (*panels[: len(groups)][-columns:], bias, spread):
        axis.set_xlabel("period", fontsize=8)
    return figure


def _runs(panel: Any, steps: Any, one: Measured, label: str, colour: Any) -> None:
    assert one.estimate.samples is not None
    panel.plot(steps, one.estimate.samples[label].T, color=colour, alpha=0.16, linewidth=0.7)


def _range(comparison: Comparison, label: str) -> tuple[float, float]:
    """What the panels show: the truth, and the runs as far as they are of its size. The runs of a score
    function may be ten times as far from each other: they leave the panel."""
    truth = comparison.reference[label]
    size = float(np.max(np.abs(truth))) or 1.0
    runs = [one.estimate.samples[label] for one in comparison.measured if one.estimate.samples]
    low, high = np.quantile(np.concatenate(runs), [0.001, 0.999])
    low, high = min(low, truth.min()), max(high, truth.max())
    return max(low, truth.min() - size) - 0.1 * size, min(high, truth.max() + size)


def _numbers(comparison: Comparison, label: str) -> Figure:
    from matplotlib.figure import Figure

    colours, measured = _colours(comparison), comparison.measured
    figure = Figure(figsize=(8.2, 0.34 * len(measured) + 1.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    truth = float(comparison.reference[label])
    left.axvline(truth, **TRUTH)
    for at, one in enumerate(measured):
        mean, error = float(one.estimate.mean[label]), float(one.estimate.standard_error[label])
        left.errorbar(mean, at, xerr=2 * error, fmt="o", color=colours[one.name], capsize=3)
        deviation = float(one.deviation[label])
        if deviation > 0:
            right.plot(deviation, at, "o", color=colours[one.name])
        else:
            right.annotate(
                "no spread", (0.02, at), xycoords=("axes fraction", "data"), fontsize=7, va="center"
            )
    left.set_yticks(range(len(measured)), [one.name for one in measured], fontsize=8)
    left.invert_yaxis()
    left.set_title(f"Gradient by {label}, with two standard errors", fontsize=9)
    left.set_xlabel(f"dashed: {comparison.reference_kind}", fontsize=8)
    spreads = [float(one.deviation[label]) for one in measured if one.deviation[label] > 0]
    if spreads and max(spreads) > 10 * min(spreads):
        right.set_xscale("log")
    else:
        right.set_xlim(0, 1.1 * max(spreads, default=1.0))
    right.set_title("Standard deviation of one run", fontsize=9)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="x", labelsize=7)
        axis.grid(axis="y", alpha=0.25)
    return figure
