"""KirmansAnts in the torch API: its sub-steps, their draws, and the path between the periods."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .._random import generator_of
from ._declared import LibraryParameters
from ._library import LibraryBehavior

logger = logging.getLogger(__name__)


def _verify(hyper: Mapping[str, Any]) -> None:
    dt, substeps, x0 = hyper["dt"], hyper["substeps"], hyper["x0"]
    if not 0.0 < dt < 1.0:
        raise ValueError(f"dt must be in (0, 1); got {dt!r}.")
    if abs(round(1.0 / dt) - 1.0 / dt) > 1e-9:
        raise ValueError(f"1/dt must be integer-valued; got 1/{dt} = {1.0 / dt}.")
    if substeps != round(1.0 / dt):
        raise ValueError(f"substeps must equal int(1/dt) = {round(1.0 / dt)}; got {substeps}.")
    if not 0.0 < x0 < 1.0:
        raise ValueError(f"x0 must be strictly in (0, 1); got {x0!r}.")


class Parameters(LibraryParameters):
    def verify_parameters(self) -> None:
        """Raises `BoundaryError` where a value is not within its bounds, `ValueError` where `dt`, `substeps`
        and `x0` do not fit: dt in (0, 1), substeps = 1 / dt, x0 in (0, 1).
        """
        super().verify_parameters()
        _verify(self.hyper)
        size = 4 * self.hyper["timesteps"] * self.hyper["substeps"]
        if self.hyper["record_inner"] and size > 1e9:
            logger.warning("record_inner=True will allocate %.2f GB.", size / 1e9)


def noise(hyper: Mapping[str, Any]) -> torch.Tensor:
    """The published draws: standard normal, double precision, `substeps` of them in every period."""
    _verify(hyper)
    periods = int(hyper["timesteps"]) - int(hyper["timesteps_initialization"])
    generator = generator_of(hyper)
    found = torch.empty(periods, int(hyper["substeps"]), dtype=torch.float64, device="cpu")
    # Period by period: which normal numbers torch draws depends on how many are asked for at once.
    for row in found:
        row.normal_(generator=generator)
    return found


class Behavior(LibraryBehavior):
    """As published, not differentiable in torch; `macrostat_jax.diff` has the derivatives along a path.

    Attributes:
        _micro_trajectory: after a run with `hyper["record_inner"]`, the density after every sub-step,
            float32 (timesteps * substeps,), the k-th of period t at t * substeps + k; NaN where no period
            was run (before `timesteps_initialization`). Else None, as where a subclass of yours replaces
            `step`.
    """

    supports_differentiable = False
    _micro_trajectory: np.ndarray | None = None

    def _take(self, timeseries: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self._micro_trajectory = None
        if self.hyper["record_inner"]:
            from macrostat import _engine
            from macrostat_jax.models import kirmansants

            paths = _engine.paths_of(self, kirmansants.recorded)
            rows = paths["Micro"].float().cpu().numpy()
            rows[: int(self.hyper["timesteps_initialization"]) + 1] = np.nan
            self._micro_trajectory = rows[1:].reshape(-1)
        return super()._take(timeseries)
