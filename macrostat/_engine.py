"""Runs library models for the torch API: one compiled JAX program per model and horizon.

The program maps all parameters, packed in one vector, and all scenario series, as the columns of one
matrix, to the paths of all variables: the small ones in one vector, each that is of many agents in one of
its own. So few tensors cross the bridge, whatever the model. That of a random model takes its random
inputs as one tensor more. It computes in float64; results are cast to the dtype that the caller asks for.

Rows follow the torch API's convention of time: the initial state fills rows 0 to
`timesteps_initialization`, and scenario row t lands on row t + 1.
"""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import torch

from bridge import to_jax, to_torch, torch_function
from macrostat_jax import AddingUp, Model, _compile
from macrostat_jax._compile import disk_cache
from macrostat_jax._inputs import Inputs, Plan
from macrostat_jax._simulate import unsolved
from macrostat_jax._steady import SEARCHED_PERIODS, Search, found_state
from macrostat_jax._trajectory import canonical_state, parameter_paths, trajectory
from macrostat_jax.diff._finite import pad_to

from ._packing import Setup as Setup
from ._packing import element_index as element_index
from ._packing import is_transformed, series_roles
from ._packing import pack_params as pack_params
from ._packing import pack_series as pack_series
from ._packing import pack_values as pack_values
from ._packing import parts as parts
from ._packing import scalar_names as scalar_names
from ._packing import scalar_values as scalar_values
from ._packing import setup_for as setup_for
from ._packing import slots as slots
from ._packing import tensor_name as tensor_name
from ._packing import unpack as unpack
from ._packing import unpack_rows as unpack_rows
from ._random import initial_draws, key_and_noise, period_draws
from ._random import is_random as is_random
from ._random import random_inputs as random_inputs
from .core import Model as TorchModel
from .core import Parameters, Scenarios
from .core._dtype import output_dtype as output_dtype
from .models._declared import in_size


def definition_for(model: Any) -> Model:
    """The declaration that a model (or behavior) runs, with the options and constraints of its `Parameters`."""
    hyper = model.parameters.hyper
    # A model may be any that has a library behavior: it decides what is run.
    definition: Model = in_size(getattr(model, "behavior", model).definition, hyper)
    definition = definition.configure(
        **{k: _hashable(hyper[k]) for k in definition.options if k in hyper}
    )
    given = tuple(
        AddingUp(tuple(_reference(definition, n) for n in c.param_names), float(c.target))
        for c in model.parameters.get_constraints()
    )
    return definition.with_constraints(given)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value


def _reference(definition: Model, name: str) -> str:
    """A scalar's declared name (`S1.LabourProductivity`) as the core's reference to it."""
    for key, field in definition.Params.fields.items():
        names = scalar_names(field)
        if name in names:
            return f"{key}[{names.index(name)}]" if field.shape else key
    raise KeyError(f"{definition.name} has no parameter {name!r}.")


def is_compiled(model: Any) -> bool:
    """Does what the declaration says decide the model's runs: has the user replaced nothing by torch code?"""
    from .models._library import LibraryBehavior, records_as_usual

    behavior = model.behavior
    if not (isinstance(behavior, type) and issubclass(behavior, LibraryBehavior)):
        return False
    untouched = (
        (behavior, LibraryBehavior, ("__init__", "forward")),
        (type(model), TorchModel, ("get_model_training_instance",)),
        (type(model.parameters), Parameters, ("vectorize_parameters", "to_nn_parameters")),
        (type(model.scenarios), Scenarios, ("to_nn_parameters",)),
    )
    own = any(
        getattr(found, name) is not getattr(ours, name)
        for found, ours, names in untouched
        for name in names
    )
    return behavior.runs_compiled() and not own and records_as_usual(model.variables)


