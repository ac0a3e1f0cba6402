"""What several tests of the core share."""

from __future__ import annotations

from typing import Any

import numpy as np

from macrostat_jax import Model


def randomly(model: Model, seed: int, size: int | None = None) -> Any:
    """Parameters within 20 % of their defaults and within their bounds; `size` of them, or one."""
    rng = np.random.default_rng(seed)
    values = {}
    for key, field in model.Params.fields.items():
        shape = field.shape if size is None else (size, *field.shape)
        drawn = np.asarray(field.default) * rng.uniform(0.8, 1.2, shape)
        values[key] = np.clip(drawn, *field.bounds)
    return model.params(**values)
