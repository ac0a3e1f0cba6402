"""What decides the results of a sweep, as JSON can hold it: equal texts, equal results."""

from __future__ import annotations

import dataclasses
import functools
import json
import platform
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _fingerprint
from . import _named
from ._program import Program
from ._runs import Runs


def identity(
    program: Program, found: Runs, shapes: Any, chunk: int, files: str, given: Any
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The design of a sweep as its manifest has it, and the columns that follow from it.

    Args:
        shapes: of what is kept of a block. given: the `keep` that the user gave.

    Raises:
        TypeError: a `keep` whose code cannot be told. ValueError: names of columns that clash.
    """
    model = program.plan.model
    about = list(found.columns(np.zeros(0, int)))
    if files == "parquet":
        names = list(_named.columns(_no_runs(shapes)))
    else:
        names = [one.name for one in _named.kept(shapes, program.axis)]
    _named.check_names(names, about)
    design = {
        "runs": found.count,
        "chunk": chunk,
        "block": program.block,
        "files": files,
        **program.versions,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "x64": program.x64,
        "model": {
            "name": model.name,
            "code": _fingerprint.of_code(model.initial_state, model.step),
            "options": {name: str(value) for name, value in model.options.items()},
            "constraints": [str(one) for one in model.constraints],
        },
        "periods": program.plan.periods,
        "points": dict(found.origin),
        "inputs": found.identity(),
        "keep": _described(given),
    }
    return json.loads(json.dumps(design, default=_plain)), {"about": about, "kept": names}


def _described(keep: Any) -> Any:
    if keep is None:
        return "all paths"
    if not callable(keep):
        return sorted(map(str, keep))
    inner: Any = keep
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = getattr(inner, "__wrapped__", inner)
    is_function = isinstance(inner, types.FunctionType | types.MethodType)
    if not is_function and not dataclasses.is_dataclass(inner):
        raise TypeError(
            f"keep is a {type(inner).__name__}, of which a folder of results could not tell one from "
            "another: pass a function, a functools.partial of one, or a dataclass with __call__."
        )
    name = inner.__qualname__ if is_function else repr(inner)
    more: list[Any] = [] if is_function else [type(inner).__call__]
    if isinstance(inner, types.MethodType):
        more.append(inner.__self__)
    return {"name": name, "code": _fingerprint.of_code(keep, *more)}


def _plain(value: Any) -> Any:
    """What JSON does not know: numbers of NumPy are numbers, everything else is its text."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else str(value)


def _no_runs(shapes: Any) -> Any:
    return jax.tree.map(lambda x: np.empty((0, *x.shape[1:]), jnp.dtype(x.dtype)), shapes)