class Program:
    """The compiled forms of one setup. Tensors in and out are float64 and carry no torch graph, except
    those of `torch` and `steady`, which are differentiable torch functions.

    Paths are vectors, as `parts` has them. The derivatives are those of some of them, `touched`, by their
    numbers: a loss of the aggregates of a million agents has none by the agents' paths.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        # Traced once for all programs: the compiled transformations start from its equations.
        paths = jax.jit(functools.partial(simulated_paths, setup), inline=True)
        self.torch: Callable[..., list[torch.Tensor]] = torch_function(
            paths, name=setup.definition.name
        )
        self.steady: Callable[..., torch.Tensor] = torch_function(
            functools.partial(steady_rows, setup), name=f"{setup.definition.name}_steady_state"
        )

        def chosen(touched: tuple[int, ...], vector: Any, matrix: Any, *random: Any) -> Any:
            found = paths(vector, matrix, *random)
            return [found[i] for i in touched], found

        def tangents(touched: Any, vector: Any, matrix: Any, directions: Any, *random: Any) -> Any:
            def push(direction: Any) -> Any:
                def run(vector: Any) -> Any:
                    return chosen(touched, vector, matrix, *random)

                return jax.jvp(run, (vector,), (direction,), has_aux=True)[1:]

            slopes, found = jax.vmap(push, out_axes=(0, None))(directions)
            return found, slopes

        def pullback(touched: Any, vector: Any, matrix: Any, weights: Any, *random: Any) -> Any:
            _, pull = jax.vjp(lambda v: chosen(touched, v, matrix, *random)[0], vector)
            if len(weights[0]) == 1:  # a scalar loss: batching would only take time to trace
                return pull([w[0] for w in weights])[0][None]
            return jax.vmap(lambda w: pull(w)[0])(weights)

        random = (None,) * is_random(setup.definition)
        rows = functools.partial(simulated_rows, setup)
        batch = jax.vmap(rows, in_axes=(0, None, *random), out_axes=1)
        jit = functools.partial(jax.jit, compiler_options=_compile.options())
        self._compiled = {
            "values": jit(paths),
            "batch": jit(batch),
            "tangents": jit(tangents, static_argnums=0),
            "pullback": jit(pullback, static_argnums=0),
        }
        self._known: set[Any] = set()

    def _call(self, kind: str, *given: Any) -> Any:
        """Calls a compiled form with tensors, and what is static of it."""
        shapes = (leaf.shape if hasattr(leaf, "shape") else leaf for leaf in jax.tree.leaves(given))
        signature = (_compile.generation, kind, *shapes)
        with jax.enable_x64(True):
            arrays = jax.tree.map(lambda x: to_jax(x) if isinstance(x, torch.Tensor) else x, given)
            with disk_cache() if signature not in self._known else contextlib.nullcontext():
                result = jax.block_until_ready(self._compiled[kind](*arrays))
            self._known.add(signature)
            return jax.tree.map(to_torch, result)

    # `random` is what `random_inputs` gives: nothing, or one tensor, which all runs share.

    def values(
        self, vector: torch.Tensor, matrix: torch.Tensor, *random: torch.Tensor
    ) -> list[torch.Tensor]:
        """Parameters (P,), series (timesteps, K) -> the paths of the variables."""
        return self._call("values", vector, matrix, *random)

    def batch(
        self, vectors: torch.Tensor, matrix: torch.Tensor, *random: torch.Tensor
    ) -> torch.Tensor:
        """R runs at once: parameters (R, P) -> variables (timesteps + 1, R, N)."""
        padded = _padded(vectors)
        return self._call("batch", padded, matrix, *random)[:, : len(vectors)]

    def tangents(
        self,
        touched: tuple[int, ...],
        vector: torch.Tensor,
        matrix: torch.Tensor,
        directions: torch.Tensor,
        *random: torch.Tensor,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Forward mode: all paths, and the derivatives (R, size) of some along R directions (R, P)."""
        return self._call("tangents", touched, vector, matrix, directions, *random)

    def pullback(
        self,
        touched: tuple[int, ...],
        vector: torch.Tensor,
        matrix: torch.Tensor,
        weights: list[torch.Tensor],
        *random: torch.Tensor,
    ) -> torch.Tensor:
        """Reverse mode: R weighted sums of some paths, weights (R, size) for each of these -> (R, P)."""
        count = len(weights[0])
        padded = weights if count == 1 else [_padded(one) for one in weights]
        return self._call("pullback", touched, vector, matrix, padded, *random)[:count]


