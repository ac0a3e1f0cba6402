"""The files of a sampler: tables as CSV or Parquet."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FILETYPES = ("csv", "parquet")
_ROWS = 10_000
"""Rows that are turned into text at once."""


def write(table: pd.DataFrame | pd.Series, path: Path, filetype: str, compression: Any) -> None:
    """Writes a table with its index.

    Raises:
        ValueError: an unknown file type or compression. ImportError: a library is missing for it.
    """
    import pandas as pd

    if filetype not in FILETYPES:
        raise ValueError(f"Invalid output filetype: {filetype}")
    if filetype == "parquet":
        frame = table.to_frame() if isinstance(table, pd.Series) else table
        _as_strings(frame).to_parquet(path, compression=compression)
    elif compression is None and isinstance(table, pd.DataFrame) and _is_plain(table):
        _write_numbers(table, path)
    else:
        table.to_csv(path, compression=compression)


def verify(filetype: str, compression: Any) -> None:
    """Raises now what `write` would raise after the simulations."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        columns = pd.MultiIndex.from_tuples([("x", "y")])
        table = pd.DataFrame([["text"]], columns=columns)
        write(table, Path(folder) / f"trial.{filetype}", filetype, compression)


def _as_strings(table: pd.DataFrame) -> pd.DataFrame:
    """Parquet takes no other column labels."""
    import pandas as pd

    if isinstance(table.columns, pd.MultiIndex):
        labels: Any = [tuple(map(str, label)) for label in table.columns]
        return table.set_axis(pd.MultiIndex.from_tuples(labels, names=table.columns.names), axis=1)
    return table.set_axis(table.columns.map(str), axis=1)


def _is_plain(table: pd.DataFrame) -> bool:
    """Whole numbers in the index, and floats of one dtype in the columns."""
    index = table.index
    levels = [index.get_level_values(i).dtype for i in range(index.nlevels)]
    dtypes = set(table.dtypes)
    return (
        len(dtypes) == 1
        and dtypes <= {np.dtype(np.float32), np.dtype(np.float64)}
        and all(isinstance(d, np.dtype) and np.issubdtype(d, np.integer) for d in levels)
    )


def _write_numbers(table: pd.DataFrame, path: Path) -> None:
    """The file that `to_csv` writes, several times faster. Every number reads back as it is."""
    values = table.to_numpy()
    if values.dtype == np.float64:
        numbers = ["%r"] * values.shape[1]
    else:
        # Nine digits tell all float32 apart. A column of whole numbers is read as floats all the same.
        usual = ~np.isfinite(values) | (values == np.rint(values)) & (np.abs(values) < 1e9)
        numbers = ["%.1f" if whole else "%.9g" for whole in usual.all(axis=0)]
    index = table.index
    levels = [index.get_level_values(i).to_numpy() for i in range(index.nlevels)]
    line = ",".join(["%d"] * len(levels) + numbers) + "\n"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(table.iloc[:0].to_csv(lineterminator="\n"))
        for start in range(0, len(values), _ROWS):
            block = slice(start, start + _ROWS)
            rows = np.column_stack([*(level[block] for level in levels), values[block]])
            text = (line * len(rows)) % tuple(rows.ravel().tolist())
            file.write(text.replace("nan", ""))
