"""Mark0COVID in the torch API: the draws of the published package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .._random import drawn
from ..core._checks import seed_of
from ..core._dtype import as_dtype


def noise(hyper: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The published draws: uniform, in the model's precision, four per firm and period from period 0 on."""
    firms, dtype = int(hyper["N_firms"]), as_dtype(hyper["dtype"])

    def draw(generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {
            name: torch.rand(firms, generator=generator, dtype=dtype)
            for name in ("price", "wage", "revive", "revive_y")
        }

    found = drawn(seed_of(hyper), int(hyper["timesteps"]), draw)
    return {name: rows[int(hyper["timesteps_initialization"]) :] for name, rows in found.items()}
