"""Where a path becomes undefined: in which period, and by which equation."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from . import causality
from ._model import Model
from ._record import Record, stands_for


@dataclasses.dataclass(frozen=True)
class Undefined:
    """The origin of the NaN in one run. `str()` says it in a sentence."""

    model: str
    run: int | None
    """The run of a batch; None for a single one."""
    period: int
    """Counted from 0."""
    variables: tuple[str, ...]
    """Those that were first: what they are computed from in that period is still finite."""
    equations: tuple[str, ...]

    def __str__(self) -> str:
        where = "" if self.run is None else f"run {self.run}, "
        which = "; ".join(
            f"{name} = {equation}"
            for name, equation in zip(self.variables, self.equations, strict=True)
        )
        return f"{self.model}, {where}period {self.period}: undefined or infinite by {which}"


def undefined(model: Model, path: Record) -> list[Undefined]:
    """Explains every run of a path that has a NaN.

    Args:
        model: the model.
        path: what `simulate` returned, single or a batch.

    Returns:
        One entry for each run with a NaN somewhere: the first period in which a variable is NaN or
        infinite, and the variables there whose own inputs of that period are finite: the equations at
        which it began. A variable that is infinite in every period, a limit that never binds, is none.

    Raises:
        TypeError: a path of another model. ValueError: a single period, or a path that holds a record of
            some variables only.
    """
    if not stands_for(path, model.State):
        raise TypeError(f"{model.name} expects {model.State.__qualname__}, not {type(path)}.")
    bad, lasting, nan = {}, {}, []
    for key, field in model.State.fields.items():
        values = np.asarray(getattr(path, key))
        if getattr(path, key) is None or values.ndim <= len(field.shape):
            raise ValueError(
                f"{model.name}: where a NaN began is seen from the whole path of every variable, as "
                f"`simulate` returns it; this one has not that of {key!r}."
            )
        axes = tuple(range(values.ndim - len(field.shape), values.ndim))
        nan.append(np.isnan(values).any(axis=axes))
        lasting[key] = np.isinf(values).any(axis=axes).all(axis=0)
        bad[key] = ~np.isfinite(values).all(axis=axes)
    if not bad:
        return []
    undefined_runs = np.logical_or.reduce(nan).any(axis=0)
    direct = causality.direct_dependencies(model)
    found = []
    for run in np.ndindex(undefined_runs.shape):
        if not undefined_runs[run]:
            continue
        at = (slice(None), *run)
        marks = {k: mark[at] for k, mark in bad.items() if not lasting[k][run]}
        period = min(int(np.argmax(mark)) for mark in marks.values() if mark.any())
        here = {key for key, mark in marks.items() if mark[period]}
        first = [k for k in here if not any(f"now.{other}" in direct[k] for other in here - {k})]
        found.append(_entry(model, run, period, first or sorted(here)))
    return found


def _entry(model: Model, run: Any, period: int, keys: list[str]) -> Undefined:
    fields = [field for key, field in model.State.fields.items() if key in keys]
    return Undefined(
        model.name,
        run[0] if run else None,
        period,
        tuple(field.key for field in fields),
        tuple(field.equation for field in fields),
    )
