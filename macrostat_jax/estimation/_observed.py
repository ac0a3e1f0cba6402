"""What is observed: which variable a series of the data measures, in what form, and how well."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TRANSFORMS = ("level", "log", "difference", "growth", "log_growth", "index")
AGGREGATES = ("sum", "mean", "last", "first")


def is_positive(value: Any) -> bool:
    return np.ndim(value) == 0 and bool(np.isfinite(value) and value > 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Observed:
    """How one variable is observed.

    Args:
        column: of the data; default: the variable's own name.
        transform: what of both sides is compared: `"level"`, `"log"`, `"difference"`, `"growth"`
            (x / x_{-1} - 1), `"log_growth"`, `"index"` (x over its mean in the base period); or a
            function `(x, xp) -> x` of the whole series (A,), with xp either numpy or jax.numpy, that
            puts NaN where it is not defined.
        transformed: the column holds the transformed series already: growth rates, say.
        lag: how many dates back a growth or difference goes: 4 for a year of quarters.
        base: the date that an index has for its base, or (first, last); default: the first observed.
        of: instead of a variable of that name, a function of the path (`State` with leaves (T, *shape))
            that gives (T,): a sum, a ratio, a rate. It must be traceable.
        over: another variable: the ratio to it is observed.
        over_column: the column by which the data are divided to give the ratio; default: the column
            holds the ratio already.
        aggregate: how periods make a longer one where data are of lower frequency: `"sum"`, `"mean"`,
            `"last"`, `"first"`. Default: the sum of a flow, the last of a stock; an index needs to be
            told.
        freq: the data's own frequency, where a table holds, say, years among quarters.
        scale: data are compared with the (transformed) model value times this: 100 where a column is in
            per cent. The data stay as they are.
        weight: the variance of the error is sigma^2 / weight.
        sigma: the standard deviation of the measurement error, in the units of the transformed data.
    """

    column: str | None = None
    transform: str | Callable[..., Any] = "level"
    transformed: bool = False
    lag: int = 1
    base: Any = None
    of: Callable[[Any], Any] | None = None
    over: str | None = None
    over_column: str | None = None
    aggregate: str | None = None
    freq: str | None = None
    scale: float = 1.0
    weight: float = 1.0
    sigma: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.transform) and self.transform not in TRANSFORMS:
            raise ValueError(
                f"There is no transform {self.transform!r}: use one of {', '.join(TRANSFORMS)}, or a "
                "function (x, xp) -> x."
            )
        if self.aggregate is not None and self.aggregate not in AGGREGATES:
            raise ValueError(
                f"There is no aggregate {self.aggregate!r}: use one of {', '.join(AGGREGATES)}."
            )
        if isinstance(self.lag, bool) or not isinstance(self.lag, int) or self.lag < 1:
            raise ValueError(f"lag must be a whole number of dates, at least 1; not {self.lag!r}.")
        for what in ("weight", "sigma"):
            value = getattr(self, what)
            if value is not None and not is_positive(value):
                raise ValueError(f"{what} must be a positive number, not {value!r}.")
        if not np.isfinite(self.scale) or self.scale == 0:
            raise ValueError(f"scale must be a finite number other than 0, not {self.scale!r}.")
        if self.over is None and self.over_column is not None:
            raise ValueError("over_column needs over=: the variable to which the ratio is taken.")


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Numbers that a function of the path should match.

    Args:
        of: function of the path (`State` with leaves (T, *shape)) that gives (j,), or a number; traceable.
        target: what it should be, (j,) or a number.
        weights: the matrix W (j, j) of the criterion (g - target)' W (g - target), symmetric and positive
            definite (the inverse of the covariance of the targets); or its diagonal (j,); default:
            ones.
        name: how reports call them. names: of each, j of them; default: numbers.
    """

    of: Callable[[Any], Any]
    target: Any
    weights: Any = None
    name: str = "moments"
    names: Sequence[str] | None = None

    def root(self) -> np.ndarray:
        """R with W = R'R, (j, j): the residuals are R (g - target).

        Raises:
            ValueError: weights that are of another size, or not positive definite; a target that is not
                finite; names of another number.
        """
        target = np.atleast_1d(np.asarray(self.target, float))
        count = len(target)
        if target.ndim != 1 or not np.isfinite(target).all():
            raise ValueError(
                f"The target of {self.name!r} must be finite numbers (j,), not {target}."
            )
        if self.names is not None and len(self.names) != count:
            raise ValueError(f"{self.name!r} has {count} targets and {len(self.names)} names.")
        weights = np.ones(count) if self.weights is None else np.asarray(self.weights, float)
        matrix = np.diag(weights) if weights.ndim == 1 else weights
        if matrix.shape != (count, count) or not np.allclose(matrix, matrix.T, rtol=1e-10, atol=0):
            raise ValueError(
                f"The weights of {self.name!r} must be ({count},) or a symmetric matrix ({count}, "
                f"{count}), as there are {count} targets; not {weights.shape}."
            )
        try:
            return np.linalg.cholesky(matrix).T
        except np.linalg.LinAlgError:
            raise ValueError(f"The weights of {self.name!r} are not positive definite.") from None


