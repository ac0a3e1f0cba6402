"""What is observed: which variable a series of the data measures, in what form, and how well."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._model import Model
from .._record import Field
from ._data import Calendar, find_calendar, lay_out, series_of

TRANSFORMS = ("level", "log", "difference", "growth", "log_growth", "index")
AGGREGATES = ("sum", "mean", "last", "first")


@dataclasses.dataclass(frozen=True, eq=False)
class Observed:
    """How one variable is observed.

    Args:
        column: of the data; default: the variable's own name.
        transform: what of both sides is compared: `"level"`, `"log"`, `"difference"`, `"growth"`
            (x / x_{-1} - 1), `"log_growth"`, `"index"` (x over its mean in the base period); or a
            function `(x, xp) -> x` of the whole series (A,), with xp either numpy or jax.numpy, that
            puts NaN where it is not defined.
        transformed: the column holds the transformed series already: growth rates, say.
        lag: how many dates back a growth or difference goes: 4 for a year of quarters.
        base: the date that an index has for its base, or (first, last); default: the first observed.
        of: instead of a variable of that name, a function of the path (`State` with leaves (T, *shape))
            that gives (T,): a sum, a ratio, a rate. It must be traceable.
        over: another variable: the ratio to it is observed.
        over_column: the column by which the data are divided to give the ratio; default: the column
            holds the ratio already.
        aggregate: how periods make a longer one where data are of lower frequency: `"sum"`, `"mean"`,
            `"last"`, `"first"`. Default: the sum of a flow, the last of a stock; an index needs to be
            told.
        freq: the data's own frequency, where a table holds, say, years among quarters.
        scale: data are compared with the (transformed) model value times this: 100 where a column is in
            per cent. The data stay as they are.
        weight: the variance of the error is sigma^2 / weight.
        sigma: the standard deviation of the measurement error, in the units of the transformed data.
    """

    column: str | None = None
    transform: str | Callable[..., Any] = "level"
    transformed: bool = False
    lag: int = 1
    base: Any = None
    of: Callable[[Any], Any] | None = None
    over: str | None = None
    over_column: str | None = None
    aggregate: str | None = None
    freq: str | None = None
    scale: float = 1.0
    weight: float = 1.0
    sigma: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.transform) and self.transform not in TRANSFORMS:
            raise ValueError(
                f"There is no transform {self.transform!r}: use one of {', '.join(TRANSFORMS)}, or a "
                "function (x, xp) -> x."
            )
        if self.aggregate is not None and self.aggregate not in AGGREGATES:
            raise ValueError(
                f"There is no aggregate {self.aggregate!r}: use one of {', '.join(AGGREGATES)}."
            )
        if isinstance(self.lag, bool) or not isinstance(self.lag, int) or self.lag < 1:
            raise ValueError(f"lag must be a whole number of dates, at least 1; not {self.lag!r}.")
        for what in ("weight", "sigma"):
            value = getattr(self, what)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{what} must be a positive number, not {value!r}.")
        if not np.isfinite(self.scale) or self.scale == 0:
            raise ValueError(f"scale must be a finite number other than 0, not {self.scale!r}.")
        if self.over is None and self.over_column is not None:
            raise ValueError("over_column needs over=: the variable to which the ratio is taken.")


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Numbers that a function of the path should match.

    Args:
        of: function of the path (`State` with leaves (T, *shape)) that gives (j,), or a number; traceable.
        target: what it should be, (j,) or a number.
        weights: the matrix W (j, j) of the criterion (g - target)' W (g - target), symmetric and positive
            definite (the inverse of the covariance of the targets); or its diagonal (j,); default:
            ones.
        name: how reports call them. names: of each, j of them; default: numbers.
    """

    of: Callable[[Any], Any]
    target: Any
    weights: Any = None
    name: str = "moments"
    names: Sequence[str] | None = None

    def root(self) -> np.ndarray:
        """R with W = R'R, (j, j): the residuals are R (g - target).

        Raises:
            ValueError: weights that are of another size, or not positive definite; a target that is not
                finite; names of another number.
        """
        target = np.atleast_1d(np.asarray(self.target, float))
        count = len(target)
        if target.ndim != 1 or not np.isfinite(target).all():
            raise ValueError(
                f"The target of {self.name!r} must be finite numbers (j,), not {target}."
            )
        if self.names is not None and len(self.names) != count:
            raise ValueError(f"{self.name!r} has {count} targets and {len(self.names)} names.")
        weights = np.ones(count) if self.weights is None else np.asarray(self.weights, float)
        matrix = np.diag(weights) if weights.ndim == 1 else weights
        if matrix.shape != (count, count) or not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0):
            raise ValueError(
                f"The weights of {self.name!r} must be ({count},) or a symmetric matrix ({count}, "
                f"{count}), as there are {count} targets; not {weights.shape}."
            )
        try:
            return np.linalg.cholesky(matrix).T
        except np.linalg.LinAlgError:
            raise ValueError(f"The weights of {self.name!r} are not positive definite.") from None