def _padded(rows: torch.Tensor) -> torch.Tensor:
    """Rows repeated up to a power of two, so that batches of similar size share a compiled program."""
    size = pad_to(len(rows))
    return torch.cat([rows, rows[:1].expand(size - len(rows), *rows.shape[1:])]).contiguous()


@functools.lru_cache(maxsize=256)
def program(setup: Setup) -> Program:
    return Program(setup)


def _inputs(setup: Setup, vector: Any, matrix: Any, *random: Any) -> tuple[Inputs, Plan]:
    """Packed inputs as the core's: the initial state explicit, the paths from `initialization` on."""
    definition = setup.definition
    params = definition.Params(
        **{
            key: vector[p.start : p.stop].reshape(p.field.shape)
            for key, p in slots(definition.Params).items()
        }
    )
    rows = matrix[setup.initialization :]
    periods = setup.timesteps - setup.initialization
    exogenous: dict[str, Any] = {}
    shocks: dict[str, Any] = {}
    roles, at = series_roles(definition), 0
    for name, width in setup.series:
        columns = rows[:, at : at + width]
        at += width
        kind, key, element = roles[name]
        if kind == "exogenous":
            shape = definition.Scenario.fields[key].shape
            exogenous[key] = columns.reshape(periods, *shape)
            continue
        shape, label = definition.Params.fields[key].shape, f"{key}_{kind}"
        if element is None:
            shocks[label] = jnp.broadcast_to(
                columns.reshape(periods, *([1] * len(shape)) if width == 1 else shape),
                (periods, *shape),
            )
            continue
        neutral = jnp.full((periods, math.prod(shape)), float(kind == "multiply"), vector.dtype)
        before = shocks.get(label, neutral.reshape(periods, *shape)).reshape(periods, -1)
        shocks[label] = before.at[:, element].set(columns[:, 0]).reshape(periods, *shape)
    scenario = definition.Scenario(**exogenous)
    key, noise = key_and_noise(definition, random)
    first = initial_draws(definition, key, noise, vector.dtype)
    start = definition.initial_state(definition.constrain(params), scenario[0], *first)
    initial = canonical_state(definition, start, vector.dtype)
    return Inputs(params, scenario, shocks, initial, key, noise), Plan(definition, periods)


def _flat(state: Any, lead: tuple[int, ...]) -> jax.Array:
    leaves = [getattr(state, key).reshape(*lead, -1) for key in state.fields]
    return jnp.concatenate(leaves, axis=-1)


def simulated_rows(setup: Setup, vector: Any, matrix: Any, *random: Any) -> jax.Array:
    """JAX: parameters (P,) and series (timesteps, K) -> variables (timesteps + 1, N)."""
    inputs, plan = _inputs(setup, vector, matrix, *random)
    path = trajectory(plan, inputs)
    first = _flat(inputs.initial, ())
    repeated = jnp.broadcast_to(first, (setup.initialization + 1, first.shape[0]))
    return jnp.concatenate([repeated, _flat(path, (plan.periods,))])


def simulated_paths(setup: Setup, vector: Any, matrix: Any, *random: Any) -> list[jax.Array]:
    """JAX: parameters (P,) and series (timesteps, K) -> the paths of the variables, as `parts` has them."""
    inputs, plan = _inputs(setup, vector, matrix, *random)
    path = trajectory(plan, inputs)

    def whole(key: str) -> list[jax.Array]:
        first = getattr(inputs.initial, key)
        repeated = jnp.broadcast_to(first, (setup.initialization + 1, *first.shape))
        return [x.reshape(-1).astype(vector.dtype) for x in (repeated, getattr(path, key))]

    groups = parts(setup.definition.State)
    return [jnp.concatenate([x for key in keys for x in whole(key)]) for keys in groups]


