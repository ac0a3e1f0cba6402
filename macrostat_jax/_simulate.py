"""Simulation: one compiled scan over the periods of a scenario."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from . import _compile, _constraints
from ._model import Model
from ._record import Field, Record

P = TypeVar("P", bound=Record)
X = TypeVar("X", bound=Record)
S = TypeVar("S", bound=Record)


class Inputs(NamedTuple):
    """Everything a run depends on, in canonical form: one float dtype, every path with T rows."""

    params: Any
    scenario: Any
    shocks: dict[str, Any]
    initial: Any
    key: Any
    noise: Any = None
    """The random inputs, where they are given instead of drawn from `key`."""


class Plan(NamedTuple):
    """What a compiled run is specialised to."""

    model: Any
    periods: int
    batch: tuple[int | None, ...] | None = None
    """The batch axis of each leaf of the inputs, None for a single run."""
    checkpoint: bool | int = False
    recorded: tuple[str, ...] | None = None
    """The variables of which the path is kept, None for all."""
    ahead: bool = False
    """Whether the random inputs of all periods may be drawn at once, before the run."""


def simulate(
    model: Model[P, X, S],
    params: P | None = None,
    scenario: X | str | None = None,
    *,
    shocks: dict[str, Any] | None = None,
    initial: S | None = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
    checkpoint: bool | int = False,
    record: Collection[str] | None = None,
) -> S:
    """Runs a model over T periods.

    A pure function of its array arguments: it can be called inside `jax.jit`, `jax.vmap`, `jax.grad`
    and the rest. Outside of them it compiles once per model, horizon, dtype and batch size.

    Args:
        model: the model.
        params: from `model.params(...)`; default: its defaults.
        scenario: a record of paths of shape (T, *shape) (or constants of shape `shape`), from
            `model.scenario(...)`; or the name of one of `model.scenarios`; default: the default one.
        shocks: parameter shocks over time, from `model.shocks(...)`; a named scenario brings its own.
        initial: the state before the first period; default: `model.initial_state`.
        periods: T; default: the length of the scenario's paths, else `model.periods`.
        key: the PRNG key of a random model, `jax.random.key(seed)`, or one for each run of a batch,
            `run_keys(seed, runs)`. One key for a batch means common random numbers. What a run draws
            depends on its key and dtype alone: not on the batch it is in, nor on the horizon.
        noise: the random inputs themselves, in place of a key: a `model.Noise` of paths of shape
            (T, *shape), as `model.noise(key)` gives, with an axis for the batch or without.
        checkpoint: trade time for memory in reverse mode: it then keeps about 2 sqrt(T) states
            instead of T. A number n of 2 or more nests n levels, of which each keeps about T^(1/n)
            states and computes the run once more (True is 2).
        record: the variables whose paths are wanted; default: all. The others are None in what is
            returned, and take no memory: a million agents over 100 periods are 400 MB per variable.

    Batches: parameters of shape (B, *shape), paths of shape (B, T, *shape), initial states of shape
    (B, *shape) and keys of shape (B,) run B simulations at once; what has no batch axis is shared.

    Returns:
        The model's `State`, each variable of shape (T, *shape), or (T, B, *shape) for a batch: axis 0
        is always time. Row t is the state at the end of period t. The dtype is that of the widest
        JAX array given; without any, of the widest NumPy array given; without any, JAX's default.

    Raises:
        KeyError: an unknown scenario, shock or variable to record. TypeError: a record of another
            model, or a missing key. ValueError: shapes or horizons that contradict each other.
            RuntimeError: the simultaneous equations of a period have no solution (in a batch: a
            warning, and NaN in the runs concerned; inside a transformation of yours: NaN).
    """
    inputs, plan = prepare(
        model, params, scenario, shocks, initial, periods, key, checkpoint, noise
    )
    if record is not None:
        if isinstance(record, str):
            raise TypeError(f"record takes several names, ({record!r},), not one string.")
        named = {model.State.key_of(name) for name in (*record, *model.solved)}
        plan = plan._replace(recorded=tuple(sorted(named)))
    path = _compile.call(_run, alone(plan, inputs), inputs)
    if model.solved:
        _check_solved(model, path)
    return path


def _check_solved(model: Model, path: Any) -> None:
    """Says where a solver failed: an error for one run, a warning for a batch, whose other runs count."""
    values = [getattr(path, model.State.key_of(key)) for key in model.solved]
    if any(isinstance(value, jax.core.Tracer) for value in values):
        return  # inside the user's own transformation; the NaN stays in the path
    failures = unsolved(model, [np.asarray(value) for value in values])
    if failures is None:
        return
    if failures.ndim == 0:
        raise RuntimeError(
            f"{model.name}: the simultaneous equations of period {int(failures)} (counted from 0) have "
            f"no solution that the solver found, for {', '.join(model.solved)}. Parameters, scenario or "
            "initial state admit none, or one far from the period before."
        )
    runs = np.flatnonzero(failures >= 0)
    first = int(runs[0])
    warnings.warn(
        f"{model.name}: in {len(runs)} of {failures.size} runs the simultaneous equations have no "
        f"solution that the solver found; these runs are NaN from there on (run {first}: from period "
        f"{int(failures[first])}).",
        RuntimeWarning,
        stacklevel=3,
    )


def unsolved(model: Model, paths: list[np.ndarray]) -> np.ndarray | None:
    """The first period in which a solved variable is not finite: a number, or one per run with -1 where
    there is none; None if all are finite. Paths have time first, then the batch."""
    shapes = [model.State.fields[model.State.key_of(key)].shape for key in model.solved]
    bad = [
        ~np.isfinite(path).all(axis=tuple(range(path.ndim - len(shape), path.ndim)))
        for path, shape in zip(paths, shapes, strict=True)
    ]
    failed = np.logical_or.reduce(bad)
    if not failed.any():
        return None
    return np.where(failed.any(axis=0), failed.argmax(axis=0), -1)


@functools.partial(jax.jit, static_argnums=0)
def _run(plan: Plan, inputs: Inputs) -> Any:
    return trajectory(plan, inputs)


def trajectory(plan: Plan, inputs: Inputs) -> Any:
    """The path of states as traced code: what the transforms in `diff` differentiate."""
    if plan.batch is None:
        return _scan(plan, inputs)
    leaves, treedef = jax.tree.flatten(inputs)
    single = plan._replace(batch=None)

    def one(*leaves: Any) -> Any:
        return _scan(single, treedef.unflatten(leaves))

    # Time stays the leading axis (out_axes=1): moving the batch in front would copy every path.
    return jax.vmap(one, in_axes=plan.batch, out_axes=1)(*leaves)


def _scan(plan: Plan, inputs: Inputs) -> Any:
    body, start, rows, _ = recursion(plan, inputs)
    if plan.recorded is not None:
        body = _recording(body, plan.recorded)
    rows = _drawn_ahead(plan, rows, float_dtype(inputs))
    return _scanned(body, start, rows, plan.periods, plan.checkpoint)[1]


def alone(plan: Plan, inputs: Inputs) -> Plan:
    """The plan of a single run, which may draw ahead. Of many runs at once, each with a key of its own,
    the draws of all periods would take far more memory than what is done with the paths may leave."""
    if inputs.key is None or plan.batch is not None or plan.checkpoint:
        return plan
    return plan._replace(ahead=not _mapped(inputs.key))


def _mapped(key: Any) -> bool:
    """Whether a key is one of many in a `jax.vmap` around this call; of one inside a `jit`, nobody knows."""
    if not isinstance(key, jax.core.Tracer):
        return False
    found: list[bool] = []
    probe = jax.custom_batching.custom_vmap(lambda key: key)

    @probe.def_vmap
    def _(size: int, mapped: list[bool], key: Any) -> tuple[Any, bool]:
        found.append(mapped[0])
        return key, mapped[0]

    probe(key)
    return any(found)


def _drawn_ahead(plan: Plan, rows: Any, dtype: Any) -> Any:
    """The rows with the random inputs of all periods in place of their keys, where these take no more
    memory than the path: drawn in a loop, a period at a time, they cost a CPU several times as much."""
    model, (scenario, moving, _, keys) = plan.model, rows
    if keys is None or model.Noise is None or not plan.ahead:
        return rows
    recorded = [f for key, f in model.State.fields.items() if key in (plan.recorded or (key,))]
    sizes = [
        sum(math.prod(f.shape) for f in some) for some in (model.Noise.fields.values(), recorded)
    ]
    if sizes[0] > sizes[1]:
        return rows
    return scenario, moving, jax.vmap(lambda key: model.draw(key, dtype))(keys), None


def last_state(plan: Plan, inputs: Inputs) -> Any:
    """The state after the last period of a single run as traced code: no path of states is made."""
    body, carry, rows, _ = recursion(plan, inputs)

    def follow(carry: Any, row: Any) -> tuple[Any, None]:
        return body(carry, row)[0], None

    early = jax.tree.map(lambda x: x[:-1], rows)
    if plan.periods > 1:
        carry, _ = _scanned(follow, carry, early, plan.periods - 1, plan.checkpoint)
    return body(carry, jax.tree.map(lambda x: x[-1], rows))[1]


def _recording(body: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
    def recording(carry: Any, row: Any) -> tuple[Any, Any]:
        carry, state = body(carry, row)
        left = {name: None for name in state.fields if name not in names}
        return carry, state.replace(**left)

    return recording


class Recursion(NamedTuple):
    """A single run as what a scan takes."""

    body: Callable[[Any, Any], tuple[Any, Any]]
    """From the carry and a period's row to the carry and the period's state."""
    start: dict[str, Any]
    """The first carry."""
    rows: tuple[Any, Any, Any, Any]
    """By period: exogenous series, moving parameters, random inputs, or the key that they are drawn from."""
    before: dict[str, Any]
    """What the first period reads of the state before it."""


def recursion(plan: Plan, inputs: Inputs) -> Recursion:
    model, horizon = plan.model, plan.periods
    params = model.constrain(inputs.params)
    dtype = float_dtype(inputs)
    initial, noise, key = inputs.initial, inputs.noise, inputs.key
    start = ()
    if noise is not None:
        if model.random_start:
            start, noise = (noise[0],), noise[1:]
    elif model.random or model.random_start:
        first, key = model.start_key(key)
        if first is not None:
            start = (first if model.Noise is None else model.draw(first, dtype),)
    if initial is None:
        initial = model.initial_state(params, inputs.scenario[0], *start)
    initial = _canonical_state(model, initial, dtype)
    # Carrying only what the next step reads: the rest would be kept, and pulled back, for nothing.
    unread = {
        key: jnp.zeros_like(getattr(initial, key))
        for key in model.State.fields
        if key not in model.remembered
    }
    fixed, moving = _parameter_paths(model, params, inputs.shocks)
    # Folding the period in, rather than splitting T ways: a longer run then begins as a shorter one.
    keys = (
        jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(horizon))
        if model.random and noise is None
        else None
    )
    before = {key: getattr(initial, key) for key in model.remembered}
    # What no period changes is not carried: reverse mode would keep it once for every period.
    constant = {key: before[key] for key in model.unchanged}

    def step(carried: Any, fixed: Any, row: Any) -> Any:
        scenario, moving, noise, key = row
        if key is not None and model.Noise is not None:
            # Where they are many, they are drawn here: no period's are kept, not even in reverse mode.
            noise = model.draw(key, dtype)
        more = tuple(x for x in (noise if model.Noise is not None else key,) if x is not None)
        prior = model.State(**carried, **constant, **unread)
        state = model.step(prior, model.Params(**fixed, **moving), scenario, *more)
        return _canonical_state(model, state, dtype)

    if model.recomputed:
        # Recomputing one step in the backward pass costs less than storing and loading its intermediate
        # values in every period: what is kept of a period is then just the state, and what a step asks
        # to be kept by `jax.ad_checkpoint.checkpoint_name(value, "kept")`.
        policy = jax.checkpoint_policies.save_only_these_names("kept")
        step = jax.checkpoint(step, prevent_cse=False, policy=policy)

    def body(carried: Any, row: Any) -> tuple[Any, Any]:
        state = step(carried, fixed, row)
        return {key: getattr(state, key) for key in carried}, state

    start = {key: value for key, value in before.items() if key not in constant}
    return Recursion(body, start, (inputs.scenario, moving, noise, keys), before)


def _scanned(body: Callable, initial: Any, xs: Any, horizon: int, checkpoint: bool | int) -> Any:
    """`lax.scan`, or scans nested in scans, of which only the starts are kept."""
    levels = max(2, int(checkpoint)) if checkpoint else 1
    if levels == 1 or horizon < 4:
        return jax.lax.scan(body, initial, xs, length=horizon)
    root = math.isqrt(horizon) if levels == 2 else round(horizon ** (1 / levels))
    # A divisor near the root spares a copy of all paths, which a remainder would cost.
    divisor = max(d for d in range(1, root + 1) if horizon % d == 0)
    outer = divisor if 4 * divisor >= root else root
    inner = horizon // outer
    whole = outer * inner

    @jax.checkpoint
    def chunk(prior: Any, xs: Any) -> Any:
        return _scanned(body, prior, xs, inner, levels - 1 if levels > 2 else False)

    folded = jax.tree.map(lambda x: x[:whole].reshape(outer, inner, *x.shape[1:]), xs)
    last, path = jax.lax.scan(chunk, initial, folded, length=outer)
    path = jax.tree.map(lambda y: y.reshape(whole, *y.shape[2:]), path)
    if whole < horizon:
        rest = jax.tree.map(lambda x: x[whole:], xs)
        last, tail = jax.lax.scan(body, last, rest, length=horizon - whole)
        path = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), path, tail)
    return last, path


def _parameter_paths(model: Model, params: Any, shocks: dict[str, Any]) -> tuple[dict, dict]:
    """Parameters that stay, and the paths of those that shocks (and their constraints) move."""
    values = {key: getattr(params, key) for key in model.Params.fields}
    moving: dict[str, Any] = {}
    for label in sorted(shocks, reverse=True):  # multiply before add: value * multiply + add
        key, kind = model.split_shock(label)
        value = moving.get(key, values[key][None])
        moving[key] = value * shocks[label] if kind == "multiply" else value + shocks[label]
    for constraint in model.constraints:
        keys = {_constraints.split(name)[0] for name in constraint.names}
        if moving.keys() & keys:
            paths = {key: moving.get(key, values[key][None]) for key in keys}
            lead = max(path.shape[0] for path in paths.values())
            paths = {k: jnp.broadcast_to(v, (lead, *v.shape[1:])) for k, v in paths.items()}
            _constraints.apply(paths, constraint)
            derived = _constraints.split(constraint.derived)[0]
            moving[derived] = paths[derived]
    horizon = max((path.shape[0] for path in moving.values()), default=0)
    moving = {k: jnp.broadcast_to(v, (horizon, *v.shape[1:])) for k, v in moving.items()}
    return {key: value for key, value in values.items() if key not in moving}, moving


def _canonical_state(model: Model, state: Any, dtype: Any) -> Any:
    """Every variable as an array of its declared shape; floats in the dtype of the run."""
    values = {}
    for key, field in model.State.fields.items():
        value = getattr(state, key)
        whole = (
            isinstance(value, (jax.Array, np.ndarray))
            and not jnp.issubdtype(value.dtype, jnp.floating)
            and not getattr(value, "weak_type", False)
        )
        array = jnp.asarray(value) if whole else jnp.asarray(value, dtype)
        if array.shape == ():  # a number, as `State.filled(0.0)` gives, fills any shape
            array = jnp.broadcast_to(array, field.shape)
        if array.shape != field.shape:
            raise ValueError(
                f"{model.name}: variable {key!r} has the shape {array.shape}, declared is {field.shape}."
            )
        values[key] = array
    return model.State(**values)


def float_dtype(*trees: Any) -> Any:
    """The widest float dtype of the JAX arrays; else of the NumPy arrays; else JAX's default float.

    NumPy arrays come second because NumPy makes float64 of every Python number, a model's defaults
    among them: they must not widen what a user keeps in float32.
    """
    found: dict[bool, Any] = {}
    for leaf in jax.tree.leaves(trees):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or getattr(leaf, "weak_type", False):
            continue
        if jnp.issubdtype(dtype, jnp.floating):
            ours, dtype = isinstance(leaf, jax.Array), jax.dtypes.canonicalize_dtype(dtype)
            # Under strict promotion JAX has no common type of float32 and float64.
            found[ours] = max(found.get(ours, dtype), dtype, key=lambda dtype: dtype.itemsize)
    default = jax.dtypes.canonicalize_dtype(float)
    return found.get(True, found.get(False, default))


def prepare(
    model: Model,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    checkpoint: bool | int = False,
    noise: Any = None,
) -> tuple[Inputs, Plan]:
    """Checks what `simulate` was given and brings it to canonical form."""
    if not isinstance(model, Model):
        raise TypeError(f"Expected a model, for instance models.GL06SIM, not {model!r}.")
    shocks = dict(shocks or {})
    given = (params, scenario, shocks, initial, noise)
    if scenario is None or isinstance(scenario, str):
        name = scenario
        scenario = model.scenario(name, periods=periods if model.Scenario.fields else None)
        shocks = {**model.shocks(name, periods=periods), **shocks}
    params = model.params() if params is None else params
    for record, kind in (
        (params, model.Params),
        (scenario, model.Scenario),
        (initial, model.State),
        *(() if model.Noise is None else ((noise, model.Noise),)),
    ):
        # A resized model's records are subclasses of those that its module declares: either will do.
        known = isinstance(record, Record) and (
            isinstance(record, kind) or issubclass(kind, type(record))
        )
        if record is not None and not (known and record.fields.keys() == kind.fields.keys()):
            raise TypeError(
                f"{model.name} expects {kind.__module__}.{kind.__qualname__}, "
                f"not {type(record).__module__}.{type(record).__qualname__}."
            )
    if noise is not None:
        if model.Noise is None:
            raise TypeError(f"{model.name} declares no random inputs: it takes no noise.")
        if key is not None:
            raise TypeError(f"{model.name}: give a key or the noise, not both.")
    elif model.random or model.random_start:
        key = model.check_key(key)
    elif key is not None:
        raise TypeError(f"{model.name} is not random: it takes no key.")

    shock_fields = {label: model.Params.fields[model.split_shock(label)[0]] for label in shocks}
    horizon = _find_horizon(model, scenario, shocks, shock_fields, periods, noise)
    dtype = float_dtype(given)
    axes: list[int | None] = []
    sizes: dict[str, int] = {}

    def take(field: Field, value: Any, rows: int | None) -> Any:
        value, batched = _canonical(model, field, value, dtype, rows)
        axes.append(0 if batched else None)
        if batched:
            sizes[field.key] = value.shape[0]
        return value

    def record(kind: type[Record], given: Any, rows: int | None = None) -> Any:
        return kind(**{k: take(f, getattr(given, k), rows) for k, f in kind.fields.items()})

    inputs = Inputs(
        params=record(model.Params, params),
        scenario=record(model.Scenario, scenario, horizon),
        shocks={k: take(shock_fields[k], shocks[k], horizon) for k in sorted(shocks)},
        initial=None if initial is None else record(model.State, initial),
        key=key,
    )
    if key is not None:
        axes.append(0 if jnp.ndim(key) else None)
        if jnp.ndim(key):
            sizes["key"] = key.shape[0]
    if noise is not None:
        assert model.Noise is not None
        rows = horizon + model.random_start
        inputs = inputs._replace(noise=record(model.Noise, noise, rows))
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{model.name}: the batch sizes differ: {sizes}.")
    batch = tuple(axes) if sizes else None
    return inputs, Plan(model, horizon, batch, checkpoint)


def run_keys(seed: int, runs: int, *, first: int = 0) -> jax.Array:
    """The PRNG keys of runs `first` to `first + runs - 1` of a batch or sweep: shape (runs,).

    Each depends on the seed and on the number of its run alone, so that a sweep draws the same however
    it is cut into batches.

    Raises:
        TypeError: a seed that is no integer. ValueError: a negative number of runs.
    """
    for what, value in (("seed", seed), ("number of runs", runs), ("first run", first)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"The {what} must be an integer, not {value!r}.")
    if runs < 1 or first < 0:
        raise ValueError(f"There must be at least one run, from run 0 on; not {runs} from {first}.")
    key = jax.random.key(int(seed))
    return jax.vmap(lambda run: jax.random.fold_in(key, run))(
        jnp.arange(first, first + runs, dtype=jnp.uint32)
    )


def _find_horizon(
    model: Model,
    scenario: Any,
    shocks: dict,
    shock_fields: dict,
    periods: int | None,
    noise: Any = None,
) -> int:
    given = {key: (field, getattr(scenario, key)) for key, field in model.Scenario.fields.items()}
    given |= {label: (shock_fields[label], shocks[label]) for label in shocks}
    lengths = {
        name: np.shape(value)[-len(field.shape) - 1]
        for name, (field, value) in given.items()
        if np.ndim(value) > len(field.shape)
    }
    if noise is not None:
        assert model.Noise is not None
        for name, field in model.Noise.fields.items():
            shape = np.shape(getattr(noise, name))
            if len(shape) <= len(field.shape):
                raise ValueError(
                    f"{model.name}: the noise {name!r} is a path, of shape {('T', *field.shape)}; not "
                    f"{shape}."
                )
            lengths[f"noise.{name}"] = shape[-len(field.shape) - 1] - model.random_start
    if periods is not None:
        lengths["periods"] = periods
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{model.name}: the horizons differ: {lengths}.")
    horizon = next(iter(lengths.values()), model.periods)
    if horizon < 1:
        raise ValueError(f"{model.name}: a run needs at least one period, not {horizon}.")
    return horizon


def _canonical(
    model: Model, field: Field, value: Any, dtype: Any, horizon: int | None
) -> tuple[Any, bool]:
    """The value as an array of the run's dtype (a path if there is a horizon); is it a batch?"""
    lead = () if horizon is None else (horizon,)
    module: Any = jnp if isinstance(value, jax.Array) else np
    if np.shape(value) == ():  # a number fills any shape
        value = module.broadcast_to(value, field.shape)
    shape = np.shape(value)
    if horizon is not None and shape == field.shape:
        value, shape = (
            module.broadcast_to(value, (*lead, *shape)),
            (*lead, *shape),
        )
    batched = len(shape) == len(lead) + len(field.shape) + 1
    if shape[1 if batched else 0 :] != (*lead, *field.shape):
        expected = f"{(*lead, *field.shape)}" + (f" or {field.shape}" if lead else "")
        raise ValueError(
            f"{model.name}: {field.key!r} must have the shape {expected}, or a batch axis before it; "
            f"not {shape}."
        )
    if isinstance(value, jax.Array):
        floating = jnp.issubdtype(value.dtype, jnp.floating)
        return (value.astype(dtype) if floating and value.dtype != dtype else value), batched
    array = np.asarray(value)
    # Numbers from Python and NumPy integers stand for real quantities here.
    return array.astype(dtype) if array.dtype != dtype else array, batched
