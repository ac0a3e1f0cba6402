"""The float dtype of a model's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

DTYPES = {f"torch.{k}": dtype for k, dtype in vars(torch).items() if isinstance(dtype, torch.dtype)}
"""By name: no text of a file becomes anything else of torch."""


def as_dtype(value: Any) -> torch.dtype:
    """A real floating-point dtype, or its name (`"torch.float64"`, `"float64"`); else a `ValueError`."""
    found = value
    if isinstance(value, str):
        found = DTYPES.get(f"torch.{value.removeprefix('torch.')}")
    if not isinstance(found, torch.dtype):
        raise ValueError(
            f"The hyperparameter dtype must be a torch dtype or its name, not {value!r}."
        )
    if not found.is_floating_point:
        raise ValueError(f"The hyperparameter dtype must be of real numbers, not {found}.")
    return found


def output_dtype(hyper: Mapping[str, Any]) -> torch.dtype:
    """The dtype of parameters, scenarios and results: `hyper["dtype"]`, else torch's default."""
    given = hyper.get("dtype")
    return torch.get_default_dtype() if given is None else as_dtype(given)