def steady_rows(setup: Setup, vector: Any, matrix: Any) -> jax.Array:
    """JAX: the steady state of every period's scenario and parameters, (timesteps, N)."""
    inputs, plan = _inputs(setup, vector, matrix)
    definition = plan.model
    params = definition.constrain(inputs.params)
    fixed, moving = parameter_paths(definition, params, inputs.shocks)

    search = Search(definition, SEARCHED_PERIODS)

    def one(moving: Any, row: Any) -> Any:
        # The parameters are constrained already, in every period.
        return found_state(search, definition.Params(**fixed, **moving), row)[0]

    path = jax.vmap(one, axis_size=plan.periods)(moving, inputs.scenario)
    first = _flat(inputs.initial, ())
    repeated = jnp.broadcast_to(first, (setup.initialization + 1, first.shape[0]))
    return jnp.concatenate([repeated, _flat(path, (plan.periods,))[1:]])


def _behavior_inputs(behavior: Any) -> tuple[Setup, torch.Tensor, torch.Tensor]:
    definition = definition_for(behavior)
    setup = setup_for(definition, behavior.hyper, behavior.scenarios)
    vector = pack_params(definition, behavior.params, behavior.parameters)
    return setup, vector, pack_series(setup, behavior.scenarios).to(vector.device)


def behavior_random(behavior: Any, definition: Model) -> tuple[torch.Tensor, ...]:
    """The random inputs of a behavior's run: those of its `noise`, or of its seed."""
    found = random_inputs(definition, behavior.hyper, behavior.noise)
    device = next((p.device for p in behavior.params.values()), "cpu")  # where `to` has put it
    return tuple(tensor.to(device) for tensor in found)


def forward(behavior: Any) -> dict[str, torch.Tensor]:
    """Simulates a library behavior: name -> (timesteps + 1, n), differentiable in params and scenarios."""
    setup, vector, matrix = _behavior_inputs(behavior)
    random = behavior_random(behavior, setup.definition)
    # Without a graph to leave, the program that the Jacobians use serves: one compile less.
    given = (vector, matrix, *random)
    plain = not torch.is_grad_enabled() and not any(map(is_transformed, given))
    compiled = program(setup).values if plain else program(setup).torch
    behavior.variables.forget()  # as in eager torch: the last run's memory is there for this one
    paths = compiled(*given)
    if setup.definition.solved and not any(map(is_transformed, paths)):
        _warn_unsolved(setup, [path.detach() for path in paths])
    return unpack(setup.definition, paths, output_dtype(behavior.hyper))


def paths_of(behavior: Any, changed: Callable[[Model], Model]) -> dict[str, torch.Tensor]:
    """A run of a library behavior's declaration, changed by a function, from the same parameters, series
    and random inputs: name -> (timesteps + 1, n), float64, without a graph.
    """
    setup, vector, matrix = _behavior_inputs(behavior)
    random = behavior_random(behavior, setup.definition)
    setup = setup._replace(definition=changed(setup.definition))
    given = [tensor.detach() for tensor in (vector, matrix, *random)]
    return unpack(setup.definition, program(setup).values(*given), torch.float64)


def _warn_unsolved(setup: Setup, paths: list[torch.Tensor]) -> None:
    """Says from where on a run is NaN because the equations of a period have no solution."""
    definition = setup.definition
    values = unpack(definition, paths, torch.float64)
    found = []
    for name in definition.solved:
        field = definition.State.fields[definition.State.key_of(name)]
        path = values[field.name][setup.initialization + 1 :].cpu().numpy()
        found.append(path.reshape(-1, *field.shape))
    failed = unsolved(definition, found)
    if failed is not None:
        warnings.warn(
            f"{definition.name}: the simultaneous equations of period "
            f"{int(failed) + setup.initialization} have no solution that was found, for "
            f"{', '.join(definition.solved)}: the results are NaN from row "
            f"{int(failed) + setup.initialization + 1} on.",
            RuntimeWarning,
            stacklevel=2,
        )


