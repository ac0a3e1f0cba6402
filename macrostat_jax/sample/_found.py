"""What a sweep found, in memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._model import Model
from . import _named, _places

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
        return _named.finite(self.values, self.axis)

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
        about, columns = self._about(), _named.columns(self.values)
        _named.check_names(list(columns), list(about))
        table = pd.DataFrame({**about, **columns, "finite": self.finite})
        return table.rename_axis("run")

    def to_xarray(self) -> xr.Dataset:
        """What was kept, with a dimension `run` whose coordinates are the parameters that vary."""
        about = self._about()
        _named.check_names([one.name for one in _named.kept(self.values, self.axis)], list(about))
        runs = np.arange(len(self))
        return _named.dataset(self.values, self.axis, about, runs, self.finite)

    def statistics(self) -> Any:
        """Mean, standard deviation, extremes and quantiles over the runs that are finite.

        Returns:
            A DataFrame with a row per number that was kept, with how many runs count and how many
            diverged; for whole paths, a dataset with the dimension `statistic`.
        """
        if self.axis == 1:
            return _named.statistics_dataset(self.to_xarray())
        return _named.statistics_table(_named.columns(self.values), self.finite)

    def plot(self) -> Figure:
        """What was kept against each parameter that varies; of whole paths, bands over time."""
        from ..plot import _sweep

        if self.axis == 1:
            return _sweep.bands(self.statistics(), title=self.model.name)
        about, kept = list(self._about()), list(_named.columns(self.values))
        return _sweep.clouds(self.to_pandas(), about, kept, title=self.model.name)
