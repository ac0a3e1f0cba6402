"""Samples at the points of a Sobol sequence."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from macrostat_jax.sample import scaled, unit_points

from ..core import Model
from ..util.batchprocessing import timeseries_worker
from .sampler import BaseSampler

if TYPE_CHECKING:
    import pandas as pd


class SobolSampler(BaseSampler):
    """Simulates a model at the points of a scrambled Sobol sequence.

        SobolSampler(model, {"TaxRate": (0.1, 0.3)}, sample_power=8, output_folder="taxes").sample()

    Args:
        sample_power: there are 2**sample_power samples.
        sobol_seed: of the scrambling.
        model, bounds, ...: as for `BaseSampler`.
    """

    def __init__(
        self,
        model: Model,
        bounds: Mapping[str, Sequence[float]] | None = None,
        sample_power: int = 10,
        sobol_seed: int = 0,
        logspace: bool = False,
        worker_function: Callable[[tuple], tuple] = timeseries_worker,
        simulation_args: tuple = (),
        output_folder: os.PathLike | str = "sobol_samples",
        cpu_count: int = 1,
        batchsize: int | None = None,
        output_filetype: str = "csv",
        output_compression: str | None = None,
        save_to_disk: bool = True,
    ) -> None:
        if isinstance(sample_power, bool) or sample_power != int(sample_power) or sample_power < 0:
            raise ValueError(f"sample_power must be a whole number, not {sample_power!r}.")
        super().__init__(
            model=model,
            bounds=bounds,
            logspace=logspace,
            worker_function=worker_function,
            simulation_args=simulation_args,
            output_folder=output_folder,
            cpu_count=cpu_count,
            batchsize=batchsize,
            save_to_disk=save_to_disk,
            output_filetype=output_filetype,
            output_compression=output_compression,
        )
        self.sobol_seed = sobol_seed
        self.sample_power = int(sample_power)

    def generate_parameters(self) -> pd.DataFrame:
        """The points: 2**sample_power rows, a column per sampled parameter."""
        import pandas as pd

        unit = unit_points("sobol", len(self.bounds), 1 << self.sample_power, self.sobol_seed)
        columns = {
            name: scaled(u, float(low), float(high), self.logspace)
            for (name, (low, high)), u in zip(self.bounds.items(), unit.T, strict=True)
        }
        return pd.DataFrame(columns)

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {
            "sample_power": self.sample_power,
            "sobol_seed": self.sobol_seed,
        }
