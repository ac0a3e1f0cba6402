"""Matching data to a model: which column is which variable, and which row which period."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._model import Model
from .._record import Field
from ._calendar import Calendar, find_calendar, lay_out
from ._data import series_of
from ._observed import AGGREGATES, Observed, Series, is_positive, transformed

OFF_BASE = 0.01
"""An index that differs more than this from 1, or from its scale, in its base has another base."""


def match(
    model: Model,
    data: Any,
    observe: Any,
    sigma: Any,
    *,
    start: Any,
    freq: str | None,
    periods: int | None,
    dates: str | None,
    more: Mapping[str, str] | None = None,
) -> tuple[tuple[Series, ...], Calendar, dict[str, tuple[np.ndarray, Any]]]:
    """The observed series of a problem, the periods of its run, and all series of its data.

    Raises:
        KeyError, ValueError: names on either side without a counterpart, with both lists; dates and
            frequencies that do not fit.
    """
    found = {} if data is None else series_of(data, dates)
    asked = _asked(model, found, observe, tuple((more or {}).values()))
    columns = {label: _column(model, label, one, place, found) for label, one, place in asked}
    own = {
        label: _own_frequency(columns[label], found[columns[label]], one) for label, one, _ in asked
    }
    for label, (values, _) in own.items():
        if np.isnan(values).all():
            raise ValueError(f"The data {label!r} (column {columns[label]!r}) hold no observation.")
    needed = {name: found[name] for name in (more or {}).values() if name in found}
    indexes = {label: index[~np.isnan(values)] for label, (values, index) in own.items()}
    indexes |= {name: index[~np.isnan(values)] for name, (values, index) in needed.items()}
    calendar = find_calendar(indexes, start, freq, periods, model.periods)
    sigmas = _sigmas(sigma, [(label, columns[label]) for label, *_ in asked])
    matched = tuple(
        _matched(model, label, one, place, own[label], found, calendar, sigmas[label])
        for label, one, place in asked
    )
    return matched, calendar, found


def _asked(
    model: Model, found: Mapping[str, Any], observe: Any, exogenous: tuple[str, ...]
) -> list[tuple[str, Observed, Any]]:
    """(label, how, place of the variable) of everything observed; place is None for a function."""
    if isinstance(observe, str):
        observe = [observe]
    if observe is None:
        observe = [name for name in found if name not in exogenous]
        unknown = [name for name in observe if not _known(model, name)]
        if unknown:
            raise KeyError(
                f"These columns of the data are no variables of {model.name}: {', '.join(unknown)}. Say "
                f"what is observed, observe={{variable: column}}. Variables: "
                f"{', '.join(model.State.fields)}."
            )
    if not isinstance(observe, Mapping):
        observe = dict.fromkeys(observe)
    asked: list[tuple[str, Observed, Any]] = []
    for label, how in observe.items():
        how = how if isinstance(how, Observed) else Observed(how)
        if how.of is not None:
            asked.append((label, how, None))
            continue
        for name, place in _places(model, label):
            if how.column is not None and (place[1] and name != label):
                raise ValueError(
                    f"{label!r} has the shape {model.State.fields[place[0]].shape}: give each element "
                    f"its column, as in {{{name!r}: {how.column!r}}}."
                )
            asked.append((name, how, place))
    if not asked and found:
        raise ValueError(
            "Nothing is observed: observe={variable: column} says what the data measure."
        )
    labels = [label for label, *_ in asked]
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"A variable is observed twice: {labels}. Use Observed(of=...) for one of them."
        )
    return asked


def _known(model: Model, name: str) -> bool:
    try:
        return bool(_places(model, name))
    except KeyError:
        return False


def _places(model: Model, name: str) -> list[tuple[str, tuple[str, tuple[int, ...]]]]:
    """`"x"`, `"x[1]"` or `"X.Farms"` as (label, (field, element)); all elements of a field with a shape.

    Brackets hold positions, counted from 0, or labels; what follows the dot are labels, as tables have them.
    """
    base, bracket, element = name.partition("[")
    if bracket:
        key = model.State.key_of(base)
        return [(name, (key, _element(model.State.fields[key], element.rstrip("]").split(","))))]
    try:
        key = model.State.key_of(name)
    except KeyError:
        base, *slots = name.split(".")
        if not slots:
            raise
        key = model.State.key_of(base)
        return [(name, (key, _element(model.State.fields[key], slots, by_label=True)))]
    field = model.State.fields[key]
    if not field.shape:
        return [(name, (key, ()))]
    return [
        (f"{key}[{','.join(map(str, at))}]", (key, tuple(at))) for at in np.ndindex(*field.shape)
    ]


def _element(field: Field, slots: Sequence[str], *, by_label: bool = False) -> tuple[int, ...]:
    """The position that one slot of each axis makes: a label may be a number itself."""
    if len(slots) != len(field.axes):
        raise KeyError(f"{field.key!r} has the shape {field.shape}: {slots} is no element of it.")
    found = []
    for slot, axis in zip(slots, field.axes, strict=True):
        part = slot.strip()
        numbers = {str(i): i for i in range(axis.size)}
        labels = {label: i for i, label in enumerate(axis.slots)}
        known = numbers | labels if by_label else labels | numbers
        if part not in known:
            raise KeyError(f"{field.key!r} has no element {part!r}: {', '.join(axis.slots)}.")
        found.append(known[part])
    return tuple(found)


def _column(model: Model, label: str, how: Observed, place: Any, found: Mapping[str, Any]) -> str:
    """The column of the data that is meant.

    Raises:
        KeyError: with the columns that there are.
    """
    candidates = [how.column] if how.column is not None else [label, *_spellings(model, place)]
    for one in candidates:
        if one in found:
            return one
    if how.column is None and len(found) == 1 and next(iter(found)) == "data":
        return "data"
    wanted = f"column {how.column!r}" if how.column is not None else f"column for {label!r}"
    raise KeyError(
        f"The data have no {wanted} (looked for {', '.join(map(repr, candidates))}). Columns: "
        f"{', '.join(found) or 'none'}."
    )


def _spellings(model: Model, place: Any) -> list[str]:
    """How tables name a variable or an element of one."""
    if place is None:
        return []
    key, element = place
    field = model.State.fields[key]
    slots = [axis.slots[i] for axis, i in zip(field.axes, element, strict=True)]
    ends = {"".join(f".{slot}" for slot in slots)}
    if element:
        ends.add(f"[{','.join(map(str, element))}]")
    return [f"{name}{end}" for name in (key, field.name) for end in sorted(ends)]


def _own_frequency(
    column: str, series: tuple[np.ndarray, Any], how: Observed
) -> tuple[np.ndarray, Any]:
    """The series in its own frequency, where that is lower than its table's."""
    if how.freq is None:
        return series
    values, index = series
    if not hasattr(index, "asfreq"):
        raise ValueError(
            f"freq={how.freq!r} of the column {column!r} needs dates, not {index[:3]}."
        )
    seen = ~np.isnan(values)
    own = index[seen].asfreq(how.freq)
    if own.has_duplicates:
        twice = own[own.duplicated()][0]
        raise ValueError(
            f"The column {column!r} has several values in {twice}: freq={how.freq!r} is for a column that "
            "has one value in each; aggregate it first."
        )
    return values[seen], own


