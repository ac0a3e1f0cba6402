"""How well a fit meets each observed series."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from .. import _compile
from .._trajectory import trajectory
from ._problem import Problem
from ._programs import _moved


@dataclasses.dataclass(frozen=True, eq=False)
class SeriesFit:
    """One series, as it is compared: after its transform.

    Attributes:
        label: the variable. dates: of the n observations. data, model: (n,) each.
        path: the model's side at all dates, (A,); all_dates: A of them.
        rmse: the root mean squared error. bias: the mean error, model less data.
        r2: the share of the data's variance that is explained; NaN where they do not vary.
        autocorrelation: of errors of neighbouring dates; NaN for fewer than 3 pairs of them, or of no
            size. Standard errors suppose that it is 0.
    """

    label: str
    dates: tuple[str, ...]
    data: np.ndarray
    model: np.ndarray
    path: np.ndarray
    all_dates: tuple[str, ...]
    rmse: float
    bias: float
    r2: float
    autocorrelation: float

    def to_dict(self) -> dict[str, Any]:
        numbers = ("rmse", "bias", "r2", "autocorrelation")
        return {"n": len(self.data)} | {name: getattr(self, name) for name in numbers}


@functools.partial(jax.jit, static_argnums=0)
def _sides(problem: Problem, u: Any, inputs: Any) -> Any:
    path = trajectory(problem._plan, _moved(problem, u, inputs)[0])
    return [one.model(path) for one in problem.series]


def series_fits(problem: Problem, u: np.ndarray) -> tuple[SeriesFit, ...]:
    """Data and model of every series at u."""
    paths = _compile.call(_sides, problem, u, problem.inputs)
    found = []
    for one, path in zip(problem.series, paths, strict=True):
        path = np.asarray(path)
        model = path[one.rows]
        error = model - one.target
        spread = float(((one.target - one.target.mean()) ** 2).sum())
        r2 = 1 - float(error @ error) / spread if spread > 0 else np.nan
        dates = tuple(one.dates[row] for row in one.rows)
        found.append(
            SeriesFit(
                one.label,
                dates,
                one.target,
                model,
                path,
                one.dates,
                float(np.sqrt(np.mean(error**2))),
                float(error.mean()),
                r2,
                _autocorrelation(error, one.rows, one.spread),
            )
        )
    return tuple(found)


def _autocorrelation(error: np.ndarray, rows: np.ndarray, spread: float) -> float:
    pairs = np.flatnonzero(np.diff(rows) == 1)
    if len(pairs) < 3 or np.sqrt(np.mean(error**2)) < 1e-8 * spread:
        return np.nan
    first, second = error[pairs], error[pairs + 1]
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / size if size > 0 else np.nan
