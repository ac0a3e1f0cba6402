"""Reading data: tables and series with their dates."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

DATE_COLUMNS = ("period", "date", "time", "datetime", "observation_date", "time_period")
"""Columns that say when, in any case of letters, besides those of `year` and `quarter` or `month`."""
COUNTS = ("period", "time")
"""Of these, those in which whole numbers count periods from 0, even great ones."""
MISSING = ("nan", "NaT", "None", "<NA>")
"""As which pandas writes a label that is not there."""
FIRST_YEAR, LAST_YEAR = 1000, 2999
"""Whole numbers from here on are rather years than a count, and greater ones dates: 19590331."""


def read_data(source: Any, *, dates: str | None = None) -> pd.DataFrame:
    """Data as a table with a row per date or period, and a column per series.

    Args:
        source: a pandas DataFrame or Series, an xarray Dataset or DataArray of one dimension, a mapping
            from names to Series or arrays, or the path of a `.csv` or `.parquet` file. Series of a
            mapping may have different frequencies only where a `Problem` takes the mapping itself.
        dates: the column that says when; default: the index of a table; in a file the column `period`
            or `time` (a whole number counts periods from 0), `date`, `datetime`, `observation_date` or
            `time_period` (a whole number from 1000 on is a year), or the columns `year` and `quarter`
            or `month`, or a first column without a name.

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
    if not len(table):
        raise ValueError("The data have no rows.")
    index = _index(table.index)
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].unique()
        raise ValueError(f"The data have several columns {_some(twice)}.")
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

    ending = path.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise ValueError(f"Cannot read {path.name!r}: the endings are .csv and .parquet.")
    if not path.exists():
        raise ValueError(f"There is no file {path}.")
    if ending == ".csv":
        try:
            table = pd.read_csv(path, skipinitialspace=True)
        except ValueError as error:  # not in UTF-8, ragged, or empty
            raise ValueError(f"{path.name} cannot be read: {error}.") from error
        if len(table.columns) == 1 and (mark := _separator(str(table.columns[0]))):
            raise ValueError(
                f"{path.name} is separated by {mark!r}, not by commas: read it with "
                f"pandas.read_csv(..., sep={mark!r}, decimal=...), and give the table."
            )
        return table
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise ValueError("Reading .parquet needs pyarrow: pip install pyarrow.") from error


def _separator(head: str) -> str | None:
    return next((mark for mark in (";", "\t", "|") if mark in head), None)


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
        return _indexed(table, dates)
    named = {str(name).lower(): name for name in table.columns}
    parts = [named[part] for part in ("year", "quarter", "month") if part in named]
    for one in DATE_COLUMNS:
        if one in named:
            return _indexed(table, named[one])
    if table.columns[:1].tolist() == [UNNAMED]:
        return _indexed(table, UNNAMED)
    if not parts or "year" not in named:
        return table
    return table.set_index(_calendar(table, named)).drop(columns=parts)


def _indexed(table: pd.DataFrame, name: str) -> pd.DataFrame:
    import pandas as pd

    column, others = table[name], table.drop(columns=name)
    whole = pd.api.types.is_integer_dtype(column.dtype) and bool((column >= FIRST_YEAR).all())
    return others.set_index(column.astype(str) if whole and name.lower() not in COUNTS else column)


def _calendar(table: pd.DataFrame, named: Mapping[str, Any]) -> Any:
    import pandas as pd

    if "quarter" in named and "month" in named:
        raise ValueError(
            "The data have columns for the quarter and the month: name one, dates=...."
        )
    year = _whole(table[named["year"]])
    if "quarter" in named:
        return pd.PeriodIndex.from_fields(
            year=year, quarter=_whole(table[named["quarter"]], 4), freq="Q"
        )
    if "month" in named:
        return pd.PeriodIndex.from_fields(
            year=year, month=_whole(table[named["month"]], 12), freq="M"
        )
    return pd.PeriodIndex.from_fields(year=year, month=np.full(len(year), 12), freq="Y")


def _whole(column: Any, most: float = np.inf) -> np.ndarray:
    try:
        values = np.asarray(column, float)
    except (ValueError, TypeError):
        values = np.array([np.nan])
    if not np.all((values == np.floor(values)) & (values >= 1) & (values <= most)):
        end = f" from 1 to {most}" if np.isfinite(most) else ""
        raise ValueError(f"The column {column.name!r} of the data must hold whole numbers{end}.")
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
        if any(re.match(r"\s*\d{1,2}[./-]\d{1,2}[./-]\d", text) for text in texts):
            raise ValueError(
                f"The rows of the data are labelled {_some(texts)}: which number is the month? Write "
                "1990-03-31, or convert them, as in pandas.to_datetime(..., dayfirst=True)."
            )
        if short := [
            text for text in texts if text not in MISSING and not re.search(r"\d{4}", text)
        ]:
            raise ValueError(
                f"The rows of the data are labelled {_some(short)}: write years with four digits, as in "
                "1990Q1, 1990-03, 1990 or 1990-03-31, or count periods by whole numbers."
            )
        try:
            # 1990Q1, 1990-03 and 1990 are periods that know their frequency; 1990-03-31 is a day, and
            # 1990-03-31 00:00:00 a second, of which only the other dates say what they stand for.
            found = pd.PeriodIndex([pd.Period(text) for text in texts])
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"The rows of the data are labelled {_some(texts)}: expected dates such as 1990Q1, "
                "1990-03, 1990 or 1990-03-31, or whole numbers that count periods."
            ) from error
        if found.freqstr.partition("-")[0] in ("A", "Y", "Q", "M", "W"):
            return found
        index = found.to_timestamp()
    index = index.tz_localize(None)
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
    import pandas as pd

    try:
        values = np.asarray(column, float)
    except (ValueError, TypeError) as error:
        numbers: Any = pd.to_numeric(column, errors="coerce")
        wrong = column[numbers.isna() & column.notna()]
        example = f": {wrong.iloc[0]!r} in the row {wrong.index[0]}" if len(wrong) else ""
        raise ValueError(
            f"The column {name!r} of the data does not hold numbers{example}. A missing value is an empty "
            f"cell; leave out a column of something else, or, if it says when, give dates={name!r}."
        ) from error
    if np.isinf(values).any():
        raise ValueError(f"The column {name!r} of the data holds infinity; a missing value is NaN.")
    return values


def _some(names: Any, most: int = 12) -> str:
    shown = [str(name) for name in names]
    more = f", ... ({len(shown)} in all)" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


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
