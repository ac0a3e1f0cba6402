"""Eigenvalues, patterns of nonzeros, and ladders of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..diff import Stability
from ._parts import COLOURS, DOWN, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALF_LIVES = (1, 4, 16)
"""Where the map of eigenvalues has rings, in periods."""
MARKS: dict[str, dict[str, Any]] = {
    "simple": dict(marker="o", label="simple"),
    "repeated": dict(marker="D", label="repeated"),
    "defective": dict(marker="X", label="defective"),
    "conserved": dict(marker="s", facecolor="none", label="unit root of what is conserved"),
    "zero": dict(marker="x", label="zero"),
}
LABELLED = 6
"""How many eigenvalues are written out."""


def eigenvalues(found: Stability, *, by: str | None = None, share: float = 0.1) -> Figure:
    """The eigenvalues of a steady state in the complex plane, with the unit circle and rings of half-lives.

    Args:
        found: of `diff.stability`.
        by: an input (an entry of `found.columns`): arrows show to where the eigenvalues go, to first
            order, where it is higher by `share` of its value (by `share` where that is zero).
        share: by how much.

    Raises:
        KeyError: an input by which they were not differentiated.
    """
    from matplotlib.figure import Figure

    if by is not None and by not in found.columns:
        raise KeyError(f"{by!r} is not one of {', '.join(found.columns)}.")
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    axis = figure.add_subplot()
    turn = np.linspace(0, 2 * np.pi, 400)
    axis.fill(np.cos(turn), np.sin(turn), color="0.96", zorder=0)
    axis.plot(np.cos(turn), np.sin(turn), color="0.2", linewidth=1.2, zorder=1)
    for half in HALF_LIVES:
        radius = 0.5 ** (1 / half)
        axis.plot(radius * np.cos(turn), radius * np.sin(turn), ":", color="0.6", linewidth=0.8)
        axis.annotate(
            f"{half} period{'s' * (half > 1)}",
            (radius * np.cos(2.2), radius * np.sin(2.2)),
            fontsize=7,
            color="0.4",
            ha="center",
            bbox=dict(facecolor="0.96", edgecolor="none", pad=0.5),
        )
    axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axis.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    kinds = np.array(found.kinds)
    for number, (kind, mark) in enumerate(MARKS.items()):
        at = found.eigenvalues[kinds == kind]
        if len(at):
            colour = "0.4" if kind in ("zero", "conserved") else COLOURS[number]
            face = (
                dict(facecolor=colour, edgecolor=colour) if kind != "zero" else dict(color=colour)
            )
            look: Any = {**face, **mark, "label": f"{mark['label']} ({len(at)})"}
            axis.scatter(at.real, at.imag, s=34, zorder=3, linewidth=1.4, **look)
    written = [
        i
        for i, kind in enumerate(kinds)
        if kind not in ("zero", "conserved") and found.eigenvalues[i].imag >= 0
    ][:LABELLED]
    listed = []
    for number, i in enumerate(written, 1):
        value = found.eigenvalues[i]
        above = 7 if number % 2 else -14
        axis.annotate(
            f"{number}", (value.real, value.imag), xytext=(-2, above), textcoords="offset points",
            fontsize=8, zorder=5,
        )  # fmt: skip
        text = f"{value.real:.3g}" + (f" ± {value.imag:.3g}i" if value.imag else "")
        half, cycle = found.half_lives[i], found.cycles[i]
        text += f"\n    half-life {half:.3g}" if np.isfinite(half) else "\n    does not die out"
        text += f", cycle {cycle:.3g}" if np.isfinite(cycle) else ""
        listed.append(
            f"{number}   {text}\n    {found.variables[int(np.argmax(found.participation[i]))]}"
        )
    axis.text(1.02, 1.0, "\n\n".join(listed), transform=axis.transAxes, va="top", fontsize=8)
    if by is not None:
        _arrows(axis, found, by, share)
    reach = 1.15 * max(1.0, float(np.max(np.abs(found.eigenvalues), initial=0.0)))
    axis.set_xlim(-reach, reach)
    axis.set_ylim(-reach, reach)
    axis.set_aspect("equal")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlabel("real part")
    axis.set_ylabel("imaginary part")
    moved = f"; arrows: {by} {100 * share:g} % higher" if by else ""
    axis.set_title(
        f"{found.model.name}: eigenvalues at rest, spectral radius {found.spectral_radius:.4g}\n"
        f"rings: half-lives{moved}",
        fontsize=11,
    )
    axis.legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def _arrows(axis: Any, found: Stability, by: str, share: float) -> None:
    column = found.columns.index(by)
    step = share * found.at[column] if found.at[column] else share
    for value, slope in zip(found.eigenvalues, found.slopes[:, column], strict=True):
        move = slope * step
        if np.isfinite(move) and abs(move) > 1e-12:
            axis.annotate(
                "",
                (value.real + move.real, value.imag + move.imag),
                xytext=(value.real, value.imag),
                arrowprops=dict(
                    arrowstyle="-|>",
                    color=DOWN,
                    linewidth=1.1,
                    mutation_scale=9,
                    shrinkA=0,
                    shrinkB=0,
                ),
                zorder=4,
            )


def sparsity(
    pattern: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """The nonzeros of a Jacobian, and how few products find them.

    Args:
        pattern: of `diff.step_sparsity`: the colour of an entry is then the product that finds it; or a
            boolean matrix (R, C).
        rows, columns: the labels of a matrix; a `Sparsity` brings its own.
        title: default: what there is to count.

    Raises:
        ValueError: labels that do not fit the matrix.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    said, groups = "", None
    if hasattr(pattern, "colours"):
        frame = pattern.to_pandas()
        rows, columns = list(frame.index), list(frame.columns)
        groups = np.asarray(pattern.colours)
        groups = groups[None, :] if pattern.by == "columns" else groups[:, None]
        said = f", {pattern.products} products by {pattern.by}"
        title = title or f"{pattern.model.name}: a step's derivative"
        pattern = frame.to_numpy()
    matrix = np.asarray(pattern).astype(bool)
    if matrix.ndim != 2:
        raise ValueError(f"A pattern is a matrix, not of shape {matrix.shape}.")
    for labels, size, what in (
        (rows, matrix.shape[0], "rows"),
        (columns, matrix.shape[1], "columns"),
    ):
        if labels is not None and len(labels) != size:
            raise ValueError(f"{size} {what} need as many labels, not {len(labels)}.")
    shade = np.where(matrix, 0 if groups is None else groups % len(COLOURS), np.nan)
    cell = min(0.26, 9 / max(matrix.shape))
    size = (cell * matrix.shape[1] + 3.2, cell * matrix.shape[0] + 2.6)
    figure = Figure(figsize=(max(size[0], 5), max(size[1], 3.5)), layout="constrained")
    axis = figure.add_subplot()
    colours = ListedColormap(COLOURS)
    axis.imshow(shade, cmap=colours, vmin=-0.5, vmax=len(COLOURS) - 0.5, interpolation="none")
    small = 7 if cell > 0.12 else 4
    if cell > 0.05:
        axis.set_xticks(
            range(matrix.shape[1]), _labels(columns, matrix.shape[1]), fontsize=small, rotation=90
        )
        axis.set_yticks(range(matrix.shape[0]), _labels(rows, matrix.shape[0]), fontsize=small)
        axis.set_xticks(np.arange(-0.5, matrix.shape[1]), minor=True)
        axis.set_yticks(np.arange(-0.5, matrix.shape[0]), minor=True)
        axis.grid(which="minor", color="0.9", linewidth=0.5)
        axis.tick_params(which="minor", length=0)
    axis.set_xlabel("with respect to")
    count = f"{int(matrix.sum()):,} of {matrix.size:,} nonzero{said}"
    axis.set_title(f"{title}\n{count}" if title else count, fontsize=10)
    return figure


