"""One period of a run as a function of everything that it depends on."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._inputs import Inputs, Plan, float_dtype
from .._trajectory import canonical_state, parameter_paths, recursion, trajectory


class Row(NamedTuple):
    """What is particular to a period: leaves without the time axis; of all periods, with it."""

    scenario: Any
    shocks: dict[str, Any]
    noise: Any
    key: Any


def rows(plan: Plan, inputs: Inputs) -> Row:
    """The rows of all periods, each leaf (T, ...)."""
    _, _, noise, keys = recursion(plan, inputs).rows
    return Row(inputs.scenario, inputs.shocks, noise, keys)


def before(plan: Plan, inputs: Inputs) -> dict[str, Any]:
    """What the first period reads of the state before it: variable -> array."""
    return recursion(plan, inputs).before


def followed(plan: Plan, inputs: Inputs) -> tuple[Any, dict[str, Any]]:
    """The path of states, and what each period read of the one before: leaves (T, *shape)."""
    path = trajectory(plan, inputs)
    first = before(plan, inputs)
    read = {
        key: jnp.concatenate([value[None], getattr(path, key)[:-1]]) for key, value in first.items()
    }
    return path, read


def period(plan: Plan, params: Any, row: Row, leaves: dict[str, Any], dtype: Any) -> Any:
    """The state after a period.

    Args:
        params, row: as the run has them, parameters before their constraints.
        leaves: by label, `initial.<variable>` for what the period reads of the state before, and any
            parameters, exogenous series and random inputs in place of those in `params` and `row`.
        dtype: of the run.
    """
    model = plan.model
    changes: dict[str, dict[str, Any]] = {"params": {}, "scenario": {}, "initial": {}, "noise": {}}
    for label, leaf in leaves.items():
        group, _, key = label.rpartition(".")
        changes[group or "params"][key] = leaf
    params = params.replace(**changes["params"])
    paths = {label: shock[None] for label, shock in row.shocks.items()}
    fixed, moving = parameter_paths(model, model.constrain(params), paths)
    params = model.Params(**fixed, **{key: path[0] for key, path in moving.items()})
    noise = row.noise
    if row.key is not None and model.Noise is not None:
        noise = model.draw(row.key, dtype)
    if changes["noise"]:
        noise = noise.replace(**changes["noise"])
    more = tuple(x for x in (noise if model.Noise is not None else row.key,) if x is not None)
    unread = {
        key: jnp.zeros(field.shape, dtype)
        for key, field in model.State.fields.items()
        if key not in changes["initial"]
    }
    prior = model.State(**changes["initial"], **unread)
    state = model.step(prior, params, row.scenario.replace(**changes["scenario"]), *more)
    return canonical_state(model, state, dtype)


def run_dtype(inputs: Inputs) -> Any:
    return jax.dtypes.canonicalize_dtype(float_dtype(inputs))
