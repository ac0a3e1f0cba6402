"""What a sweep found: in memory, or in a folder, finished or not."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._model import Model
from . import _files, _kept, _places
from ._folder import Folder

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """What was kept of n runs.

    Attributes:
        model: the model.
        params: its parameters, those that vary of shape (n, *shape).
        values: what `keep` returned, as NumPy arrays with the runs on `axis`.
        axis: 0; 1 for whole paths, each variable of shape (T, n, *shape).
        labels: what else tells the runs apart: `scenario` and `seed` of a crossed design, each (n,).
        block: how many runs were simulated at once (on each device).
    """

    model: Model
    params: Any
    values: Any
    axis: int = 0
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    block: int = 0

    def __len__(self) -> int:
        return jax.tree.leaves(self.values)[0].shape[self.axis]

    def __repr__(self) -> str:
        return f"Sweep({self.model.name}: {len(self)} runs, {self.diverged} of them not finite)"

    @functools.cached_property
    def finite(self) -> np.ndarray:
        """Which runs (n,) have only finite values. The others are kept as they are."""
        return _kept.finite(self.values, self.axis)

    @property
    def diverged(self) -> int:
        """How many runs are not finite in something that was kept."""
        return len(self) - int(self.finite.sum())

    def _about(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for key, field in self.params.fields.items():
            array = np.asarray(getattr(self.params, key))
            if array.ndim > len(field.shape):
                flat = array.reshape(len(array), -1)
                found |= dict(zip(_places.elements(key, field), flat.T, strict=True))
        return found | dict(self.labels)

    def to_pandas(self) -> pd.DataFrame:
        """A row per run: what tells it apart, what was kept, a column per number, and whether it is finite.

        Raises:
            ValueError: whole paths were kept, which `to_xarray` takes; or names that clash.
        """
        import pandas as pd

        if self.axis == 1:
            raise ValueError("Paths are no table: take found.to_xarray().")
        about, columns = self._about(), _kept.columns(self.values)
        _kept.check_names(list(columns), list(about))
        table = pd.DataFrame({**about, **columns, "finite": self.finite})
        return table.rename_axis("run")

    def to_xarray(self) -> xr.Dataset:
        """What was kept, with a dimension `run` whose coordinates are the parameters that vary."""
        about = self._about()
        _kept.check_names([one.name for one in _kept.arrays(self.values, self.axis)], list(about))
        runs = np.arange(len(self))
        return _kept.dataset(self.values, self.axis, about, runs, self.finite)

    def statistics(self) -> Any:
        """Mean, standard deviation, extremes and quantiles over the runs that are finite.

        Returns:
            A DataFrame with a row per number that was kept, with how many runs count and how many
            diverged; for whole paths, a dataset with the dimension `statistic`.
        """
        if self.axis == 1:
            return _kept.statistics_dataset(self.to_xarray())
        return _kept.statistics_table(_kept.columns(self.values), self.finite)

    def plot(self) -> Figure:
        """What was kept against each parameter that varies; of whole paths, bands over time."""
        from ..plot import _sweep

        if self.axis == 1:
            return _sweep.fans(self.statistics(), title=self.model.name)
        about, kept = list(self._about()), list(_kept.columns(self.values))
        return _sweep.clouds(self.to_pandas(), about, kept, title=self.model.name)


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

    @property
    def _axis(self) -> int:
        """Where the runs are in what was kept: whole paths have time first."""
        return 0 if isinstance(self.design["keep"], dict) else 1

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
            KeyError: a column that there is not. ValueError: paths were kept, which `to_xarray` takes;
                nothing is finished; a damaged file.
        """
        if self._axis == 1:
            raise ValueError("Paths are no table: take to_xarray().")
        about, kept = self.columns["about"], self.columns["kept"]
        if self.design["files"] == "zarr":
            table = _kept.table(self.to_xarray(), about, kept)
            return table if columns is None else table.loc[:, _names("columns", columns, table)]
        import pyarrow as pa

        names = None
        if columns is not None:
            names = ["run", *_names("columns", columns, (*about, *kept, "finite"))]
        tables = [_files.table(self._folder.file(i), names) for i in self._there()]
        table = pa.concat_tables(tables).replace_schema_metadata(None)
        return table.to_pandas().set_index("run")

    def to_xarray(self, variables: Collection[str] | None = None) -> xr.Dataset:
        """What was kept, with a dimension `run` whose coordinates are the parameters that vary.

        Of Parquet files, every column is a variable of its own.

        Args:
            variables: read only these.

        Raises:
            KeyError: a variable that there is not. ValueError: no variable; and as for `to_pandas`.
        """
        import xarray as xr

        about, kept = self.columns["about"], self.columns["kept"]
        names = kept if variables is None else _names("variables", variables, kept)
        if not names:
            raise ValueError("to_xarray needs at least one variable to read.")
        if self.design["files"] == "zarr":
            parts = [_files.paths(self._folder.file(i), names) for i in self._there()]
            return xr.concat(
                parts, "run", data_vars="minimal", coords="minimal", compat="override", join="exact"
            )
        table = self.to_pandas([*about, *names, "finite"])
        return xr.Dataset.from_dataframe(table).set_coords([*about, "finite"])

    def statistics(self) -> Any:
        """As of `Sweep.statistics`, over the runs that are finished and finite."""
        if self._axis == 1:
            return _kept.statistics_dataset(self.to_xarray())
        table = self.to_pandas()
        kept = {name: table[name].to_numpy() for name in self._numbers(table)}
        return _kept.statistics_table(kept, table["finite"].to_numpy())

    def plot(self) -> Figure:
        """As of `Sweep.plot`, of the runs that are finished."""
        from ..plot import _sweep

        title = self.design["model"]["name"]
        if self._axis == 1:
            return _sweep.fans(self.statistics(), title=title)
        table = self.to_pandas()
        return _sweep.clouds(table, self.columns["about"], self._numbers(table), title=title)

    def _numbers(self, table: pd.DataFrame) -> list[str]:
        """The columns of what was kept."""
        return [name for name in table if name not in (*self.columns["about"], "finite")]

    def _there(self) -> list[int]:
        if not self.finished:
            raise ValueError(f"{self.folder}: none of the {self.chunks} chunks is finished yet.")
        return sorted(self.finished)


def open(folder: Any) -> StoredSweep:
    """The results of a sweep in a folder, finished or not; the sweep may still be running.

    Nothing in the folder is executed: files are Parquet, Zarr and JSON.

    Raises:
        FileNotFoundError: no sweep there. ValueError: a manifest that cannot be read, or files of another
            sweep. ImportError: a library is missing for its files.
    """
    found = Folder.open(Path(folder))
    _files.needs(found.files)
    return StoredSweep(found)


def _names(what: str, given: Collection[str], there: Collection[str]) -> list[str]:
    """The names that the user gave, if they are names, and there is each."""
    if isinstance(given, str):
        raise TypeError(f"{what} takes several names, [{given!r}], not one string.")
    if missing := [name for name in given if name not in there]:
        raise KeyError(f"{', '.join(map(repr, missing))} not found. There are: {', '.join(there)}.")
    return list(given)
