"""Mark0COVID in the torch API: the draws of the published package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .._random import generator_of
from ..core._dtype import as_dtype

DRAWS = 4
"""Per firm and period, in the order of the declared `Noise`: price, wage, revival, production then."""


def noise(hyper: Mapping[str, Any]) -> torch.Tensor:
    """The published draws: uniform, in the model's precision, four per firm and period from period 0 on."""
    shape = int(hyper["timesteps"]), DRAWS * int(hyper["N_firms"])
    # All at once: torch draws uniform numbers one by one, however many are asked for.
    found = torch.rand(
        shape, generator=generator_of(hyper), dtype=as_dtype(hyper["dtype"]), device="cpu"
    )
    return found[int(hyper["timesteps_initialization"]) :].double()
