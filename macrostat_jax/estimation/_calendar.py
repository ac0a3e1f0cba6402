"""The periods of a run, and data laid out over them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._data import FIRST_YEAR, LAST_YEAR, _some


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
    first = min((int(i.min()) for i in counted.values() if len(i)), default=0)
    if periods is None and FIRST_YEAR <= first <= LAST_YEAR:
        raise ValueError(
            f"The rows of {_some(counted)} begin with the number {first}, and whole numbers count periods "
            "from 0. If they are years, name their column, dates=, or index the table by "
            "pandas.PeriodIndex(years, freq='Y'). If they are not, say how many periods there are, periods=."
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
