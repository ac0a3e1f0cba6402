"""Posteriors: densities with their priors, traces, and parameters against each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._parts import COLOURS, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..estimation import Posterior

MOST_ROWS, MOST_PAIRS = 12, 6
BINS = 40


def _chosen(found: Posterior, names: Sequence[str] | None, most: int) -> list[str]:
    chosen = list(names) if names is not None else list(found.names[:most])
    for name in chosen:
        found[name]  # an error names the unknown one
    return chosen


def posterior(found: Posterior, names: Sequence[str] | None = None) -> Figure:
    """A row per parameter: the density of its draws and of its prior, and the trace of every chain."""
    from matplotlib.figure import Figure

    chosen = _chosen(found, names, MOST_ROWS)
    traced = found.elbo is None
    figure = Figure(figsize=(10, 1.9 * len(chosen) + 0.8), layout="constrained")
    axes = figure.subplots(len(chosen), 2, squeeze=False, width_ratios=(1, 1.5 if traced else 0.01))
    for (left, right), name in zip(axes, chosen, strict=True):
        _density(left, found, name)
        if traced:
            _trace(right, found, name)
        else:
            right.set_axis_off()
    axes[-1, 1].set_xlabel("draw" if traced else "")
    # That of a parameter which has a prior, if there is one, explains all.
    most = max(axes[:, 0], key=lambda axis: len(axis.get_legend_handles_labels()[1]))
    most.legend(fontsize=8, frameon=False)
    left = len(found.names) - len(chosen)
    more = f" ({left} parameters more)" if left else ""
    figure.suptitle(
        f"{found.problem.model.name}: {len(found):,} draws by {found.method}{more}", fontsize=11
    )
    return figure


def _density(axis: Any, found: Posterior, name: str) -> None:
    bare(axis)
    draws = found[name].ravel()
    draws = draws[np.isfinite(draws)]
    _, edges, _ = axis.hist(
        draws, bins=BINS, density=True, color=COLOURS[0], alpha=0.35, label="posterior"
    )
    low, high = np.quantile(draws, [0.05, 0.95])
    axis.axvline(float(np.mean(draws)), color=COLOURS[0], label="mean")
    axis.plot(
        [low, high], [0, 0], color=COLOURS[0], linewidth=5, solid_capstyle="butt", label="90 %"
    )
    at = np.linspace(edges[0], edges[-1], 200)
    if known := found.prior(name):
        prior, bounds = known
        # What lies outside the bounds is not possible: the rest has all of the mass.
        density = np.exp(np.asarray(prior.logpdf(at))) / prior.mass(*bounds)
        axis.plot(at, density, color="0.45", linestyle="--", label="prior")
    axis.set_yticks([])
    axis.set_title(name, fontsize=9, loc="left")


def _trace(axis: Any, found: Posterior, name: str) -> None:
    bare(axis)
    draws = found[name]
    for chain in draws:
        axis.plot(chain, linewidth=0.5, alpha=0.8)
    chains, at = np.nonzero(found.divergent)
    if len(at):
        axis.plot(
            at, draws[chains, at], "|", color="black", markersize=8, label=f"{len(at)} diverged"
        )
        axis.legend(fontsize=8, frameon=False, loc="upper right")
    axis.set_xlim(0, draws.shape[1])


def pairs(found: Posterior, names: Sequence[str] | None = None) -> Figure:
    """Parameters against each other; on the diagonal their densities, above it their correlations."""
    from matplotlib.figure import Figure

    chosen = _chosen(found, names, MOST_PAIRS)
    count = len(chosen)
    figure = Figure(figsize=(1.6 + 1.9 * count, 1.2 + 1.7 * count), layout="constrained")
    axes = figure.subplots(count, count, squeeze=False)
    draws = np.stack([found[name].ravel() for name in chosen])
    # A few thousand points show the shape; more only fill the file.
    some = np.random.default_rng(0).permutation(draws.shape[1])[:2000]
    diverged = found.divergent.ravel()
    for i in range(count):
        for j in range(count):
            axis = axes[i, j]
            bare(axis)
            if i == j:
                axis.hist(draws[i], bins=BINS, color=COLOURS[0], alpha=0.35)
                axis.set_yticks([])
            elif i > j:
                axis.plot(
                    draws[j, some], draws[i, some], ".", color=COLOURS[0], markersize=2, alpha=0.35
                )
                axis.plot(
                    draws[j, diverged], draws[i, diverged], "x", color=COLOURS[1], markersize=4
                )
            else:
                _correlation(axis, draws[i], draws[j])
            if i < count - 1 or j > i:
                axis.tick_params(labelbottom=False)
            if j or i == 0:
                axis.tick_params(labelleft=False)
            axis.tick_params(labelsize=7)
        axes[i, 0].set_ylabel(_wrapped(chosen[i]), fontsize=8)
        axes[-1, i].set_xlabel(_wrapped(chosen[i]), fontsize=8)
    note = f", {int(diverged.sum())} divergent ones as crosses" if diverged.any() else ""
    figure.suptitle(f"{found.problem.model.name}: draws by {found.method}{note}", fontsize=11)
    return figure


def _correlation(axis: Any, one: np.ndarray, other: np.ndarray) -> None:
    share = float(np.corrcoef(one, other)[0, 1])
    axis.set_axis_off()
    axis.text(0.5, 0.5, f"{share:+.2f}", ha="center", va="center", fontsize=9 + 7 * abs(share),
              transform=axis.transAxes)  # fmt: skip


def _wrapped(name: str, width: int = 16) -> str:
    """A name over several lines, broken after underscores."""
    lines = [""]
    for part in name.replace("_", "_ ").split():
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
