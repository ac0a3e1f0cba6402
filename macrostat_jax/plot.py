"""Pictures of paths, Jacobians and impulse responses, as matplotlib figures.

Every function returns a `matplotlib.figure.Figure` that no window or global state knows of: show it in a
notebook, or `figure.savefig("picture.png")`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._model import Model
from ._record import Field, Record
from ._simulate import simulate
from .diff import Jacobian, jvp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 8
"""How many lines one panel can bear."""


def paths(path: Record, variables: Sequence[str] | None = None, *, title: str = "") -> Figure:
    """The paths of a simulation over time, one panel per unit.

    Args:
        path: what `simulate` returned, leaves of shape (T,) or (T, n).
        variables: which ones, by either name; default: the stocks and flows, and the index variables
            without a namesake among them.
        title: the figure's title.
    """
    keys = [path.key_of(name) for name in variables] if variables else _main(path)
    units: dict[str, list[str]] = {}
    for key in keys:
        units.setdefault(path.fields[key].unit, []).append(key)
    figure, axes = _panels(len(units), title)
    for axis, (unit, members) in zip(axes, units.items(), strict=True):
        for key in members:
            _line(axis, path.fields[key], np.asarray(getattr(path, key)))
        axis.set_ylabel(unit if unit not in ("", ".") else "share or rate")
        axis.set_xlabel("period")
        axis.legend(fontsize=8, frameon=False)
    return figure


def scenario(
    model: Model,
    name: str | None = None,
    variables: Sequence[str] | None = None,
    **inputs: Any,
) -> Figure:
    """What a scenario does, one small panel per variable, beside the default scenario (dashed).

    Args:
        model: the model.
        name: one of `model.scenarios`; None is the default one.
        variables: which ones, by either name; default: six that it changes: incomes first, then
            stocks, flows and others.
        inputs: params, periods, ... as in `simulate`; a random model runs with the key 0 by default.
    """
    if model.random or model.random_start:
        inputs.setdefault("key", jax.random.key(0))
    path = simulate(model, scenario=name, **inputs)
    runs: dict[str, tuple[Any, str, str | None]] = {name or "default": (path, "-", None)}
    if name is not None:
        runs["default"] = (simulate(model, **inputs), "--", "0.5")
    chosen = variables or _telling(path, runs["default"][0])
    keys = [model.State.key_of(one) for one in chosen]
    from matplotlib.figure import Figure

    columns = min(len(keys), 3)
    rows = -(-len(keys) // columns)
    figure = Figure(figsize=(2.9 * columns, 2.0 * rows + 0.3), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for panel in panels[len(keys) :]:
        panel.set_axis_off()
    for panel, key in zip(panels, keys, strict=False):
        field = model.State.fields[key]
        for label, (path, style, colour) in runs.items():
            values = np.asarray(getattr(path, key))
            lines = values.reshape(len(values), -1)[:, :MOST]
            drawn = panel.plot(lines, style, color=colour, linewidth=1.2)
            drawn[0].set_label(label)
        panel.set_title(f"{_math(field)}  {key}" if field.symbol else key, fontsize=8)
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    if name is not None:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8
        )
    return figure


def heatmap(jacobian: Jacobian, output: str | None = None) -> Figure:
    """The Jacobian of one variable: parameter by time.

    The colour is the response to a rise of the parameter by 1 % of its value (by 0.01 where it is zero),
    so that parameters of any scale can be compared, in the unit of the variable.

    Args:
        jacobian: of a variable's path, with respect to parameters or initial values.
        output: which one, where it has several.

    Raises:
        ValueError: an output that is no path of scalars.
    """
    name = output or next(iter(jacobian.values))
    columns = jacobian.values[name]
    field = jacobian.model.State.fields.get(name)
    rows, labels = [], []
    for one in jacobian.inputs:
        value, at = np.asarray(columns[one.label]), np.asarray(jacobian.at[one.label])
        if value.ndim != 1 + at.ndim:
            raise ValueError(
                f"A heat map needs a path of scalars, not {name!r} of shape {value.shape}."
            )
        scaled = value * np.where(at == 0, 0.01, 0.01 * at)
        rows += list(scaled.reshape(len(scaled), -1).T)
    labels = jacobian.columns()
    data = np.array(rows)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.32 * len(labels)), layout="constrained")
    axis = figure.add_subplot()
    limit = float(np.nanmax(np.abs(data))) or 1.0
    image = axis.imshow(data, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_xlabel("period")
    title = _math(field) if field else name
    axis.set_title(f"{jacobian.model.name}: response of {title} to a 1 % rise of each parameter")
    bar = figure.colorbar(image, ax=axis)
    bar.set_label(field.unit if field else "")
    return figure


def impulse_response(
    model: Model,
    series: str,
    variables: Sequence[str] | None = None,
    *,
    period: int | None = None,
    size: float = 1.0,
    **inputs: Any,
) -> Figure:
    """How variables respond to a shock to one exogenous series in one period, to first order.

    Args:
        model: the model.
        series: the exogenous series.
        variables: which ones; default: the main ones (as in `paths`).
        period: when (0-based); default: half-way, where most models have settled.
        size: of the shock, in the unit of the series.
        inputs: params, scenario, periods, ... as in `simulate`.
    """
    key = model.Scenario.key_of(series)
    periods = inputs.get("periods") or model.periods
    at = periods // 2 if period is None else period
    if not 0 <= at < periods:
        raise ValueError(f"period must lie in 0 to {periods - 1}, not {at}.")
    impulse = np.zeros((periods, *model.Scenario.fields[key].shape))
    impulse[at] = size
    chosen = tuple(variables) if variables else tuple(_main(model.State)[:MOST])
    _, responses = jvp(model, chosen, {f"scenario.{key}": impulse}, **inputs)
    exogenous = model.Scenario.fields[key]
    unit = exogenous.unit if exogenous.unit not in ("", ".") else "unit"
    title = f"{model.name}: response to {size:g} {unit} more {_math(exogenous)} in period {at}"
    figure, (axis,) = _panels(1, title)
    curves: list[tuple[list[Field], np.ndarray]] = []
    for name in (model.State.key_of(variable) for variable in chosen):
        curve = np.asarray(responses[name])[at:]
        twins = [
            fields
            for fields, other in curves
            if other.shape == curve.shape and np.allclose(other, curve, rtol=0, atol=1e-12)
        ]
        if twins:  # one line for what moves as one: H_s = H_h
            twins[0].append(model.State.fields[name])
        else:
            curves.append(([model.State.fields[name]], curve))
    for fields, curve in curves:
        also = "  =  " + ", ".join(_math(f) for f in fields[1:]) if fields[1:] else ""
        _line(axis, fields[0], curve, also)
    axis.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    axis.set_xlabel("periods after the shock")
    axis.set_ylabel("deviation from the path without it")
    axis.legend(fontsize=8, frameon=False)
    return figure


def _main(record: Any) -> list[str]:
    """The variables worth a look: stocks and flows, income first; no copies that the accounts already show."""
    fields = record.fields
    accounts = [key for key, field in fields.items() if field.role in ("flow", "stock")]
    income = [key for key in ("national_income", "disposable_income") if key in fields]
    chosen = list(dict.fromkeys([*income, *accounts])) or list(fields)
    return chosen[:MOST]


def _telling(path: Any, default: Any) -> list[str]:
    """Six variables that a scenario changes, or that move in the default one."""
    roles = {"stock": 1, "flow": 2, "index": 3}
    roles |= dict.fromkeys(("national_income", "disposable_income"), 0)
    fields = path.fields
    keys = sorted(fields, key=lambda key: roles.get(key, roles[fields[key].role]))

    def moves(key: str) -> bool:
        values, others = np.asarray(getattr(path, key)), np.asarray(getattr(default, key))
        return not np.allclose(values, values[:1] if path is default else others, equal_nan=True)

    return [key for key in keys if moves(key)][:6] or keys[:6]


def _panels(count: int, title: str) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4 * count + 0.6), layout="constrained")
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title)
    return figure, list(axes)


def _line(axis: Any, field: Field, values: np.ndarray, also: str = "") -> None:
    slots = [name for one in field.axes for name in one.slots]
    time = np.arange(len(values))
    if values.ndim == 1:
        axis.plot(time, values, label=f"{_math(field)}  {field.key}{also}")
        return
    for i, column in enumerate(values.reshape(len(values), -1).T[:MOST]):
        axis.plot(time, column, label=f"{field.key} {slots[i] if i < len(slots) else i}")


def _math(field: Field) -> str:
    return f"${field.symbol}$" if field.symbol else field.key
