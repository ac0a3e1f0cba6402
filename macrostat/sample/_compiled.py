"""Samples of a library model: batches of its compiled simulation, as one table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from macrostat_jax.sample import chunk_size, in_chunks

from .. import _engine
from ..core._dtype import output_dtype
from ..diff._compiled import Point

if TYPE_CHECKING:
    import pandas as pd


class Runs:
    """The runs of a library model at the points (R, d) of the parameters `names`; those of a random
    model all have the same random inputs.
    """

    def __init__(
        self, model: Any, scenario: int | str, names: Sequence[str], points: np.ndarray
    ) -> None:
        self.variables = model.variables
        self.dtype = output_dtype(model.parameters.hyper)
        self.point = Point.of(model, model.scenarios.find(scenario))
        places = _engine.element_index(self.point.definition)
        self.vectors = self.point.vector.repeat(len(points), 1)
        # What a class of the user's declares beyond the model moves nothing.
        known = [i for i, name in enumerate(names) if name in places]
        self.vectors[:, [places[names[i]] for i in known]] = torch.from_numpy(points[:, known]).to(
            self.vectors.device
        )

    def paths(self, advance: Callable[[int], Any]) -> np.ndarray:
        """All variables as packed columns: (R, timesteps + 1, N), in the dtype of the model's results."""
        slots = _engine.slots(self.point.definition.State).values()
        numbers = self.point.program.setup.timesteps * sum(slot.stop - slot.start for slot in slots)
        size = chunk_size(len(self.vectors), numbers * self.vectors.element_size())
        found: list[np.ndarray] = []
        for start, stop, rows in in_chunks(self._batch, len(self.vectors), size):
            found.append(rows[:, : stop - start].to(self.dtype).transpose(0, 1).cpu().numpy())
            advance(stop - start)
        return np.concatenate(found)

    def _batch(self, rows: np.ndarray) -> torch.Tensor:
        point, vectors = self.point, self.vectors[torch.from_numpy(rows)]
        return point.program.batch(vectors, point.matrix, *point.random)

    def table(self, index: pd.Index, advance: Callable[[int], Any]) -> pd.DataFrame:
        """The results of all runs: rows (ID, time), columns as `variables.to_pandas()` has them."""
        import pandas as pd

        paths = self.paths(advance)
        # A run whose values are the numbers of their columns says which column goes where.
        count = paths.shape[-1]
        numbers = torch.from_numpy(np.arange(count, dtype=float)).expand(paths.shape[1], count)
        pattern = self._frame(numbers, torch.float64)
        order = pattern.iloc[0].to_numpy().astype(int)
        values = paths.reshape(-1, count)
        if not np.array_equal(order, np.arange(count)):
            values = values[:, order]
        rows = pd.MultiIndex.from_product(
            [index, pattern.index], names=["ID", *pattern.index.names]
        )
        return pd.DataFrame(values, index=rows, columns=pattern.columns)

    def frames(self, advance: Callable[[int], Any]) -> Iterator[pd.DataFrame]:
        """The results run by run, as `variables.to_pandas()` gives them."""
        for path in self.paths(advance):
            yield self._frame(torch.from_numpy(path), self.dtype)

    def _frame(self, rows: torch.Tensor, dtype: torch.dtype) -> pd.DataFrame:
        twin = copy.copy(self.variables)
        twin.set_timeseries(_engine.unpack_rows(self.point.definition, rows, dtype))
        return twin.to_pandas()
