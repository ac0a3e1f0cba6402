"""The float dtype of a model's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def as_dtype(value: Any) -> torch.dtype:
    """A dtype, or its name (`"torch.float64"`, `"float64"`), as a dtype; else a `ValueError`."""
    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype):
        raise ValueError(
            f"The hyperparameter dtype must be a torch dtype or its name, not {value!r}."
        )
    return found


def output_dtype(hyper: Mapping[str, Any]) -> torch.dtype:
    """The dtype of parameters, scenarios and results: `hyper["dtype"]`, else torch's default."""
    given = hyper.get("dtype")
    return torch.get_default_dtype() if given is None else as_dtype(given)