def transformed(x: Any, observed: Observed, xp: Any, base: np.ndarray | None) -> Any:
    """The transform of a whole series (A,), NaN where it reaches back too far."""
    kind = observed.transform
    if callable(kind):
        return kind(x, xp)
    if kind == "level":
        return x
    if kind == "log":
        return xp.log(x)
    if kind == "index":
        return x / xp.mean(x[base])
    before, now = x[: -observed.lag], x[observed.lag :]
    change = {
        "difference": lambda: now - before,
        "growth": lambda: now / before - 1,
        "log_growth": lambda: xp.log(now) - xp.log(before),
    }[kind]()
    return xp.concatenate([xp.full(min(observed.lag, len(x)), xp.nan, x.dtype), change])


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """One observed series, matched to the run.

    Attributes:
        label: the variable, as it was asked for. observed: how. reads: the field and element of the
            variable and of the one it is taken over, each (key, element) or None.
        spans: the first and last row of the run in each of A dates, (A, 2); aggregate: how they make
            one, None where every date is a period.
        base: the dates of an index's base. rows: the dates that are observed, (m,).
        target: the transformed data there, (m,). dates: as text, A of them.
        table: the transformed data of all dates, (A,), NaN where missing.
        sigma: the error's standard deviation, None if it is not known.
        spread: the standard deviation of the target, or its size where it does not vary.
    """

    label: str
    observed: Observed
    reads: tuple[Any, Any]
    spans: np.ndarray
    aggregate: str | None
    base: np.ndarray | None
    rows: np.ndarray
    target: np.ndarray
    dates: tuple[str, ...]
    table: np.ndarray
    sigma: float | None
    spread: float

    @property
    def size(self) -> int:
        return len(self.rows)

    def model(self, path: Any) -> Any:
        """The model's side of all dates, (A,), in the units of the data; traced."""
        x = self.observed.of(path) if self.observed.of is not None else _read(path, self.reads[0])
        x = jnp.asarray(x)
        periods = jax.tree.leaves(path)[0].shape[0]
        if x.shape != (periods,):  # an index beyond the end would be the last one to JAX
            raise ValueError(
                f"Observed(of=...) of {self.label!r} gives the shape {x.shape}: a number for each period is "
                f"needed, ({periods},)."
            )
        if self.reads[1] is not None:
            x = x / _read(path, self.reads[1])
        x = aggregated(x, self.spans, self.aggregate)
        scale = jnp.asarray(self.observed.scale, x.dtype)
        return transformed(x, self.observed, jnp, self.base) * scale

    def errors(self, path: Any) -> Any:
        """Model less data where there are data, (m,), in units of sigma / sqrt(weight); traced."""
        model = self.model(path)[self.rows]
        root = np.sqrt(self.observed.weight)
        return (model - self.target.astype(model.dtype)) * root.astype(model.dtype)


def aggregated(x: Any, spans: np.ndarray, how: str | None) -> Any:
    """The values (T,) of a run as those of A longer dates."""
    first, last = spans.T
    if how is None or how == "last":
        return x[last]
    if how == "first":
        return x[first]
    lengths = last - first + 1
    members = np.repeat(np.arange(len(spans), dtype=np.int32), lengths)
    rows = np.concatenate([np.arange(a, b + 1, dtype=np.int32) for a, b in spans])
    total = jax.ops.segment_sum(x[rows], members, num_segments=len(spans))
    return total if how == "sum" else total / lengths.astype(total.dtype)


def _read(path: Any, place: tuple[str, tuple[int, ...]]) -> Any:
    key, element = place
    return getattr(path, key)[(slice(None), *element)]