def _sigmas(sigma: Any, asked: list[tuple[str, str]]) -> dict[str, float | None]:
    if isinstance(sigma, Mapping):
        known = {label for label, _ in asked} | {column for _, column in asked}
        if unknown := set(sigma).difference(known):
            raise KeyError(
                f"sigma names {sorted(unknown)}; observed are {[label for label, _ in asked]}."
            )
        given = {label: sigma.get(label, sigma.get(column)) for label, column in asked}
    else:
        given = {label: sigma for label, _ in asked}
    for label, value in given.items():
        if value is not None and not is_positive(value):
            raise ValueError(f"The sigma of {label!r} must be a positive number, not {value!r}.")
    return {label: None if value is None else float(value) for label, value in given.items()}


def _matched(
    model: Model,
    label: str,
    how: Observed,
    place: Any,
    own: tuple[np.ndarray, Any],
    found: Mapping[str, Any],
    calendar: Calendar,
    sigma: float | None,
) -> Series:
    values, index = own
    column, spans, dates = lay_out(label, values, index, calendar)
    if how.over_column is not None:
        column = column / _divisor(label, how, found, calendar, dates)
    divided = None if how.over is None else _single(model, label, how.over)
    aggregate = _aggregate(model, label, how, place, spans)
    base = _base(label, how, column, dates) if how.transform == "index" else None
    table = column
    if not how.transformed:
        with np.errstate(divide="ignore", invalid="ignore"):
            table = np.asarray(transformed(column, how, np, base), float)
        _check_defined(label, how, column, table)
    rows = np.flatnonzero(~np.isnan(table))
    if not len(rows):
        raise ValueError(f"The data {label!r} hold no observation ({how.transform}).")
    _check_reach(label, how, rows, dates)
    target = table[rows]
    spread = float(np.std(target)) if len(target) > 1 else 0.0
    if spread <= 1e-12 * np.abs(target).max():
        spread = float(np.abs(target).max()) or 1.0
    # int32, which JAX takes in either mode.
    spans, rows = spans.astype(np.int32), rows.astype(np.int32)
    base = None if base is None else base.astype(np.int32)
    return Series(
        label, how, (place, divided), spans, aggregate, base, rows, target, tuple(dates), table,
        how.sigma if how.sigma is not None else sigma, spread,
    )  # fmt: skip


