"""Checks of single parameters: known names, numbers, bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ._dtype import as_dtype


class BoundaryError(ValueError):
    """Bounds that are missing or contradict themselves, or a value outside of them."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def require(name: str, known: Mapping[str, Any], kind: str) -> None:
    if name not in known:
        there = ", ".join(known) or "none"
        raise KeyError(f"{kind.capitalize()} {name!r} not found. There are: {there}.")


def number(value: Any) -> float | int:
    """A Python number; NumPy and torch scalars are unwrapped."""
    if isinstance(value, np.generic | np.ndarray | torch.Tensor) and math.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"A parameter's value must be a number, not {value!r}.")
    return value


def check_order(what: str, low: float, high: float) -> None:
    if not low <= high:
        raise BoundaryError(f"{what} has invalid bounds: ({low}, {high}).")


def check_value(name: str, value: float, info: Mapping[str, Any], slack: float) -> None:
    low, high = info["lower bound"], info["upper bound"]
    if not low - slack <= value <= high + slack:
        raise BoundaryError(f"Parameter {name} has invalid value: {value} (bounds: {low}, {high}).")


def check_data(name: str, info: Mapping[str, Any]) -> None:
    low, high, tensor = info.get("lower_bound"), info.get("upper_bound"), info["value"]
    if low is not None and not bool((tensor >= low).all()):
        raise BoundaryError(
            f"Data parameter {name} has values below lower bound {low} (min: {tensor.min():.6g})."
        )
    if high is not None and not bool((tensor <= high).all()):
        raise BoundaryError(
            f"Data parameter {name} has values above upper bound {high} (max: {tensor.max():.6g})."
        )


def check_hyperparameter(name: str, value: Any) -> None:
    """Whole, non-negative numbers of periods, such a seed, a device that is there, a dtype of real numbers.

    Raises:
        ValueError: a number of periods, or seed, that is none, a device that torch does not know, or a
            dtype that is none of real numbers.
        RuntimeError: a device that this machine or this build of torch does not have.
    """
    if name in ("timesteps", "timesteps_initialization", "scenario_trigger"):
        least = 1 if name == "timesteps" else 0
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise ValueError(
                f"Hyperparameter {name!r} must be an integer >= {least}, not {value!r}."
            )
    elif name == "seed":
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (whole and 0 <= value < 2**63):
            raise ValueError(f"Hyperparameter 'seed' must be an integer >= 0, not {value!r}.")
    elif name == "device":
        check_device(value)
    elif name == "dtype" and value is not None:
        as_dtype(value)


def seed_of(hyper: Mapping[str, Any]) -> int:
    """The seed of a run.

    Raises:
        KeyError: there is none. ValueError: it is no integer >= 0 (below 2^63).
    """
    if "seed" not in hyper:
        raise KeyError("The hyperparameter 'seed' is missing: an integer, by default 42.")
    check_hyperparameter("seed", hyper["seed"])
    return int(hyper["seed"])


def check_device(device: Any) -> None:
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"Hyperparameter 'device': torch knows no device {device!r}. Use 'cpu', 'cuda' or 'cuda:0'."
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        build = (
            f"a build of torch for CUDA {torch.version.cuda}"
            if torch.version.cuda
            else "a CPU build"
        )
        raise RuntimeError(
            f"Hyperparameter 'device': {device!r} is not available: this is {build} on a machine where "
            "it finds no GPU. Install torch's CUDA build and 'jax[cuda13]', or use device='cpu'."
        )
