"""Chunks of results as files: tables as Parquet, paths as Zarr (in a zip, which is one file)."""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from . import _kept

if TYPE_CHECKING:
    import pyarrow as pa
    import xarray as xr

ENDINGS = {"parquet": "parquet", "zarr": "zarr.zip"}
KEY = "macrostat"
"""Under this name a file says which chunk of which sweep it is."""
MOST_COLUMNS = 256
"""Up to so many numbers of a run are a table."""


class Damaged(ValueError):
    """A file that is not what was written."""


def needs(files: str) -> None:
    """Raises `ImportError` where a library for such files is missing, with what to install."""
    libraries = ("pyarrow.parquet",) if files == "parquet" else ("zarr", "xarray")
    for library in libraries:
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise ImportError(
                f"Results in {files} files need {library.partition('.')[0]}: "
                "pip install 'macrostat-jax[stores]'."
            ) from error


def kind_of(shapes: Any, axis: int) -> str:
    """Which files suit what is kept of a run, given its shapes for a block of runs."""
    leaves = jax.tree.leaves(shapes)
    numbers = sum(int(np.prod(x.shape)) for x in leaves) // leaves[0].shape[axis]
    return "zarr" if axis == 1 or numbers > MOST_COLUMNS else "parquet"


def encode(
    files: str,
    about: Mapping[str, np.ndarray],
    values: Any,
    axis: int,
    rows: np.ndarray,
    good: np.ndarray,
    receipt: Mapping[str, Any],
) -> bytes:
    """The results of some runs as the content of a file that carries its receipt."""
    if files == "parquet":
        return _encode_table(
            {"run": rows, **about, **_kept.columns(values), "finite": good}, receipt
        )
    return _encode_paths(_kept.dataset(values, axis, about, rows, good), receipt)


def _encode_table(columns: Mapping[str, np.ndarray], receipt: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: pa.array(np.ascontiguousarray(a)) for name, a in columns.items()})
    table = table.replace_schema_metadata({KEY: json.dumps(dict(receipt))})
    target = pa.BufferOutputStream()
    texts: Any = [name for name, a in columns.items() if a.dtype.kind == "U"]
    # Numbers of a sweep hardly compress: tries took three times as long to save a tenth.
    pq.write_table(
        table, target, compression="NONE", use_dictionary=texts, write_page_checksum=True
    )
    return target.getvalue().to_pybytes()


def _encode_paths(found: xr.Dataset, receipt: Mapping[str, Any]) -> bytes:
    from zarr.storage import MemoryStore

    found = found.assign_attrs({KEY: json.dumps(dict(receipt))})
    memory: dict[str, Any] = {}
    whole = {str(n): {"chunks": a.shape, "compressors": None} for n, a in found.variables.items()}
    encoding = {name: one for name, one in whole.items() if found[name].size}
    # Version 2 of the format, which has a specification for labels, too.
    store = MemoryStore(memory)
    found.to_zarr(store, mode="w", consolidated=False, encoding=encoding, zarr_format=2)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in memory.items():
            archive.writestr(name, content.to_bytes())
    return target.getvalue()


def receipt_of(path: Path) -> dict[str, Any] | None:
    """What a file says of itself; None where there is none.

    Raises:
        Damaged: it cannot be read: torn, or not one of ours.
    """
    if not path.exists():
        return None
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            return json.loads((pq.read_schema(path).metadata or {})[KEY.encode()])
        with zipfile.ZipFile(path) as archive:
            return json.loads(json.loads(archive.read(".zattrs"))[KEY])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path} is torn, or not a chunk of a sweep ({error}).") from error


def table(path: Path, names: Collection[str] | None = None) -> pa.Table:
    """The table of a Parquet file.

    Raises:
        Damaged: its content is not what was written.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return file.read(columns=None if names is None else list(names))
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} is damaged ({error}): remove it, and resume the sweep.") from error


def paths(path: Path, names: Collection[str] | None = None) -> xr.Dataset:
    """The dataset of a Zarr file; errors as for `table`."""
    import xarray as xr
    from zarr.storage import ZipStore

    try:
        with ZipStore(path, mode="r") as store:
            found = xr.open_zarr(store, consolidated=False, chunks=None)
            found.attrs.pop(KEY)
            return (found if names is None else found[list(names)]).load()
    except (OSError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path} is damaged ({error}): remove it, and resume the sweep.") from error