def _check_defined(label: str, how: Observed, column: np.ndarray, table: np.ndarray) -> None:
    """No observation is lost to a logarithm of a negative number, or a growth rate from 0."""
    there = ~np.isnan(column)
    if table.shape != column.shape:
        raise ValueError(
            f"The transform of {label!r} makes {table.shape} of {column.shape}: keep the length, with NaN "
            "where it is not defined."
        )
    if how.transform in ("difference", "growth", "log_growth"):
        there = there & np.concatenate([np.zeros(how.lag, bool), there[: -how.lag]])[: len(there)]
    defined = ~np.isinf(table) if callable(how.transform) else np.isfinite(table) | ~there
    if not defined.all():
        at = int(np.flatnonzero(~defined)[0])
        raise ValueError(
            f"The transform {how.transform!r} of the data {label!r} is not finite in "
            f"{int((~defined).sum())} places, first for the value {column[at]:g}: a logarithm needs "
            "positive numbers, a growth rate numbers other than 0."
        )


def _check_reach(label: str, how: Observed, rows: np.ndarray, dates: Sequence[str]) -> None:
    """The model's side of a change needs the date before, within the run."""
    if how.transform in ("difference", "growth", "log_growth") and rows[0] < how.lag:
        raise ValueError(
            f"The {how.transform} of {label!r} in {dates[rows[0]]} needs the model's value "
            f"{how.lag} earlier, before the run begins: start it earlier, or leave out the first data."
        )


def _divisor(
    label: str, how: Observed, found: Mapping[str, Any], calendar: Calendar, dates: Sequence[str]
) -> np.ndarray:
    assert how.over_column is not None
    if how.over_column not in found:
        raise KeyError(f"The data have no column {how.over_column!r}. Columns: {', '.join(found)}.")
    values, index = _own_frequency(how.over_column, found[how.over_column], how)
    column, _, others = lay_out(how.over_column, values, index, calendar)
    if list(others) != list(dates):
        raise ValueError(f"The columns of the ratio {label!r} are of different frequencies.")
    if (column == 0).any():
        raise ValueError(f"The column {how.over_column!r}, a divisor, holds 0.")
    return column


def _single(model: Model, label: str, name: str) -> Any:
    places = _places(model, name)
    if len(places) > 1:
        raise ValueError(
            f"The ratio {label!r} is over {name!r}, which has several elements: name one."
        )
    return places[0][1]


def _aggregate(
    model: Model, label: str, how: Observed, place: Any, spans: np.ndarray
) -> str | None:
    """How periods make the data's dates; None where they are the same."""
    if (spans[:, 0] == spans[:, 1]).all():
        return None
    if how.aggregate is not None:
        return how.aggregate
    role = None if place is None or how.over is not None else model.State.fields[place[0]].role
    rule = {"flow": "sum", "stock": "last"}.get(role or "")
    if rule is None:
        raise ValueError(
            f"The data {label!r} are of lower frequency than the run, and {label!r} is neither a flow, "
            f"which is summed, nor a stock, of which the last counts: say aggregate=, one of "
            f"{', '.join(AGGREGATES)}."
        )
    return rule


def _base(label: str, how: Observed, column: np.ndarray, dates: Sequence[str]) -> np.ndarray:
    """The positions of the dates of an index's base."""
    seen = np.flatnonzero(~np.isnan(column))
    if how.base is None:
        if how.transformed:
            raise ValueError(
                f"The column of {label!r} is an index already: say its base=, the date or (first, last) at "
                f"which it is {how.scale:g}."
            )
        return seen[:1]
    first, last = how.base if isinstance(how.base, tuple) else (how.base, how.base)
    ends = []
    for one in (first, last):
        if str(one) not in dates:
            raise ValueError(
                f"The base {one!r} of the index {label!r} is not among its dates {dates[0]} to {dates[-1]}."
            )
        ends.append(list(dates).index(str(one)))
    base = np.arange(ends[0], ends[1] + 1)
    if not len(base) or (not how.transformed and np.isnan(column[base]).any()):
        raise ValueError(f"The data {label!r} are missing in its base {how.base!r}.")
    level = float(column[base].mean()) / how.scale
    if how.transformed and abs(level - 1) > OFF_BASE:
        raise ValueError(
            f"The index {label!r} is {column[base].mean():g} in its base {how.base!r}, where it should be "
            f"scale={how.scale:g}."
        )
    return base
