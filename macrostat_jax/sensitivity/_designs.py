"""Where to run: the designs of Saltelli for Sobol indices, and of Morris for elementary effects."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from .. import sample
from .._model import Model
from ..sample import Design, _places

Bounds = Mapping[str, tuple[float, float]]
Log = bool | Collection[str]


def around(
    model: Model, share: float, names: Collection[str] | None = None, params: Any = None
) -> dict[str, tuple[float, float]]:
    """Bounds that reach `share` of each parameter's value to either side, as far as the model's own go.

    Args:
        model: the model.
        share: 0.1 is from 10 % less to 10 % more.
        names: which parameters; default: all that no constraint derives, but for those that are zero,
            of which no share is a range.
        params: their values; default: the model's.

    Returns:
        Parameter (or element, `share[2]`) -> (low, high), for a design.

    Raises:
        ValueError: a share that is not positive, or a parameter named that is zero. KeyError: an unknown
            name.
    """
    if not (share > 0 and math.isfinite(share)):
        raise ValueError(f"share must be positive, as 0.1 for 10 % to either side, not {share!r}.")
    params = model.params() if params is None else params
    found: dict[str, tuple[float, float]] = {}
    every = free_parameters(model)
    if names is not None:
        every = [one for name in names for one in _places.expanded(model, name)]
    for name in every:
        value, (low, high) = _value(model, params, name)
        ends = sorted((value * (1 - share), value * (1 + share)))
        ends = max(ends[0], low), min(ends[1], high)
        if ends[0] < ends[1]:
            found[name] = ends
        elif names is not None:
            raise ValueError(
                f"{name!r} is {value:g}, of which a share is no range: give its bounds."
            )
    if not found:
        raise ValueError(f"{model.name}: every parameter is zero: give bounds.")
    return found


def free_parameters(model: Model) -> list[str]:
    """The scalar parameters, and the elements of the others, that no constraint derives."""
    derived = _places.derived(model)
    return [
        one
        for key, field in model.Params.fields.items()
        for one in _places.elements(key, field)
        if not derived & {key, one}
    ]


def _value(model: Model, params: Any, name: str) -> tuple[float, tuple[float, float]]:
    """A parameter's value, and the least and greatest that it may have."""
    key, element = _places.place(model, name)
    value, field = np.asarray(getattr(params, key)), model.Params.fields[key]
    if value.ndim != len(field.shape):
        raise ValueError(f"{model.name}: {key!r} has a batch axis; a range is around one value.")
    return float(value[element or ()]), field.extremes


def saltelli(
    what: Model | None,
    n: int,
    bounds: Bounds | None = None,
    *,
    second_order: bool = False,
    log: Log = False,
    seed: int = 0,
) -> Design:
    """The points of Saltelli's scheme: n groups of d + 2 runs, or of 2 d + 2 with `second_order`.

    Of two independent samples A and B, the halves of one scrambled Sobol sequence in 2 d dimensions, a
    group is a point of A, that point with its i-th parameter from B for each i, (the point of B with its
    i-th parameter from A for each i,) and the point of B.

    Args:
        what: the model, or None for parameters of your own, whose bounds are then all given.
        n: how many groups: a power of 2.
        bounds, log, seed: as for `sample.sobol`.

    Raises:
        As `sample.sobol`.

    Reference: Saltelli et al. (2010), Variance based sensitivity analysis of model output, Computer
    Physics Communications 181, 259-270.
    """
    names, ends, logs = _ranges(what, bounds, log)
    d = len(names)
    both = sample.unit_points("sobol", 2 * d, n, seed)
    a, b = both[:, :d], both[:, d:]
    groups = [a, *_exchanged(a, b), *(_exchanged(b, a) if second_order else ()), b]
    unit = np.stack(groups, axis=1).reshape(-1, d)
    more = {"groups": int(n), "second_order": bool(second_order), "seed": seed}
    return _design("saltelli", names, ends, logs, unit, more)