def transformed(x: Any, observed: Observed, xp: Any, base: np.ndarray | None) -> Any:
    """The transform of a whole series (A,), NaN where it reaches back too far."""
    kind = observed.transform
    if callable(kind):
        return kind(x, xp)
    if kind == "level":
        return x
    if kind == "log":
        return xp.log(x)
    if kind == "index":
        return x / xp.mean(x[base])
    before, now = x[: -observed.lag], x[observed.lag :]
    change = {
        "difference": lambda: now - before,
        "growth": lambda: now / before - 1,
        "log_growth": lambda: xp.log(now) - xp.log(before),
    }[kind]()
    return xp.concatenate([xp.full(min(observed.lag, len(x)), xp.nan, x.dtype), change])


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """One observed series, matched to the run.

    Attributes:
        label: the variable, as it was asked for. observed: how. reads: the field and element of the
            variable and of the one it is taken over, each (key, element) or None.
        spans: the first and last row of the run in each of A dates, (A, 2); aggregate: how they make
            one, None where every date is a period.
        base: the dates of an index's base. rows: the dates that are observed, (m,).
        target: the transformed data there, (m,). dates: as text, A of them.
        table: the transformed data of all dates, (A,), NaN where missing.
        sigma: the error's standard deviation, None if it is not known.
        spread: the standard deviation of the target, or its size where it does not vary.
    """

    label: str
    observed: Observed
    reads: tuple[Any, Any]
    spans: np.ndarray
    aggregate: str | None
    base: np.ndarray | None
    rows: np.ndarray
    target: np.ndarray
    dates: tuple[str, ...]
    table: np.ndarray
    sigma: float | None
    spread: float

    @property
    def size(self) -> int:
        return len(self.rows)

    def model(self, path: Any) -> Any:
        """The model's side of all dates, (A,), in the units of the data; traced."""
        x = self.observed.of(path) if self.observed.of is not None else _read(path, self.reads[0])
        x = jnp.asarray(x)
        if self.reads[1] is not None:
            x = x / _read(path, self.reads[1])
        x = aggregated(x, self.spans, self.aggregate)
        scale = jnp.asarray(self.observed.scale, x.dtype)
        return transformed(x, self.observed, jnp, self.base) * scale

    def errors(self, path: Any) -> Any:
        """Model less data where there are data, (m,), in units of sigma / sqrt(weight); traced."""
        model = self.model(path)[self.rows]
        root = np.sqrt(self.observed.weight)
        return (model - self.target.astype(model.dtype)) * root.astype(model.dtype)


def aggregated(x: Any, spans: np.ndarray, how: str | None) -> Any:
    """The values (T,) of a run as those of A longer dates."""
    first, last = spans.T
    if how is None or how == "last":
        return x[last]
    if how == "first":
        return x[first]
    lengths = last - first + 1
    members = np.repeat(np.arange(len(spans), dtype=np.int32), lengths)
    rows = np.concatenate([np.arange(a, b + 1, dtype=np.int32) for a, b in spans])
    total = jax.ops.segment_sum(x[rows], members, num_segments=len(spans))
    return total if how == "sum" else total / lengths.astype(total.dtype)


def _read(path: Any, place: tuple[str, tuple[int, ...]]) -> Any:
    key, element = place
    return getattr(path, key)[(slice(None), *element)]


# Matching -----------------------------------------------------------------------------------------


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
        if value is not None and not (np.isfinite(value) and value > 0):
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
    return base
