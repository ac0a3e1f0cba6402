"""Reading data, and laying them out over the periods of a run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

DATE_COLUMNS = ("period", "date", "time", "datetime", "year", "quarter", "month")
"""Columns that say when, in any case of letters; `year` together with `quarter` or `month`, if there."""


def read_data(source: Any, *, dates: str | None = None) -> pd.DataFrame:
    """Data as a table with a row per date or period, and a column per series.

    Args:
        source: a pandas DataFrame or Series, an xarray Dataset or DataArray of one dimension, a mapping
            from names to Series or arrays, or the path of a `.csv` or `.parquet` file. Series of a
            mapping may have different frequencies only where a `Problem` takes the mapping itself.
        dates: the column that says when; default: the index of a table; in a file the column `period`
            (a whole number counts periods from 0), `date` or `time`, or the columns `year` and
            `quarter` or `month`, or a first column without a name.

    Returns:
        A table of float64 indexed by a `PeriodIndex`, or by whole numbers, sorted.

    Raises:
        ValueError: dates that cannot be read, that are repeated or missing; a column that holds no
            numbers; an unknown ending. TypeError: something else than data.
    """
    import pandas as pd

    table = _table(source)
    if dates is not None or _is_plain(table.index):
        table = _dated(table, dates)
    index = _index(table.index)
    repeated = index[index.duplicated()]
    if len(repeated):
        raise ValueError(f"The data have several rows for {_some(repeated.unique())}.")
    columns = {str(name): _numbers(str(name), table[name]) for name in table.columns}
    return pd.DataFrame(columns, index=index).sort_index()


def _table(source: Any) -> pd.DataFrame:
    import pandas as pd

    array: Any = source

    if isinstance(source, str | os.PathLike):
        return _file(Path(source))
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, pd.Series):
        return source.to_frame(source.name if source.name is not None else "data")
    if isinstance(source, Mapping) and not hasattr(source, "to_dataframe"):
        series = {name: value for name, value in source.items() if isinstance(value, pd.Series)}
        arrays = {name: np.asarray(value) for name, value in source.items() if name not in series}
        _check_lengths(arrays)
        plain = pd.DataFrame(arrays)
        if not series:
            return plain
        if not arrays:
            return pd.DataFrame(series)
        raise ValueError(
            f"Some of the data have dates ({_some(series)}) and some have none ({_some(arrays)}): give "
            "all of them as pandas Series, or none."
        )
    if hasattr(source, "to_dataframe"):  # xarray
        dims = tuple(array.dims)
        if len(dims) != 1:
            raise ValueError(
                f"xarray data need one dimension, time; these have {dims}: select the others first."
            )
        name = getattr(source, "name", None)
        table = array.to_dataframe(**({"name": name or "data"} if hasattr(source, "name") else {}))
        return table[list(getattr(source, "data_vars", [name or "data"]))]
    raise TypeError(
        "Data are a pandas DataFrame or Series, an xarray Dataset, a mapping from names to Series or "
        f"arrays, or the path of a .csv or .parquet file; not {type(source).__name__}."
    )


def _check_lengths(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.ndim != 1:
            raise ValueError(f"The data {name!r} need the shape (T,), not {array.shape}.")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Arrays without dates need one length: {lengths}.")


def _file(path: Path) -> pd.DataFrame:
    import pandas as pd

    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"Cannot read {path.name!r}: the endings are .csv and .parquet.")
    if not path.exists():
        raise ValueError(f"There is no file {path}.")
    if path.suffix == ".csv":
        return pd.read_csv(path)
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise ValueError("Reading .parquet needs pyarrow: pip install pyarrow.") from error


def _is_plain(index: Any) -> bool:
    """The numbers 0, 1, 2, ... that pandas gives rows by itself."""
    import pandas as pd

    return isinstance(index, pd.RangeIndex) and index.name is None


UNNAMED = "Unnamed: 0"
"""What pandas calls a first column without a name, which is how it writes an index without one."""


def _dated(table: pd.DataFrame, dates: str | None) -> pd.DataFrame:
    """The table indexed by its column of dates, where it has one."""
    if dates is not None:
        if dates not in table.columns:
            raise ValueError(f"There is no column {dates!r}. There are: {_some(table.columns)}.")
        return table.set_index(dates)
    named = {str(name).lower(): name for name in table.columns}
    parts = [named[part] for part in ("year", "quarter", "month") if part in named]
    for one in DATE_COLUMNS[:4]:
        if one in named:
            return table.set_index(named[one])
    if table.columns[:1].tolist() == [UNNAMED]:
        return table.set_index(UNNAMED)
    if not parts or "year" not in named:
        return table
    return table.set_index(_calendar(table, named)).drop(columns=parts)


def _calendar(table: pd.DataFrame, named: Mapping[str, Any]) -> Any:
    import pandas as pd

    if "quarter" in named and "month" in named:
        raise ValueError(
            "The data have columns for the quarter and the month: name one, dates=...."
        )
    year = _whole(table[named["year"]])
    if "quarter" in named:
        return pd.PeriodIndex.from_fields(
            year=year, quarter=_whole(table[named["quarter"]]), freq="Q"
        )
    if "month" in named:
        return pd.PeriodIndex.from_fields(year=year, month=_whole(table[named["month"]]), freq="M")
    return pd.PeriodIndex.from_fields(year=year, month=np.full(len(year), 12), freq="Y")


def _whole(column: Any) -> np.ndarray:
    values = np.asarray(column, float)
    if not np.all(values == np.floor(values)):
        raise ValueError(f"The column {column.name!r} must hold whole numbers.")
    return values.astype(int)


def _index(index: Any) -> Any:
    """Dates as periods of a frequency; whole numbers as they are."""
    import pandas as pd

    if isinstance(index, pd.PeriodIndex):
        found = index
    elif pd.api.types.is_integer_dtype(index.dtype):
        return index
    else:
        found = _periods(index)
    if found.isna().any():
        raise ValueError(f"{int(found.isna().sum())} rows of the data have no date.")
    return found


def _periods(index: Any) -> Any:
    import pandas as pd

    if not isinstance(index, pd.DatetimeIndex):
        texts = [str(one) for one in index]
        try:
            # 1990Q1, 1990-03 and 1990 are periods that know their frequency; 1990-03-31 is a day.
            found = pd.PeriodIndex([pd.Period(text) for text in texts])
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"The rows of the data are labelled {_some(texts)}: expected dates such as 1990Q1, "
                "1990-03, 1990 or 1990-03-31, or whole numbers that count periods."
            ) from error
        if found.freqstr != "D":
            return found
        index = found.to_timestamp()
    known = index.dropna().sort_values().unique()
    days = np.diff(known.to_numpy()).astype("timedelta64[D]").astype(float)
    if not len(days):
        raise ValueError("One date does not say its frequency: give it as a pandas Period.")
    step = float(days.min())
    for longest, freq in ((5, "D"), (9, "W"), (32, "M"), (93, "Q"), (367, "Y")):
        if step <= longest:
            return index.to_period(freq)
    raise ValueError(f"Dates that are {step:g} days apart have no frequency that this reads.")


def _numbers(name: str, column: Any) -> np.ndarray:
    try:
        values = np.asarray(column, float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"The column {name!r} of the data does not hold numbers.") from error
    if np.isinf(values).any():
        raise ValueError(f"The column {name!r} of the data holds infinity; a missing value is NaN.")
    return values


def _some(names: Any, most: int = 12) -> str:
    shown = [str(name) for name in names]
    more = f", ... ({len(shown)} in all)" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


# Time ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Calendar:
    """The periods of a run: T of them from `start` on, or counted from 0 where there are no dates.

    Attributes:
        start: the first, a pandas Period; None counts. periods: T.
    """

    start: Any
    periods: int

    @property
    def freq(self) -> str | None:
        return None if self.start is None else self.start.freqstr

    def label(self, row: int) -> str:
        return str(row) if self.start is None else str(self.start + row)

    def labels(self) -> list[str]:
        return [self.label(row) for row in range(self.periods)]

    @property
    def span(self) -> str:
        return f"{self.label(0)} to {self.label(self.periods - 1)}"

    def index(self) -> Any:
        """For pandas."""
        import pandas as pd

        if self.start is None:
            return pd.RangeIndex(self.periods, name="period")
        return pd.period_range(self.start, periods=self.periods, name="period")


def find_calendar(
    indexes: Mapping[str, Any], start: Any, freq: str | None, periods: int | None, default: int
) -> Calendar:
    """The periods of a run that data lie in.

    Args:
        indexes: series -> its index. start, freq: of the run; default: the first date, and the highest
            frequency, of the data. periods: T; default: up to the last date.
        default: T where there are no data.
    """
    import pandas as pd

    dated = {name: i for name, i in indexes.items() if isinstance(i, pd.PeriodIndex)}
    counted = {name: i for name, i in indexes.items() if name not in dated}
    if counted and (dated or start is not None or freq is not None):
        why = (
            f"{_some(dated)} are dated"
            if dated
            else f"start_date={start!r}, freq={freq!r} are dates"
        )
        raise ValueError(
            f"{_some(counted)} count periods from 0, while {why}: give dates to all, or to none."
        )
    if counted or not (dated or start is not None):
        last = max((int(i.max()) for i in counted.values() if len(i)), default=default - 1)
        return Calendar(None, last + 1 if periods is None else periods)
    if freq is None:
        candidates = [i.freq for i in dated.values()]
        given = start.freq if isinstance(start, pd.Period) else None
        chosen: Any = given or max(candidates, key=_per_year, default=None)
        freq = chosen
    if freq is None:
        raise ValueError("start_date= without dated data needs freq=, for instance 'Q'.")
    used: list[Any] = [i for i in dated.values() if len(i)]
    first = (
        min(i.min().asfreq(freq, "start") for i in used) if start is None else _period(start, freq)
    )
    if periods is None:
        last = max((i.max().asfreq(freq, "end") for i in used), default=first + (default - 1))
        return Calendar(first, max(last.ordinal - first.ordinal + 1, 1))
    return Calendar(first, periods)


def _period(start: Any, freq: Any) -> Any:
    import pandas as pd

    try:
        if isinstance(start, pd.Period):
            return start.asfreq(freq, "start")
        return pd.Period(start, freq=freq)
    except (ValueError, TypeError) as error:
        raise ValueError(f"start_date={start!r}, freq={freq!r} is no period: {error}.") from error


def _per_year(freq: Any) -> float:
    import pandas as pd

    return len(pd.period_range("2001-01-01", "2020-12-31", freq=freq)) / 20


def lay_out(
    name: str, values: np.ndarray, index: Any, calendar: Calendar
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """A series over the run, in its own frequency.

    Returns:
        the values of A consecutive dates, NaN where there is none; the first and the last row of the
        run in each date's span, (A, 2); the dates as text. A are the dates that the run holds whole.

    Raises:
        ValueError: a value beyond the run, a frequency that is higher than the run's.
    """
    seen = ~np.isnan(values)
    values, index = values[seen], index[seen]
    if calendar.start is None:
        rows = np.asarray(index, int)
        _check_inside(name, index, (rows < 0) | (rows >= calendar.periods), calendar)
        full = np.full(calendar.periods, np.nan)
        full[rows] = values
        spans = np.repeat(np.arange(calendar.periods)[:, None], 2, axis=1)
        return full, spans, calendar.labels()
    import pandas as pd

    run = calendar.index()
    if _per_year(index.freq) > _per_year(run.freq) * 1.001:
        raise ValueError(
            f"The data {name!r} are of frequency {index.freqstr}, the run of {run.freqstr}: aggregate "
            f"them first, for instance with .resample, or give the run freq={index.freqstr!r}."
        )
    own = run.asfreq(index.freqstr).unique()
    starts = own.asfreq(run.freqstr, "start").astype("int64") - run[0].ordinal
    ends = own.asfreq(run.freqstr, "end").astype("int64") - run[0].ordinal
    whole = (starts >= 0) & (ends < calendar.periods)
    own = own[whole]
    at = own.get_indexer(index)
    _check_inside(name, index, at < 0, calendar)
    full = np.full(len(own), np.nan)
    full[at] = values
    spans = np.stack([np.asarray(starts[whole], int), np.asarray(ends[whole], int)], axis=1)
    return full, spans, [str(one) for one in pd.PeriodIndex(own)]


def _check_inside(name: str, index: Any, outside: np.ndarray, calendar: Calendar) -> None:
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} of {len(index)} observations of {name!r} lie outside the run: the data "
            f"are for {index.min()} to {index.max()}, the run is {calendar.span} "
            f"({calendar.periods} periods; the first outside is {index[np.flatnonzero(outside)[0]]}). "
            "Give the run another start_date= or periods=, or cut the data."
        )


def series_of(source: Any, dates: str | None = None) -> dict[str, tuple[np.ndarray, Any]]:
    """Every series of the data: name -> (values, index). Those of a mapping keep frequencies of their own."""
    import pandas as pd

    if isinstance(source, Mapping) and not hasattr(source, "to_dataframe"):
        dated = [v for v in source.values() if isinstance(v, pd.Series)]
        if dated and len(dated) == len(source):
            tables = {str(name): read_data(series) for name, series in source.items()}
            return {name: (t.iloc[:, 0].to_numpy(), t.index) for name, t in tables.items()}
    table = read_data(source, dates=dates)
    return {str(name): (table[name].to_numpy(), table.index) for name in table.columns}
