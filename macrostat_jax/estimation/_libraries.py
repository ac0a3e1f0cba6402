"""Libraries that only some methods need: imported when asked for, under the promotion rules they expect."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import jax


def library(name: str, purpose: str, extra: str = "calibration") -> Any:
    """The module `name`, or an ImportError that says which extra brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {name.partition('.')[0]}: pip install 'macrostat-jax[{extra}]'"
        ) from error


@contextlib.contextmanager
def usual_promotion() -> Iterator[None]:
    """Other people's code is written for JAX's default promotion, whatever the user has set for theirs."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
