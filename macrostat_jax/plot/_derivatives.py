"""Jacobians as heat maps and tornados, and responses to shocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._model import Model
from .._record import Field, Record
from ..diff import Jacobian, LongRun, jvp
from ._parts import COLOURS, DOWN, MOST, UP, line, math, panels, unit
from ._paths import main_variables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARE = 0.01
"""By how much of its value a parameter rises: 1 %."""


def heatmap(jacobian: Jacobian, output: str | None = None, *, by_row: bool = False) -> Figure:
    """The Jacobian of one variable: parameter by time.

    The colour is the response to a rise of the parameter by 1 % of its value (by 0.01 where it is zero),
    so that parameters of any scale can be compared, in the unit of the variable.

    Args:
        jacobian: of a variable's path, with respect to parameters or initial values.
        output: which one, where it has several.
        by_row: every row on a scale of its own, which is written beside it: for the timing of effects that
            differ in size.

    Raises:
        KeyError: an output that was not differentiated. ValueError: one that is no path of scalars.
    """
    name = _output(jacobian, output)
    field = jacobian.model.State.fields.get(name)
    data = np.array(_effects(jacobian, name, SHARE, "heat map"))
    labels = jacobian.columns()
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    sizes = np.nanmax(np.abs(data), axis=1, initial=0.0)
    figure = Figure(figsize=(9, 1.8 + 0.32 * len(labels)), layout="constrained")
    axis = figure.add_subplot()
    measure = unit(field)
    if by_row:
        data = data / np.where(sizes == 0, 1.0, sizes)[:, None]
        labels = [f"{label}  (±{size:.2g})" for label, size in zip(labels, sizes, strict=True)]
    limit = float(np.max(np.abs(data), where=np.isfinite(data), initial=0.0)) or 1.0
    colours = colormaps["RdBu_r"].with_extremes(bad="0.6")  # no derivative
    image = axis.imshow(data, aspect="auto", cmap=colours, vmin=-limit, vmax=limit)
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_xlabel("period")
    title = f"{math(field)}  {name}" if field and field.symbol else name
    axis.set_title(f"{jacobian.model.name}: {title} where a parameter is 1 % higher", fontsize=11)
    bar = figure.colorbar(image, ax=axis, pad=0.02)
    own = measure or "own unit"
    bar.set_label(f"share of the row's largest (±, {own})" if by_row else f"change, {own}")
    return figure


def tornado(
    table: Jacobian | LongRun,
    output: str | None = None,
    *,
    period: int = -1,
    path: Record | None = None,
    most: int = 12,
) -> Figure:
    """What moves a variable most: the effect of each input 1 % higher and 1 % lower, the largest on top.

    To first order; by 0.01 instead of 1 % where an input is zero. In percent of the variable, so that
    the bars are elasticities, where its level is known: of a `LongRun`, or with `path`.

    Args:
        table: of `diff.jacobian`, or of `diff.long_run`.
        output: the variable; default: the first. One of several elements as `output[S1]` (a `LongRun`).
        period: of a Jacobian of paths: when.
        path: what `simulate` returned with the same inputs: the level, for percentages.
        most: how many inputs at most; the smaller ones are counted below the picture.

    Raises:
        KeyError: a variable that was not differentiated. ValueError: one that is no scalar.
    """
    level: float | None = None
    if isinstance(table, LongRun):
        name = output or table.rows[0]
        if name not in table.rows:
            name = table.model.State.key_of(name)
        if name not in table.rows:
            raise KeyError(f"{name!r} is not one of {', '.join(table.rows)}.")
        row = table.rows.index(name)
        effects = table.matrix[row] * np.where(table.at == 0, SHARE, SHARE * table.at)
        labels, level, when = list(table.columns), float(table.levels[row]), "in the long run"
    else:
        name = _output(table, output)
        effects = np.array([row[period] for row in _effects(table, name, SHARE, "tornado")])
        labels = table.columns()
        length = len(next(iter(table.values[name].values())))
        when = f"in period {range(length)[period]}"
        if path is not None:
            level = float(np.asarray(path[name])[period])
    field = table.model.State.fields.get(name.partition("[")[0])
    measure = unit(field) or "own unit"
    if level:
        effects, measure = 100 * effects / abs(level), f"% of {level:.5g} {unit(field)}".strip()
    known = [i for i in np.argsort(-np.abs(effects), kind="stable") if np.isfinite(effects[i])]
    # What rounding leaves of a zero is no effect.
    largest = abs(effects[known[0]]) if known else 0.0
    moving = [i for i in known if abs(effects[i]) > 1e-10 * largest]
    shown = moving[:most]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.9 + 0.34 * max(len(shown), 1)), layout="constrained")
    axis = figure.add_subplot()
    places = np.arange(len(shown))
    axis.barh(places, effects[shown], color=UP, label="1 % higher")
    axis.barh(places, -effects[shown], color=DOWN, label="1 % lower")
    for place, i in zip(places, shown, strict=True):
        size = abs(effects[i])
        axis.annotate(
            f"{effects[i]:+.3g}",
            (size, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axis.set_yticks(places, [labels[i] for i in shown], fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0, color="0.2", linewidth=0.8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.margins(x=0.12)
    left = len(labels) - len(shown)
    few = f"   ({left} more: {'smaller, ' if len(moving) > most else ''}none, or without a derivative)"
    axis.set_xlabel(f"change of {name}, {measure}" + (few if left else ""))
    axis.set_title(f"{table.model.name}: what moves {name} {when}", fontsize=11)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def impulse_response(
    model: Model,
    series: str,
    variables: Sequence[str] | None = None,
    *,
    period: int | None = None,
    size: float = 1.0,
    bands: Sequence[float] = (0.9, 0.5),
    **inputs: Any,
) -> Figure:
    """How variables respond to a shock to one exogenous series in one period, to first order.

    Args:
        model: the model.
        series: the exogenous series.
        variables: which ones; default: the main ones (as in `paths`).
        period: when (0-based); default: half-way, where most models have settled.
        size: of the shock, in the unit of the series.
        bands: in a batch (of parameters drawn from what is known of them, or of keys): the shares of its
            runs that the shaded bands hold, around the median, which is the line.
        inputs: params, scenario, periods, ... as in `simulate`.
    """
    key = model.Scenario.key_of(series)
    periods = inputs.get("periods") or model.periods
    at = periods // 2 if period is None else period
    if not 0 <= at < periods:
        raise ValueError(f"period must lie in 0 to {periods - 1}, not {at}.")
    if not all(0 < share < 1 for share in bands):
        raise ValueError(f"bands are shares of the runs between 0 and 1, not {tuple(bands)}.")
    impulse = np.zeros((periods, *model.Scenario.fields[key].shape))
    impulse[at] = size
    chosen = tuple(variables) if variables else tuple(main_variables(model.State)[:MOST])
    _, responses = jvp(model, chosen, {f"scenario.{key}": impulse}, **inputs)
    exogenous = model.Scenario.fields[key]
    title = (
        f"{model.name}: response to {size:g} {unit(exogenous) or 'unit'} more {math(exogenous)}"
        f" ({key}) in period {at}"
    )
    figure, (axis,) = panels(1, title)
    runs = 0
    curves: list[tuple[list[Field], np.ndarray]] = []
    for name in (model.State.key_of(variable) for variable in chosen):
        field, curve = model.State.fields[name], np.asarray(responses[name])[at:]
        if curve.ndim == len(field.shape) + 2:
            runs = curve.shape[1]
        twins = [
            fields
            for fields, other in curves
            if other.shape == curve.shape and np.allclose(other, curve, rtol=0, atol=1e-12)
        ]
        if twins:  # one line for what moves as one: H_s = H_h
            twins[0].append(field)
        else:
            curves.append(([field], curve))
    for number, (fields, curve) in enumerate(curves):
        also = "  =  " + ", ".join(math(f) for f in fields[1:]) if fields[1:] else ""
        if runs and not fields[0].shape:
            colour, time = COLOURS[number % len(COLOURS)], np.arange(len(curve))
            for share in sorted(bands, reverse=True):
                ends = np.quantile(curve, [(1 - share) / 2, (1 + share) / 2], axis=1)
                axis.fill_between(time, *ends, color=colour, alpha=0.18, linewidth=0)
            axis.plot(
                time,
                np.median(curve, axis=1),
                color=colour,
                label=f"{math(fields[0])}  {fields[0].key}{also}",
            )
        else:
            line(axis, fields[0], np.median(curve, axis=1) if runs else curve, also)
    axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axis.set_xlabel("periods after the shock")
    units = {unit(fields[0]) for fields, _ in curves}
    measure = f", {units.pop()}" if len(units) == 1 and "" not in units else ""
    axis.set_ylabel(f"deviation from the path without it{measure}")
    note = f"median and {', '.join(f'{100 * share:g} %' for share in bands)} of {runs} runs"
    axis.legend(fontsize=8, frameon=False, title=note if runs else None, title_fontsize=8)
    return figure


def _output(jacobian: Jacobian, output: str | None) -> str:
    name = output or next(iter(jacobian.values))
    if name not in jacobian.values and output is not None:
        name = jacobian.model.State.key_of(output)
    if name not in jacobian.values:
        raise KeyError(f"{name!r} was not differentiated: {', '.join(jacobian.values)}.")
    return name


def _effects(jacobian: Jacobian, name: str, share: float, picture: str) -> list[np.ndarray]:
    """The change of the path (T,) where an input's element is higher by a share of its value, for each."""
    rows = []
    for one in jacobian.inputs:
        value, at = np.asarray(jacobian.values[name][one.label]), np.asarray(jacobian.at[one.label])
        if value.ndim != 1 + at.ndim:
            raise ValueError(
                f"A {picture} needs a path of scalars, not {name!r} of shape {value.shape}."
            )
        scaled = value * np.where(at == 0, share, share * at)
        rows += list(scaled.reshape(len(scaled), -1).T)
    return rows