def _labels(labels: Sequence[str] | None, size: int) -> list[str]:
    return [str(i) for i in range(size)] if labels is None else list(labels)


def step_ladder(
    steps: Any,
    differences: Any | Mapping[str, Any],
    reference: float | None = None,
    *,
    label: str = "",
    noise: Any = None,
) -> Figure:
    """Difference quotients over a ladder of steps: smooth, kink or jump?

    On the left the quotients: of a smooth function they settle as the step shrinks, to both sides at the
    same value; at a kink to two values; at a jump they grow as 1 / step. On the right, with a
    reference, how far they are from it: falling with the step (slope 1 or 2) until rounding takes over.

    Args:
        steps: (K,), greater than 0.
        differences: the quotients (K,), or name -> (K,), for instance `{"right": ..., "left": ...}`.
        reference: the derivative under test.
        label: of what by what.
        noise: (K,), what rounding may have done to the quotients.

    Raises:
        ValueError: steps that are not positive, or quotients of another length.
    """
    from matplotlib.figure import Figure

    steps = np.asarray(steps, float)
    curves = (
        dict(differences)
        if isinstance(differences, Mapping)
        else {"difference quotient": differences}
    )
    if steps.ndim != 1 or not np.all(steps > 0):
        raise ValueError("The steps are a list of numbers greater than 0.")
    curves = {name: np.asarray(values, float) for name, values in curves.items()}
    for name, values in curves.items():
        if values.shape != steps.shape:
            raise ValueError(f"{name!r} has the shape {values.shape}, for {len(steps)} steps.")
    count = 1 if reference is None else 2
    figure = Figure(figsize=(4.8 * count + 0.4, 3.9), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    marks = "osD^v"
    for axis in axes:
        bare(axis)
        axis.set_xscale("log")
        axis.set_xlabel("step")
    for number, (name, values) in enumerate(curves.items()):
        look: Any = dict(marker=marks[number % 5], markersize=4, linewidth=1.1, label=name)
        axes[0].plot(steps, values, **look)
        if reference is not None:
            gap = np.abs(values - reference)
            axes[1].plot(steps, np.where(gap > 0, gap, np.nan), **look)
    axes[0].set_ylabel("difference quotient")
    if reference is not None:
        axes[0].axhline(reference, color="0.3", linewidth=0.9, linestyle="--", label="reference")
        axes[1].set_yscale("log")
        axes[1].set_ylabel("distance from the reference")
    if noise is not None:
        noise = np.asarray(noise, float)
        if count == 2:
            axes[1].plot(steps, noise, ":", color="0.4", label="rounding")
        else:
            middle: Any = np.mean(list(curves.values()), axis=0)
            axes[0].fill_between(
                steps, middle - noise, middle + noise, color="0.85", label="rounding"
            )
    for axis in axes:
        axis.legend(fontsize=8, frameon=False)
    figure.suptitle(f"Step ladder: {label}" if label else "Step ladder", fontsize=11)
    return figure
