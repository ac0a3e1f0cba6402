"""Paths as tables and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._record import Record
from ._store import replacing

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


ENDINGS = (".csv", ".parquet", ".json")


def to_pandas(path: Record) -> pd.DataFrame:
    """A path (leaves (T, *shape)) as a table: a row per period, a column per variable or slot.

    Of a path that holds a record of some variables, these. Raises a ValueError for a single period, and
    for a batch of paths.
    """
    import pandas as pd

    columns: dict[str, np.ndarray] = {}
    for key, field in path.fields.items():
        if getattr(path, key) is None:
            continue
        values = _over_time(path, key)
        names = [""]
        for axis in field.axes:
            names = [f"{name}.{slot}" for name in names for slot in axis.slots]
        flat = values.reshape(len(values), -1)
        if flat.shape[1] != len(names):
            raise ValueError("A table takes one run; of a batch, pick one first: path[:, i].")
        columns |= {f"{field.name}{name}": flat[:, i] for i, name in enumerate(names)}
    return pd.DataFrame(columns).rename_axis("period")


def to_xarray(path: Record) -> xr.Dataset:
    """A path, or a batch of them, as a dataset with the dimensions (time, [batch,] axes of the field).

    A dimension that is another one of the same name (both sides of a matrix from sector to sector, bare
    sizes that differ) is called after the variable and its place, `flows_2`. Raises a ValueError for a
    single period.
    """
    import xarray as xr

    variables, coords, sizes = {}, {}, {}
    for key, field in path.fields.items():
        if getattr(path, key) is None:
            continue
        values = _over_time(path, key)
        lead = values.ndim - len(field.shape)
        if lead > 2:
            raise ValueError(f"{key} has the shape {values.shape}: a dataset has one batch axis.")
        dims = ["time", *(["batch"] if lead == 2 else []), *(axis.name for axis in field.axes)]
        for i, (dim, size) in enumerate(zip(dims, values.shape, strict=True)):
            # From sector to sector; or declared by a bare size, which need not be the same one.
            if dim in dims[:i] or sizes.setdefault(dim, size) != size:
                dims[i] = f"{key}_{i}"
        attributes = {"symbol": field.symbol, "unit": field.unit, "equation": field.equation}
        variables[key] = xr.DataArray(values, dims=dims, attrs=attributes)
        named = zip(dims[len(dims) - len(field.axes) :], field.axes, strict=True)
        coords |= {dim: list(axis.labels) for dim, axis in named if axis.labels}
    return xr.Dataset(variables, coords=coords)


def _over_time(path: Record, key: str) -> np.ndarray:
    values, field = np.asarray(getattr(path, key)), path.fields[key]
    if values.ndim <= len(field.shape):
        raise ValueError(
            f"A table takes a path, as `simulate` returns it, with a row per period; {key} has the shape "
            f"{values.shape}: no axis of time. Of a path, path[5:6] is one period as a path."
        )
    return values


def save(table: pd.DataFrame, path: Path) -> None:
    """Writes a table as CSV, Parquet or JSON, by the file's ending; an interrupted write leaves no half file.

    Raises:
        ValueError: an unknown ending, or Parquet without pyarrow.
    """
    check_ending(path)
    writers: dict[str, Callable[[Any], Any]] = {
        ".csv": table.to_csv,
        ".parquet": table.to_parquet,
        ".json": lambda target: Path(target).write_text(_as_json(table)),
    }
    try:
        with replacing(path) as scratch:
            writers[path.suffix](scratch)
    except ImportError as error:
        raise ValueError(
            f"Writing {path.suffix} needs pyarrow: pip install 'macrostat-jax[parquet]'."
        ) from error


def check_ending(path: Path) -> None:
    """Raises ValueError where `save` knows no such ending."""
    if path.suffix not in ENDINGS:
        raise ValueError(f"Cannot write {path.name!r}: the endings are {', '.join(ENDINGS)}.")


def _as_json(table: pd.DataFrame) -> str:
    return json.dumps(table.to_dict(orient="list"))