def _exchanged(a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """`a` with one column from `b`, for each column."""
    found = []
    for i in range(a.shape[1]):
        mixed = a.copy()
        mixed[:, i] = b[:, i]
        found.append(mixed)
    return found


def trajectories(
    what: Model | None,
    n: int,
    bounds: Bounds | None = None,
    *,
    levels: int = 4,
    log: Log = False,
    seed: int = 0,
) -> Design:
    """The points of Morris's scheme: n trajectories of d + 1 runs, each moving one parameter at a time.

    On a grid of `levels` values of each parameter, a trajectory starts at random and moves the
    parameters in random order, each once, by `levels / (2 (levels - 1))` of its range, up or down.

    Args:
        what: the model, or None for parameters of your own, whose bounds are then all given.
        n: how many trajectories: 10 to 100 is usual.
        levels: an even number, so that all values of the grid are equally likely.
        bounds, log, seed: as for `sample.sobol`.

    Raises:
        ValueError: fewer than two trajectories, or levels that are odd; and as `sample.sobol`.

    Reference: Morris (1991), Factorial sampling plans for preliminary computational experiments,
    Technometrics 33, 161-174.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
        raise ValueError(f"Screening takes at least 2 trajectories, not {n!r}.")
    if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2 or levels % 2:
        raise ValueError(f"levels must be an even number, not {levels!r}.")
    names, ends, logs = _ranges(what, bounds, log)
    d = len(names)
    rng = np.random.default_rng(seed)
    up = rng.integers(0, 2, (n, d)).astype(bool)
    lower = rng.integers(0, levels // 2, (n, d))
    turn = rng.permuted(np.tile(np.arange(d), (n, 1)), axis=1)
    moved = turn[:, None, :] < np.arange(d + 1)[None, :, None]
    grid = lower[:, None, :] + levels // 2 * (moved == up[:, None, :])
    unit = grid.reshape(-1, d) / (levels - 1)
    more = {"trajectories": int(n), "levels": levels, "seed": seed}
    return _design("morris", names, ends, logs, unit, more)


def _ranges(
    what: Model | None, bounds: Bounds | None, log: Log
) -> tuple[tuple[str, ...], list[tuple[float, float]], list[str]]:
    """Names, bounds and which are sampled in logarithms, checked."""
    if what is not None:
        origin = sample.sobol(what, 1, bounds, log=log).origin
        return tuple(origin["bounds"]), [tuple(b) for b in origin["bounds"].values()], origin["log"]
    if not bounds:
        raise ValueError("Give the bounds: the name of each parameter -> (low, high).")
    ends = []
    for name, pair in bounds.items():
        try:
            low, high = (float(end) for end in pair)
        except (TypeError, ValueError):
            raise ValueError(
                f"The bounds of {name!r} are a pair (low, high), not {pair!r}."
            ) from None
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(
                f"The bounds of {name!r} must be finite and in order, not ({low:g}, {high:g})."
            )
        ends.append((low, high))
    names = tuple(bounds)
    logs = list(names if log is True else () if log is False else log)
    if missing := set(logs).difference(names):
        raise KeyError(f"log names {sorted(missing)}, which have no bounds.")
    for name, (low, high) in zip(names, ends, strict=True):
        if name in logs and low * high <= 0:
            raise ValueError(
                f"Log space needs bounds of one sign: {name!r} has ({low:g}, {high:g})."
            )
    return names, ends, logs


def _design(
    kind: str,
    names: tuple[str, ...],
    ends: list[tuple[float, float]],
    logs: list[str],
    unit: np.ndarray,
    more: dict[str, Any],
) -> Design:
    columns = [
        sample.scaled(u, low, high, name in logs)
        for u, name, (low, high) in zip(unit.T, names, ends, strict=True)
    ]
    origin = {
        "kind": kind,
        "bounds": {name: list(pair) for name, pair in zip(names, ends, strict=True)},
        "log": logs,
        **more,
    }
    return Design(names, np.stack(columns, axis=1), origin)


def require(design: Design, kind: str, maker: str, values: np.ndarray) -> Mapping[str, Any]:
    """The origin of a design that a method can read, of which all runs are there.

    Raises:
        ValueError: another design, a slice of one, or values of another number of runs.
    """
    origin = design.origin
    if origin.get("kind") != kind:
        raise ValueError(
            f"This takes a design of sensitivity.{maker}, not one of kind {origin.get('kind')!r}."
        )
    d = len(design.names)
    per = d + 1 if kind == "morris" else (2 * d + 2 if origin["second_order"] else d + 2)
    groups = origin["trajectories" if kind == "morris" else "groups"]
    if len(design) != groups * per or len(values) != len(design):
        raise ValueError(
            f"The design has {groups} groups of {per} runs, {groups * per} in all; there are "
            f"{len(design)} points here and {len(values)} values."
        )
    return {"groups": groups, "per": per, **origin}
