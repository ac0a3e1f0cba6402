"""Designs: points in the space of a model's parameters, spread between bounds or drawn from priors."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import _constraints
from .._model import Model
from . import _places

if TYPE_CHECKING:
    import pandas as pd

Bounds = Mapping[str, tuple[float, float]]
Log = bool | Collection[str]

KINDS = ("sobol", "halton", "latin_hypercube", "random")


@dataclasses.dataclass(frozen=True, eq=False)
class Design:
    """n points in the space of d parameters; `design[a:b]` are some of them.

    Attributes:
        names: the parameters: fields (`tax_rate`), or elements of fields (`share[2]`, `table[0,1]`).
        points: float64, of shape (n, d).
        origin: how the points were made, of what JSON can hold: kind, bounds, seed, ...
    """

    names: tuple[str, ...]
    points: np.ndarray
    origin: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"kind": "given"})

    def __post_init__(self) -> None:
        names, points = tuple(self.names), np.asarray(self.points, np.float64)
        if len(set(names)) < len(names):
            raise ValueError(f"A design names every parameter once, not {names}.")
        if points.ndim != 2 or points.shape[1] != len(names):
            raise ValueError(
                f"The points of {len(names)} parameters have the shape (n, {len(names)}), "
                f"not {points.shape}."
            )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "points", points)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, item: slice) -> Design:
        return dataclasses.replace(self, points=self.points[item])

    def __repr__(self) -> str:
        return f"Design({len(self)} points, {self.origin['kind']}: {', '.join(self.names)})"

    def to_pandas(self) -> pd.DataFrame:
        """A row per point, a column per parameter."""
        import pandas as pd

        return pd.DataFrame(self.points, columns=list(self.names)).rename_axis("run")

    def params(self, model: Model, base: Any = None) -> Any:
        """The parameters of all runs, for `simulate` or `sweep`: what is sampled has shape (n, *shape).

        Args:
            base: the parameters that are not sampled; default: the model's.

        Raises:
            KeyError: a name that the model does not have. ValueError: no points, one outside of the
                bounds, two names of one parameter, a parameter that a constraint derives, or points
                that drive one out of its bounds.
        """
        base = model.params() if base is None else base
        places = _places.distinct(model, self.names)
        if not len(self):
            raise ValueError(
                f"{model.name}: the design over {', '.join(self.names)} has no points."
            )
        values: dict[str, np.ndarray] = {}
        for (key, element), column in zip(places, self.points.T, strict=True):
            if element is None:
                values[key] = column
                continue
            if key not in values:
                values[key] = _places.repeated(
                    getattr(base, key), len(self), model.Params.fields[key]
                )
            values[key][:, *element] = column
        for constraint in model.constraints:
            keys = {_constraints.split(name)[0] for name in constraint.names}
            for key in keys.difference(values) if keys.intersection(values) else ():
                values[key] = _places.repeated(
                    getattr(base, key), len(self), model.Params.fields[key]
                )
        free = {key: array for key, array in values.items() if key not in _places.derived(model)}
        model.params(**free)  # checks them
        params = model.constrain(base.replace(**values))
        _places.check_derived(model, params)
        return params


def sobol(
    model: Model, n: int, bounds: Bounds | None = None, *, log: Log = False, seed: int = 0
) -> Design:
    """A scrambled Sobol sequence of n points: n is a power of 2.

    Args:
        bounds: parameter -> (low, high): a field, an element `share[2]`, or a whole field with a shape,
            each of whose elements is then sampled. Default: every free parameter, within its bounds.
        log: sample in the logarithm of the values: True, or the names for which.
        seed: of the scrambling. A design is the same for the same seed.

    Raises:
        KeyError: an unknown parameter. ValueError: n is no power of 2; bounds that are infinite, in the
            wrong order or outside of the model's; log space with bounds that are or enclose 0; a
            parameter that a constraint derives.
    """
    return _sampled("sobol", model, n, bounds, log, seed)


def halton(
    model: Model, n: int, bounds: Bounds | None = None, *, log: Log = False, seed: int = 0
) -> Design:
    """A scrambled Halton sequence of n points; arguments and errors as for `sobol`."""
    return _sampled("halton", model, n, bounds, log, seed)


def latin_hypercube(
    model: Model, n: int, bounds: Bounds | None = None, *, log: Log = False, seed: int = 0
) -> Design:
    """A Latin hypercube: each parameter has one point in each of n strata. Arguments as for `sobol`."""
    return _sampled("latin_hypercube", model, n, bounds, log, seed)


def random(
    model: Model, n: int, bounds: Bounds | None = None, *, log: Log = False, seed: int = 0
) -> Design:
    """n points drawn independently and uniformly; arguments and errors as for `sobol`."""
    return _sampled("random", model, n, bounds, log, seed)


def grid(
    model: Model,
    steps: int | Mapping[str, int],
    bounds: Bounds | None = None,
    *,
    log: Log = False,
) -> Design:
    """All combinations of evenly spaced values, bounds included; the last parameter varies fastest.

    Args:
        steps: how many values of each parameter (at least 2), or parameter -> how many.
        bounds, log: as for `sobol`.
    """
    found = _resolved(model, bounds, log)
    given = steps if isinstance(steps, Mapping) else dict.fromkeys(found, steps)
    known = _places.each(model, given)
    whole = [isinstance(n, int | np.integer) and n >= 2 for n in known.values()]
    if set(known) != set(found) or not all(whole):
        raise ValueError(
            f"steps takes a number of at least 2 for each of {', '.join(found)}, not {steps!r}."
        )
    axes = [np.linspace(0.0, 1.0, known[name]) for name in found]
    try:
        unit = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    except (MemoryError, ValueError) as error:
        sizes = [len(axis) for axis in axes]
        raise ValueError(
            f"A grid of {' x '.join(map(str, sizes))} = {math.prod(map(float, sizes)):.2g} points does "
            "not fit into memory: take fewer steps, fewer parameters, or another design."
        ) from error
    return _design("grid", unit, found, {"steps": [known[name] for name in found]})


class _Range(NamedTuple):
    """Where a parameter is sampled, and whether in the logarithm."""

    low: float
    high: float
    log: bool


def _sampled(kind: str, model: Model, n: int, bounds: Bounds | None, log: Log, seed: int) -> Design:
    found = _resolved(model, bounds, log)
    return _design(kind, unit_points(kind, len(found), n, seed), found, {"n": n, "seed": seed})


def _design(
    kind: str, unit: np.ndarray, ranges: Mapping[str, _Range], more: Mapping[str, Any]
) -> Design:
    origin = {
        "kind": kind,
        "bounds": {name: [at.low, at.high] for name, at in ranges.items()},
        "log": [name for name, at in ranges.items() if at.log],
        **more,
    }
    columns = [
        scaled(u, at.low, at.high, at.log) for u, at in zip(unit.T, ranges.values(), strict=True)
    ]
    return Design(tuple(ranges), np.stack(columns, axis=1), origin)


def unit_points(kind: str, d: int, n: int, seed: int) -> np.ndarray:
    """n points of the unit cube in d dimensions, (n, d), by `scipy.stats.qmc`.

    Raises:
        ValueError: an unknown kind; no whole number of points; for `sobol`, no power of 2.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"A design has a whole number of points, at least 1, not {n!r}.")
    if kind not in KINDS:
        raise ValueError(f"A design is one of {', '.join(KINDS)}, not {kind!r}.")
    if kind == "random":
        return np.random.default_rng(seed).random((n, d))
    from scipy.stats import qmc

    if kind == "halton":
        return qmc.Halton(d, rng=seed).random(n)
    if kind == "latin_hypercube":
        return qmc.LatinHypercube(d, rng=seed).random(n)
    power = int(n).bit_length() - 1
    if n != 1 << power:
        raise ValueError(
            f"A Sobol sequence is balanced for powers of 2: {1 << power} or {2 << power} points, not {n}."
        )
    return qmc.Sobol(d, rng=seed).random_base2(power)


