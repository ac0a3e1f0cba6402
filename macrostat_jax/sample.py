"""Designs over the parameters of a model, and sweeps: many runs, chunk by chunk.

design = sample.sobol(models.GL06PC, 4096, {"tax_rate": (0.1, 0.3)})
found = sample.sweep(models.GL06PC, design, keep=lambda path: path.national_income[-1])
print(found.values.shape, found.to_pandas().corr())
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _compile, _constraints
from ._model import Model
from ._progress import progress as _progress
from ._record import Field
from ._simulate import Inputs, Plan, float_dtype, prepare, trajectory
from .diff._finite import pad_to

if TYPE_CHECKING:
    import pandas as pd

Bounds = Mapping[str, tuple[float, float]]
Log = bool | Collection[str]

KINDS = ("sobol", "halton", "latin_hypercube", "random")

# Designs --------------------------------------------------------------------------------------


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
            KeyError: a name that the model does not have. ValueError: a point outside of the bounds,
                a parameter that a constraint derives, or points that drive one out of its bounds.
        """
        base = model.params() if base is None else base
        places = [_place(model, name) for name in self.names]
        values: dict[str, np.ndarray] = {}
        for (key, element), column in zip(places, self.points.T, strict=True):
            if element is None:
                values[key] = column
                continue
            if key not in values:
                values[key] = _repeated(getattr(base, key), len(self), model.Params.fields[key])
            values[key][:, *element] = column
        for constraint in model.constraints:
            keys = {_constraints.split(name)[0] for name in constraint.names}
            for key in keys.difference(values) if keys.intersection(values) else ():
                values[key] = _repeated(getattr(base, key), len(self), model.Params.fields[key])
        free = {key: array for key, array in values.items() if key not in _derived(model)}
        model.params(**free)  # checks them
        params = model.constrain(base.replace(**values))
        _check_derived(model, params)
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
    known = {one: count for name, count in given.items() for one in _expanded(model, name)}
    if set(known) != set(found) or not all(isinstance(n, int) and n >= 2 for n in known.values()):
        raise ValueError(
            f"steps takes a number of at least 2 for each of {', '.join(found)}, not {steps!r}."
        )
    axes = [np.linspace(0.0, 1.0, known[name]) for name in found]
    unit = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
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
    """n points of the unit cube in d dimensions, (n, d), by `scipy.stats.qmc`."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ValueError(f"A design has a whole number of points, at least 1, not {n!r}.")
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
    if not log:
        return low + unit * (high - low)
    sign = math.copysign(1.0, low)
    start, end = math.log(abs(low)), math.log(abs(high))
    # Rounding may carry the ends past the bounds by an ulp.
    return np.clip(sign * np.exp(start + unit * (end - start)), low, high)


def _resolved(model: Model, bounds: Bounds | None, log: Log) -> dict[str, _Range]:
    """Canonical names -> ranges, in the order given."""
    derived = _derived(model)
    if bounds is None:
        given = {
            name: field.bounds
            for key, field in model.Params.fields.items()
            for name in _elements(key, field)
            if not derived & {key, name}
        }
    else:
        given = {one: b for name, b in bounds.items() for one in _expanded(model, name)}
    if not given:
        raise ValueError(f"{model.name}: a design needs a parameter to sample.")
    if isinstance(log, bool):
        logs = set(given) if log else set()
    else:
        names = [log] if isinstance(log, str) else log
        logs = {one for name in names for one in _expanded(model, name)}
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
    inside = model.Params.fields[_place(model, name)[0]].bounds
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


def _place(model: Model, name: str, whole: bool = False) -> tuple[str, tuple[int, ...] | None]:
    """`"share[2]"` is the element (2,) of `share`; `"tax_rate"` is a field, with None."""
    match = re.fullmatch(r"([^\[]+)\[([\d,\s]+)\]", name)
    key = model.Params.key_of(match[1] if match else name)
    field = model.Params.fields[key]
    element = tuple(int(part) for part in match[2].split(",")) if match else None
    if element is None:
        if field.shape and not whole:
            raise ValueError(
                f"{name!r} has the shape {field.shape}: name its elements, as in "
                f"{_elements(key, field)[0]!r}."
            )
    elif len(element) != len(field.shape) or any(
        i >= size for i, size in zip(element, field.shape, strict=True)
    ):
        raise KeyError(
            f"{model.name}: {name!r} does not exist; {key!r} has the shape {field.shape}."
        )
    label = key if element is None else _label(key, element)
    if _derived(model) & {key, label}:
        raise ValueError(
            f"{model.name}: {label!r} is derived by an adding-up constraint; sample the others."
        )
    return key, element


def _expanded(model: Model, name: str) -> list[str]:
    """The canonical names of what `name` means: one parameter, or all elements of a field."""
    key, element = _place(model, name, whole=True)
    return _elements(key, model.Params.fields[key]) if element is None else [_label(key, element)]


def _label(key: str, element: tuple[int, ...]) -> str:
    return f"{key}[{','.join(map(str, element))}]"


def _elements(key: str, field: Field) -> list[str]:
    if not field.shape:
        return [key]
    return [_label(key, element) for element in np.ndindex(*field.shape)]


def _derived(model: Model) -> set[str]:
    return {constraint.derived for constraint in model.constraints}


def _repeated(value: Any, n: int, field: Field) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, np.float64), (n, *field.shape)).copy()


def _check_derived(model: Model, params: Any) -> None:
    for constraint in model.constraints:
        key, element = _constraints.split(constraint.derived)
        field = model.Params.fields[key]
        values = np.asarray(getattr(params, key))
        if values.ndim == len(field.shape):
            continue
        values = values if element is None else values[..., element]
        low, high = field.bounds
        outside = ~((values >= low - 1e-9) & (values <= high + 1e-9))
        if outside.any():
            runs = np.flatnonzero(outside.reshape(len(values), -1).any(axis=1))
            raise ValueError(
                f"{model.name}: {len(runs)} of {len(values)} points (the first is {runs[0]}) drive "
                f"{constraint.derived!r}, which is what {', '.join(constraint.free)} leave of "
                f"{constraint.total:g}, out of its bounds ({low:g}, {high:g}): sample narrower ranges."
            )


# Sweeps ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """What was kept of n runs.

    Attributes:
        model: the model.
        params: its parameters, those that vary of shape (n, *shape).
        values: what `keep` returned, as NumPy arrays with the runs on `axis`.
        axis: 0; 1 for whole paths, each variable of shape (T, n, *shape).
    """

    model: Model
    params: Any
    values: Any
    axis: int = 0

    def __len__(self) -> int:
        return jax.tree.leaves(self.values)[0].shape[self.axis]

    def __repr__(self) -> str:
        failed = len(self) - int(self.finite.sum())
        return f"Sweep({self.model.name}: {len(self)} runs, {failed} of them not finite)"

    @functools.cached_property
    def finite(self) -> np.ndarray:
        """Which runs (n,) have only finite values. The others are kept as they are."""
        good = np.ones(len(self), bool)
        for leaf in jax.tree.leaves(self.values):
            if np.issubdtype(leaf.dtype, np.inexact):
                others = tuple(axis for axis in range(leaf.ndim) if axis != self.axis)
                good &= np.isfinite(leaf).all(axis=others)
        return good

    def to_pandas(self) -> pd.DataFrame:
        """A row per run: the parameters that vary, then what was kept, a column per number.

        Raises:
            ValueError: whole paths were kept; `macrostat_jax.to_xarray(found.values)` takes them.
        """
        import pandas as pd

        if self.axis == 1:
            raise ValueError(
                "Paths are no table: macrostat_jax.to_xarray(found.values) takes them."
            )
        columns: dict[str, np.ndarray] = {}
        for key, field in self.params.fields.items():
            array = np.asarray(getattr(self.params, key))
            if array.ndim > len(field.shape):
                flat = array.reshape(len(array), -1)
                columns |= dict(zip(_elements(key, field), flat.T, strict=True))
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.values):
            name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
            flat = leaf.reshape(len(leaf), -1)
            names = (
                [name] if leaf.ndim == 1 else [_label(name, i) for i in np.ndindex(leaf.shape[1:])]
            )
            columns |= dict(zip(names, flat.T, strict=True))
        return pd.DataFrame(columns).rename_axis("run")


def sweep(
    model: Model,
    params: Any,
    scenario: Any = None,
    *,
    keep: Callable[[Any], Any] | None = None,
    chunk: int | None = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    progress: bool = False,
) -> Sweep:
    """Runs a model at many points, a chunk at a time, and keeps of each run what you ask for.

    Args:
        model: the model.
        params: a `Design`, or parameters with a batch axis: n runs. (`design.params(model, base)` gives
            a design's points other parameters beside them than the defaults.)
        scenario, shocks, initial, periods: as for `simulate`; they may have a batch axis of n, too.
        key: of a random model: one key, with common random numbers for all runs, or n keys.
        keep: a function of the path of one run, a `State` of shapes (T, *shape), to arrays or a pytree of
            them. It is compiled with the simulation, once per function object: define it once and
            reuse it. None keeps all paths, which takes T * n numbers for each variable.
        chunk: how many runs are simulated at once. They share one compiled program, the last ones too.
            Default: what suits the device, within `CHUNK_BYTES` of paths.
        progress: show a bar on standard error.

    Returns:
        A `Sweep` in the order of the points, in the dtype that `simulate` would have.

    Raises:
        ValueError: nothing has a batch axis, a chunk below 1; and what `simulate` and
            `Design.params` raise. Runs without a solution, or that diverge, are no error: they are NaN
            or infinite, and `Sweep.finite` marks them.
    """
    if isinstance(params, Design):
        params = params.params(model)
    inputs, plan = prepare(model, params, scenario, shocks, initial, periods, key)
    if plan.batch is None:
        raise ValueError(
            f"{model.name}: a sweep needs parameters, or another input, with a batch axis."
        )
    leaves, structure = jax.tree.flatten(inputs)
    batched = [axis is not None for axis in plan.batch]
    leaves = [_on_host(x) if many else x for x, many in zip(leaves, batched, strict=True)]
    count = next(len(x) for x, many in zip(leaves, batched, strict=True) if many)
    kept = _Kept(plan, keep)

    def run(rows: np.ndarray) -> Any:
        taken = [x[rows] if many else x for x, many in zip(leaves, batched, strict=True)]
        return _compile.call(_run, kept, structure.unflatten(taken))

    numbers = sum(math.prod(field.shape) for field in model.State.fields.values())
    run_bytes = plan.periods * numbers * float_dtype(inputs).itemsize
    size = chunk_size(count, run_bytes, chunk)
    axis = 1 if keep is None else 0
    arrays: list[np.ndarray] = []
    form: Any = None
    with _progress(count, f"Sweep of {model.name}", show=progress) as advance:
        for start, stop, found in in_chunks(run, count, size):
            parts, form = jax.tree.flatten(found)
            arrays = arrays or [_whole(part, axis, count) for part in parts]
            for whole, part in zip(arrays, parts, strict=True):
                at = (slice(None),) * axis
                whole[*at, start:stop] = np.asarray(part)[*at, : stop - start]
            advance(stop - start)
    return Sweep(model, inputs.params, form.unflatten(arrays), axis)


class _Kept(NamedTuple):
    """What the program of a chunk is specialised to."""

    plan: Plan
    keep: Callable[[Any], Any] | None


@functools.partial(jax.jit, static_argnums=0)
def _run(kept: _Kept, inputs: Inputs) -> Any:
    path = trajectory(kept.plan, inputs)
    return path if kept.keep is None else jax.vmap(kept.keep, in_axes=1)(path)


def _on_host(array: Any) -> Any:
    """As NumPy, whose rows are taken without compiling anything. Keys have no NumPy form."""
    return array if jnp.issubdtype(array.dtype, jax.dtypes.prng_key) else np.asarray(array)


def _whole(part: Any, axis: int, count: int) -> np.ndarray:
    return np.empty((*part.shape[:axis], count, *part.shape[axis + 1 :]), part.dtype)


CHUNK = {"cpu": 1024}
"""Runs at once, by platform: on a CPU, more no longer fit its caches."""
CHUNK_ELSEWHERE = 65_536
CHUNK_BYTES = 1 << 28
"""The paths of a chunk take at most this memory, by default."""


def chunk_size(count: int, run_bytes: int, chunk: int | None = None) -> int:
    """How many of `count` runs, each of which takes `run_bytes`, are simulated at once."""
    if chunk is None:
        most = CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE)
        fitting = max(CHUNK_BYTES // max(run_bytes, 1), 1)
        chunk = min(most, 1 << (fitting.bit_length() - 1))
    elif isinstance(chunk, bool) or not isinstance(chunk, int | np.integer) or chunk < 1:
        raise ValueError(f"chunk must be a whole number of runs, at least 1, not {chunk!r}.")
    return min(int(chunk), pad_to(count))


def in_chunks(
    run: Callable[[np.ndarray], Any], count: int, size: int
) -> Iterator[tuple[int, int, Any]]:
    """Yields `(start, stop, run(rows))` for `count` rows, `size` of them at a time.

    `rows` are always `size` indices, so that one compiled program serves: the last chunk repeats its
    last row, whose copies the caller drops. One chunk runs ahead of the one that is yielded.
    """
    ahead: tuple[int, int, Any] | None = None
    for start in range(0, count, size):
        stop = min(start + size, count)
        rows = np.minimum(np.arange(start, start + size), count - 1)
        found = run(rows)
        if ahead is not None:
            yield ahead
        ahead = start, stop, found
    if ahead is not None:
        yield ahead
