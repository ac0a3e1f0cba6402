"""What a sweep found, in a folder: finished or not."""

from __future__ import annotations

import functools
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _files, _named
from ._folder import Folder

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


class StoredSweep:
    """The results of a sweep in a folder, as far as there are any.

    Attributes:
        folder: where they are.
        design: what the manifest says of the sweep: model, versions, design, inputs, what is kept, ...
        columns: `about`, what tells runs apart, and `kept`: names.
        chunks: how many there are in all.
        finished: those whose files are there: chunk -> what its file says (runs, diverged, seconds, ...).
        failed: those that kept failing: chunk -> start, stop, error, attempts, details.
        damaged: those whose file is torn: chunk -> why. They are computed again on resuming.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.folder = folder.path
        self.design: dict[str, Any] = folder.manifest["design"]
        self.columns: dict[str, list[str]] = folder.manifest["columns"]
        self.chunks = folder.chunks
        self.finished: dict[int, dict[str, Any]] = {}
        self.damaged: dict[int, str] = {}
        for number in range(self.chunks):
            try:
                receipt = folder.receipt(number)
            except _files.Damaged as error:
                self.damaged[number] = str(error)
                continue
            if receipt is not None:
                self.finished[number] = receipt
        self.failed = folder.failures()

    def __len__(self) -> int:
        """How many runs are finished."""
        return sum(receipt["stop"] - receipt["start"] for receipt in self.finished.values())

    @property
    def runs(self) -> int:
        """How many runs the whole sweep has."""
        return self._folder.runs

    @property
    def complete(self) -> bool:
        return len(self.finished) == self.chunks

    @property
    def diverged(self) -> int:
        """How many of the finished runs are not finite in something that was kept."""
        return sum(receipt["diverged"] for receipt in self.finished.values())

    @property
    def missing(self) -> list[tuple[int, int]]:
        """The runs that are not there: (first, one after the last), neighbours joined."""
        found: list[tuple[int, int]] = []
        for number in range(self.chunks):
            if number in self.finished:
                continue
            start, stop = self._folder.span(number)
            if found and found[-1][1] == start:
                start = found.pop()[0]
            found.append((start, stop))
        return found

    def __repr__(self) -> str:
        text = f"StoredSweep({self.design['model']['name']}: "
        text += f"{self.runs:,} runs" if self.complete else f"{len(self):,} of {self.runs:,} runs"
        text += f" in {self.folder}; {self.diverged:,} of them not finite"
        for what, chunks in (("failed", self.failed), ("damaged", self.damaged)):
            if chunks:
                text += f"; {len(chunks)} of {self.chunks} chunks {what}"
        if not self.complete:
            spans = [f"{a:,}-{b - 1:,}" for a, b in self.missing]
            text += f"; missing: runs {', '.join(spans[:5])}{', ...' if len(spans) > 5 else ''}"
        return text + ")"

    @functools.cached_property
    def finite(self) -> np.ndarray:
        """Which of the finished runs, in their order, have only finite values."""
        if self.design["files"] == "zarr":
            parts = [_files.paths(self._folder.file(i), ("finite",)) for i in self._there()]
            return np.concatenate([part["finite"].to_numpy() for part in parts])
        return self.to_pandas(["finite"])["finite"].to_numpy()

    def to_pandas(self, columns: Collection[str] | None = None) -> pd.DataFrame:
        """A row per finished run: what tells it apart, what was kept, and whether it is finite.

        Args:
            columns: read only these.

        Raises:
            ValueError: paths were kept, which `to_xarray` takes; nothing is finished; a damaged file.
        """
        if self.design["files"] == "zarr":
            raise ValueError("Paths are no table: take to_xarray().")
        import pyarrow as pa

        names = None if columns is None else ["run", *columns]
        tables = [_files.table(self._folder.file(i), names) for i in self._there()]
        table = pa.concat_tables(tables).replace_schema_metadata(None)
        return table.to_pandas().set_index("run")

    def to_xarray(self, variables: Collection[str] | None = None) -> xr.Dataset:
        """What was kept, with a dimension `run` whose coordinates are the parameters that vary.

        Args:
            variables: read only these.
        """
        import xarray as xr

        if self.design["files"] == "zarr":
            names = self.columns["kept"] if variables is None else list(variables)
            parts = [_files.paths(self._folder.file(i), names) for i in self._there()]
            if not names:
                raise ValueError("to_xarray needs at least one variable to read.")
            return xr.concat(
                parts, "run", data_vars="minimal", coords="minimal", compat="override", join="exact"
            )
        table = self.to_pandas()
        kept = [name for name in table if name not in self.columns["about"] and name != "finite"]
        found = xr.Dataset.from_dataframe(table)
        found = found.set_coords([name for name in table if name not in kept])
        return found if variables is None else found[list(variables)]

    def statistics(self) -> Any:
        """As of `Sweep.statistics`, over the runs that are finished and finite."""
        if self.design["files"] == "zarr":
            return _named.statistics_dataset(self.to_xarray())
        table = self.to_pandas()
        kept = {
            n: table[n].to_numpy() for n in table if n not in (*self.columns["about"], "finite")
        }
        return _named.statistics_table(kept, table["finite"].to_numpy())

    def plot(self) -> Figure:
        """As of `Sweep.plot`, of the runs that are finished."""
        from ..plot import _sweep

        title = self.design["model"]["name"]
        if self.design["files"] == "zarr":
            return _sweep.bands(self.statistics(), title=title)
        return _sweep.clouds(
            self.to_pandas(), self.columns["about"], self.columns["kept"], title=title
        )

    def _there(self) -> list[int]:
        if not self.finished:
            raise ValueError(f"{self.folder}: none of the {self.chunks} chunks is finished yet.")
        return sorted(self.finished)


def open(folder: Any) -> StoredSweep:
    """The results of a sweep in a folder, finished or not; the sweep may still be running.

    Nothing in the folder is executed: files are Parquet, Zarr and JSON.

    Raises:
        FileNotFoundError: no sweep there. ValueError: a manifest that cannot be read, or files of another
            sweep.
    """
    return StoredSweep(Folder.open(Path(folder)))