def steady_state(behavior: Any) -> dict[str, torch.Tensor]:
    """The theoretical steady state of every period: name -> (timesteps, n).

    In closed form where the model has one, else solved for.

    Raises:
        NotImplementedError: the model is random. RuntimeError: no period has a steady state.
    """
    setup, vector, matrix = _behavior_inputs(behavior)
    name = setup.definition.name
    if is_random(setup.definition):
        raise NotImplementedError(f"{name} is random: it has no steady state.")
    rows = program(setup).steady(vector, matrix)
    missing = torch.isnan(rows[setup.initialization + 1 :]).any(dim=1)
    if missing.all():
        raise RuntimeError(f"{name}: no steady state was found in any period.")
    if missing.any():
        first = int(missing.nonzero()[0]) + setup.initialization + 1
        warnings.warn(
            f"{name}: no steady state was found in {int(missing.sum())} periods, the first of which is "
            f"{first}; they are NaN.",
            RuntimeWarning,
            stacklevel=2,
        )
    return unpack_rows(setup.definition, rows, output_dtype(behavior.hyper))


@functools.lru_cache(maxsize=256)
def _single_step(definition: Model) -> Callable[..., Any]:
    def step(prior: Any, params: Any, scenario: Any, period: Any = None, *random: Any) -> Any:
        dtype = jnp.result_type(*jax.tree.leaves((prior, params, scenario)))
        state = definition.step(
            definition.State(**prior),
            definition.Params(**params),
            definition.Scenario(**scenario),
            *period_draws(definition, random, period, dtype),
        )
        state = canonical_state(definition, state, dtype)
        return {key: getattr(state, key) for key in state.fields}

    return torch_function(step, name=f"{definition.name}_step")


def _fields_of(record: Any, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        key: values[tensor_name(field)].double().reshape(field.shape)
        for key, field in record.fields.items()
    }


def step(
    behavior: Any, t: int, scenario: Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> None:
    """One period of the library's own step, for subclasses that build on it: sets `behavior.state`."""
    definition = definition_for(behavior)
    prior = {
        key: behavior.prior[field.name].double().reshape(field.shape)
        for key, field in definition.State.fields.items()
    }
    given = behavior.params if params is None else params
    row = _fields_of(definition.Scenario, scenario)
    random: tuple[torch.Tensor, ...] = ()
    if definition.random:
        random = behavior.random_inputs(definition)
        period = t - int(behavior.hyper["timesteps_initialization"])
        random = (torch.tensor(period, device=random[0].device), *random)
    state = _single_step(definition)(prior, _fields_of(definition.Params, given), row, *random)
    _set_state(behavior, state)


def initial_state(behavior: Any) -> None:
    """The library's own initial state: sets `behavior.state`."""
    setup, vector, matrix = _behavior_inputs(behavior)
    random = behavior.random_inputs(setup.definition)
    first = torch_function(functools.partial(_initial_fields, setup))(vector, matrix, *random)
    _set_state(behavior, first)


def _initial_fields(setup: Setup, vector: Any, matrix: Any, *random: Any) -> dict[str, Any]:
    initial = _inputs(setup, vector, matrix, *random)[0].initial
    return {key: getattr(initial, key) for key in initial.fields}


def _set_state(behavior: Any, state: Mapping[str, torch.Tensor]) -> None:
    dtype = output_dtype(behavior.hyper)
    for key, field in behavior.definition.State.fields.items():
        value = state[key].to(dtype)
        behavior.state[field.name] = value if field.shape else value.reshape(1)
