"""A run as traced code: the recursion over the periods, in one scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from . import _constraints
from ._inputs import Inputs, Plan, float_dtype
from ._model import Model


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
    return scenario, moving, model.draws(keys, dtype), None


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
    initial = canonical_state(model, initial, dtype)
    # Carrying only what the next step reads: the rest would be kept, and pulled back, for nothing.
    unread = {
        key: jnp.zeros_like(getattr(initial, key))
        for key in model.State.fields
        if key not in model.remembered
    }
    fixed, moving = parameter_paths(model, params, inputs.shocks)
    keys = model.period_keys(key, horizon) if model.random and noise is None else None
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
        return canonical_state(model, state, dtype)

    if model.recomputed:
        # Recomputing one step in the backward pass costs less than storing and loading its intermediate
        # values in every period: what is kept of a period is then just the state, and what a step asks
        # to be kept by `jax.ad_checkpoint.checkpoint_name(value, "kept")`.
        step = jax.checkpoint(step, prevent_cse=False, policy=_is_kept)

    def body(carried: Any, row: Any) -> tuple[Any, Any]:
        state = step(carried, fixed, row)
        return _varied(({key: getattr(state, key) for key in carried}, state), axes)

    axes = frozenset[str]().union(*map(_varying, jax.tree.leaves(inputs)))
    start = {key: value for key, value in before.items() if key not in constant}
    rows = (inputs.scenario, moving, noise, keys)
    return Recursion(body, _varied(start, axes), rows, before)


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


def parameter_paths(model: Model, params: Any, shocks: dict[str, Any]) -> tuple[dict, dict]:
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


def canonical_state(model: Model, state: Any, dtype: Any) -> Any:
    """Every variable as an array of its declared shape; floats in the dtype of the run."""
    values = {}
    for key, field in model.State.fields.items():
        value = getattr(state, key)
        array = jnp.asarray(value, dtype if key in model.real else None)
        if array.shape == ():  # a number, as `State.filled(0.0)` gives, fills any shape
            array = jnp.broadcast_to(array, field.shape)
        if array.shape != field.shape:
            raise ValueError(
                f"{model.name}: variable {key!r} has the shape {array.shape}, declared is {field.shape}."
            )
        values[key] = array
    return model.State(**values)


def _is_kept(primitive: Any, /, *_: Any, **details: Any) -> bool:
    """As JAX's `save_only_these_names("kept")`, which fails where a detail is called `prim`."""
    return primitive.name == "name" and details["name"] == "kept"


def _varying(x: Any) -> frozenset[str]:
    """Within `jax.shard_map`: the axes of the mesh along which x is another one on each device."""
    kind: Any = jax.typeof(x)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else frozenset()


def _varied(tree: Any, axes: frozenset[str]) -> Any:
    """The same values, of a type that may differ along `axes`, as a scan wants its carry."""
    return jax.tree.map(
        lambda x: (
            jax.lax.pcast(x, rest, to="varying") if (rest := tuple(axes - _varying(x))) else x
        ),
        tree,
    )