def scaled(unit: np.ndarray, low: float, high: float, log: bool = False) -> np.ndarray:
    """Numbers of [0, 1] as numbers of [low, high], evenly spread there or, with `log`, in the logarithm."""
    if log:
        start, end = math.log(abs(low)), math.log(abs(high))
        found = math.copysign(1.0, low) * np.exp(start + unit * (end - start))
    else:
        found = low + unit * (high - low)
    return np.clip(found, low, high)  # rounding may carry the ends past the bounds by an ulp


def _resolved(model: Model, bounds: Bounds | None, log: Log) -> dict[str, _Range]:
    """Canonical names -> ranges, in the order given."""
    derived = _places.derived(model)
    if bounds is None:
        given = {
            name: field.bounds
            for key, field in model.Params.fields.items()
            for name in _places.elements(key, field)
            if not derived & {key, name}
        }
    else:
        given = _places.each(model, bounds)
    if not given:
        raise ValueError(f"{model.name}: a design needs a parameter to sample.")
    if isinstance(log, bool):
        logs = set(given) if log else set()
    else:
        names = [log] if isinstance(log, str) else log
        logs = {one for name in names for one in _places.expanded(model, name)}
        if missing := logs.difference(given):
            raise KeyError(f"log names {sorted(missing)}, which the design does not sample.")
    return {name: _range(model, name, given[name], name in logs) for name in given}


