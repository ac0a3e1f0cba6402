"""Designs drawn from priors: points that are as dense as the prior says."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._model import Model
from . import _places
from ._designs import Design, unit_points

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
        KeyError: an unknown parameter. TypeError: something that has no quantiles. ValueError: a prior
            with less than half of its mass within the bounds, or whose points lie outside of them; and as
            for `sobol`.
    """
    found = {one: prior for name, prior in priors.items() for one in _places.expanded(model, name)}
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
        return repr(prior)
    given = [f"{a:g}" for a in prior.args] + [f"{k}={v:g}" for k, v in prior.kwds.items()]
    return f"{inner.name}({', '.join(given)})"