def _range(model: Model, name: str, between: Any, log: bool) -> _Range:
    try:
        low, high = (float(value) for value in between)
    except (TypeError, ValueError):
        raise ValueError(
            f"The bounds of {name!r} are a pair (low, high), not {between!r}."
        ) from None
    inside = model.Params.fields[_places.place(model, name)[0]].bounds
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"{name!r} has the bounds ({low:g}, {high:g}): pass finite ones to sample it."
        )
    if not low < high:
        raise ValueError(f"The bounds of {name!r} must be in order, not ({low:g}, {high:g}).")
    if low < inside[0] or high > inside[1]:
        raise ValueError(
            f"The bounds ({low:g}, {high:g}) of {name!r} exceed those of {model.name}, "
            f"({inside[0]:g}, {inside[1]:g})."
        )
    if log and low * high <= 0:
        raise ValueError(f"Log space needs bounds of one sign: {name!r} has ({low:g}, {high:g}).")
    return _Range(low, high, log)


LEAST_MASS = 0.5
"""A prior with less of its mass within the bounds of its parameter contradicts them."""


def from_priors(
    model: Model, n: int, priors: Mapping[str, Any], *, kind: str = "sobol", seed: int = 0
) -> Design:
    """n points drawn from independent priors, by the quantiles of a design over the unit cube.

    Args:
        model: the model.
        n: how many points; for `sobol`, a power of 2.
        priors: parameter -> a prior of `macrostat_jax.estimation`, a frozen distribution of
            `scipy.stats`, or anything with `quantile(u)` or `ppf(u)`. Names as for `sobol`; elements of a
            field named as a whole are independent. Where a prior reaches beyond the model's bounds, it
            is taken given that the parameter lies within them.
        kind: one of `KINDS`.
        seed: of the design.

    Raises:
        KeyError: an unknown parameter. TypeError: something that has no quantiles. ValueError: an unknown
            kind; a prior with less than half of its mass within the bounds, or whose points lie
            outside of them; and as for `sobol`.
    """
    found = _places.each(model, priors)
    if not found:
        raise ValueError(f"{model.name}: a design needs a parameter to sample.")
    # A coordinate of a Sobol sequence may be 0, where a normal has no quantile: it stands for its cell.
    unit = np.clip(unit_points(kind, len(found), n, seed), 2.0**-53, 1 - 2.0**-53)
    columns = [_drawn(model, name, found[name], u) for name, u in zip(found, unit.T, strict=True)]
    texts = {name: _text(prior) for name, prior in found.items()}
    origin = {"kind": f"{kind} from priors", "priors": texts, "n": n, "seed": seed}
    return Design(tuple(found), np.stack(columns, axis=1), origin)


def _drawn(model: Model, name: str, prior: Any, unit: np.ndarray) -> np.ndarray:
    field = model.Params.fields[_places.place(model, name)[0]]
    low, high = field.bounds
    quantile = getattr(prior, "quantile", None) or getattr(prior, "ppf", None)
    if quantile is None:
        raise TypeError(
            f"The prior of {name!r} has neither quantile(u) nor ppf(u): {type(prior).__name__}."
        )
    mass = _mass(prior, low, high)
    if mass is not None and mass < LEAST_MASS:
        raise ValueError(
            f"{model.name}: the prior {_text(prior)} of {name!r} has {mass:.0%} of its mass within the "
            f"bounds {field.interval}; at least {LEAST_MASS:.0%} must be."
        )
    if "bounds" in inspect.signature(quantile).parameters:
        points = quantile(unit, bounds=(low, high))
    elif hasattr(prior, "cdf"):
        under, over = prior.cdf(low), prior.cdf(high)
        points = quantile(under + unit * (over - under))
    else:
        points = quantile(unit)
    points = np.asarray(points, np.float64)
    outside = ~((points >= low) & (points <= high))
    if points.shape != unit.shape or outside.any():
        raise ValueError(
            f"{model.name}: {int(outside.sum())} of {len(unit)} points that the prior {_text(prior)} of "
            f"{name!r} gives lie outside of the bounds {field.interval}."
        )
    return points


def _mass(prior: Any, low: float, high: float) -> float | None:
    if hasattr(prior, "mass"):
        return prior.mass(low, high)
    if hasattr(prior, "cdf"):
        return float(prior.cdf(high) - prior.cdf(low))
    return None


def _text(prior: Any) -> str:
    """`norm(0.5, scale=0.1)` for a frozen distribution of scipy; else what the prior calls itself."""
    inner = getattr(prior, "dist", None)
    if inner is None or not hasattr(prior, "args"):
        # The address in Python's own text is another one in the process that resumes a sweep.
        silent = type(prior).__repr__ is object.__repr__
        return type(prior).__qualname__ if silent else repr(prior)
    given = [f"{a:g}" for a in prior.args] + [f"{k}={v:g}" for k, v in prior.kwds.items()]
    return f"{inner.name}({', '.join(given)})"
