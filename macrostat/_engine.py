"""Runs library models for the torch API: one compiled JAX program per model and horizon.

The program maps all parameters, packed in one vector, and all scenario series, as the columns of one
matrix, to all variables as the columns of another: few tensors cross the bridge, whatever the model.
It computes in float64; results are cast to the dtype that the caller asks for.

Rows follow the torch API's convention of time: the initial state fills rows 0 to
`timesteps_initialization`, and scenario row t lands on row t + 1.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import torch
from torch.autograd import forward_ad

from bridge import to_jax, to_torch, torch_function
from macrostat_jax import AddingUp, Field, Model
from macrostat_jax._compile import disk_cache
from macrostat_jax._simulate import Inputs, Plan, _canonical_state, _parameter_paths, trajectory
from macrostat_jax.diff._finite import pad_to

from .core import Model as TorchModel
from .core import Parameters, Scenarios
from .core._dtype import output_dtype as output_dtype


def definition_for(model: Any) -> Model:
    """The declaration that a library model runs, with the constraints of its `Parameters`."""
    definition: Model = model.definition
    given = tuple(
        AddingUp(tuple(_reference(definition, n) for n in c.param_names), float(c.target))
        for c in model.parameters.get_constraints()
    )
    return definition.with_constraints(given)


def _reference(definition: Model, name: str) -> str:
    """A scalar's declared name (`S1.LabourProductivity`) as the core's reference to it."""
    for key, field in definition.Params.fields.items():
        names = scalar_names(field)
        if name in names:
            return f"{key}[{names.index(name)}]" if field.shape else key
    raise KeyError(f"{definition.name} has no parameter {name!r}.")


class Setup(NamedTuple):
    """What a program is specialised to; equal setups share one compiled program."""

    definition: Model
    timesteps: int
    initialization: int
    series: tuple[tuple[str, int], ...]
    """Name and number of columns of every scenario series, in order."""


class Slot(NamedTuple):
    """Where a field lies in a packed vector."""

    field: Field
    start: int
    stop: int


def slots(record: Any) -> dict[str, Slot]:
    """Field key -> its place in the packed vector of a record."""
    places, at = {}, 0
    for key, field in record.fields.items():
        size = math.prod(field.shape)
        places[key] = Slot(field, at, at + size)
        at += size
    return places


def scalar_names(field: Field) -> list[str]:
    """The names of a field's elements as the torch API declares them: `S1.LabourProductivity`."""
    names = [""]
    for axis in field.axes:
        names = [f"{name}{slot}." for name in names for slot in axis.slots]
    return [f"{name}{field.name}" for name in names]


def element_index(definition: Model) -> dict[str, int]:
    """Declared scalar name -> its place in the packed parameter vector."""
    fields = definition.Params.fields.values()
    return {name: i for i, name in enumerate(n for field in fields for n in scalar_names(field))}


def is_compiled(model: Any) -> bool:
    """Does what the declaration says decide the model's runs: has the user replaced nothing by torch code?"""
    from .models._library import LibraryBehavior

    behavior = model.behavior
    if not (isinstance(behavior, type) and issubclass(behavior, LibraryBehavior)):
        return False
    untouched = (
        (behavior, LibraryBehavior, ("__init__", "forward")),
        (type(model), TorchModel, ("get_model_training_instance",)),
        (type(model.parameters), Parameters, ("vectorize_parameters", "to_nn_parameters")),
        (type(model.scenarios), Scenarios, ("to_nn_parameters",)),
    )
    return behavior.runs_compiled() and all(
        getattr(found, name) is getattr(ours, name)
        for found, ours, names in untouched
        for name in names
    )


def tensor_name(field: Field) -> str:
    """The key of a field in `Behavior.params`."""
    return field.name.replace(".", "_")


def setup_for(definition: Model, hyper: Mapping[str, Any], series: Mapping[str, Any]) -> Setup:
    """The setup of a run. Raises `ValueError` where no period would be simulated."""
    timesteps, initialization = int(hyper["timesteps"]), int(hyper["timesteps_initialization"])
    if timesteps <= initialization:
        raise ValueError(
            f"timesteps ({timesteps}) must be greater than timesteps_initialization ({initialization})."
        )
    for name, values in series.items():
        if len(values) != timesteps:
            raise ValueError(
                f"Scenario series {name!r} has {len(values)} periods, but timesteps is {timesteps}: make "
                "the scenarios anew from the changed parameters."
            )
    widths = {name: int(math.prod(values.shape[1:])) for name, values in series.items()}
    known = _series_roles(definition)
    for field in definition.Scenario.fields.values():
        if tensor_name(field) not in widths:
            raise KeyError(f"{definition.name} needs the scenario series {tensor_name(field)!r}.")
    used = tuple((name, widths[name]) for name in series if name in known)
    return Setup(definition, timesteps, initialization, used)


@functools.lru_cache(maxsize=256)
def _series_roles(definition: Model) -> dict[str, tuple[str, str, int | None]]:
    """Series name -> (kind, field key, element): kind is `exogenous`, `add` or `multiply`."""
    roles: dict[str, tuple[str, str, int | None]] = {
        tensor_name(field): ("exogenous", key, None)
        for key, field in definition.Scenario.fields.items()
    }
    for key, field in definition.Params.fields.items():
        for kind in ("add", "multiply"):
            roles[f"{tensor_name(field)}_{kind}"] = (kind, key, None)
            if field.shape:
                for i, name in enumerate(scalar_names(field)):
                    roles[f"{name.replace('.', '_')}_{kind}"] = (kind, key, i)
    return roles


def scalar_values(parameters: Any) -> dict[str, float]:
    """Declared name -> value, unrounded; the derived ones as the constraints imply them."""
    values = {name: float(info["value"]) for name, info in parameters.values.items()}
    for constraint in parameters.get_constraints():
        values[constraint.derived_param] = float(constraint.implied(parameters.values))
    return values


def pack_values(definition: Model, parameters: Any) -> torch.Tensor:
    """All parameter values, float64 (P,), in the declared order, unrounded."""
    scalars = scalar_values(parameters)
    values: list[float] = []
    for field in definition.Params.fields.values():
        if field.name in parameters.data:
            values += (
                torch.as_tensor(parameters.data[field.name]["value"]).double().reshape(-1).tolist()
            )
        else:
            values += [scalars[name] for name in scalar_names(field)]
    return torch.tensor(values, dtype=torch.float64)


def pack_params(
    definition: Model, params: Mapping[str, torch.Tensor], parameters: Any
) -> torch.Tensor:
    """The tensors of `Behavior.params` as one float64 vector (P,), differentiable.

    A float32 tensor that still holds its declared value stands for that value, not for its rounding.
    """
    fields = definition.Params.fields.values()
    given = torch.cat([params[tensor_name(field)].reshape(-1) for field in fields])
    if given.dtype == torch.float64:
        return given
    exact = pack_values(definition, parameters).to(given.device)
    rounded = exact.to(given.dtype)
    correction = torch.where(given.detach() == rounded, exact - rounded.double(), 0.0)
    return given.double() + correction


def pack_series(setup: Setup, series: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The scenario series as the columns of one float64 matrix (timesteps, K), differentiable."""
    if not setup.series:
        return torch.zeros(setup.timesteps, 0, dtype=torch.float64)
    columns = [series[name].reshape(setup.timesteps, width) for name, width in setup.series]
    return torch.cat(columns, dim=1).double()


def unpack(definition: Model, rows: torch.Tensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Columns of (T, N) as public name -> (T, 1), (T, n) or (T, n, m), in `dtype`."""
    rows = rows.to(dtype)
    outputs = {}
    for place in slots(definition.State).values():
        columns = rows[:, place.start : place.stop]
        shape = place.field.shape
        outputs[place.field.name] = columns.reshape(-1, *shape) if len(shape) > 1 else columns
    return outputs


class Program:
    """The compiled forms of one setup. Tensors in and out are float64 and carry no torch graph, except
    those of `torch` and `steady`, which are differentiable torch functions.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        rows = functools.partial(simulated_rows, setup)
        self.torch: Callable[..., torch.Tensor] = torch_function(rows, name=setup.definition.name)
        self.steady: Callable[..., torch.Tensor] = torch_function(
            functools.partial(steady_rows, setup), name=f"{setup.definition.name}_steady_state"
        )

        def tangents(vector: Any, matrix: Any, directions: Any) -> Any:
            def push(direction: Any) -> Any:
                return jax.jvp(lambda v: rows(v, matrix), (vector,), (direction,))

            return jax.vmap(push, out_axes=(None, 0))(directions)

        def pullback(vector: Any, matrix: Any, weights: Any) -> Any:
            _, pull = jax.vjp(lambda v: rows(v, matrix), vector)
            return jax.vmap(lambda w: pull(w)[0])(weights)

        batch = jax.vmap(rows, in_axes=(0, None), out_axes=1)
        self._compiled = {
            "values": jax.jit(rows),
            "batch": jax.jit(batch),
            "tangents": jax.jit(tangents),
            "pullback": jax.jit(pullback),
        }
        self._known: set[Any] = set()

    def _call(self, kind: str, *tensors: torch.Tensor) -> Any:
        signature = (kind, *(tensor.shape for tensor in tensors))
        with jax.enable_x64(True):
            arrays = [to_jax(tensor) for tensor in tensors]
            with disk_cache() if signature not in self._known else contextlib.nullcontext():
                result = jax.block_until_ready(self._compiled[kind](*arrays))
            self._known.add(signature)
            return jax.tree.map(to_torch, result)

    def values(self, vector: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """Parameters (P,), series (timesteps, K) -> variables (timesteps + 1, N)."""
        return self._call("values", vector, matrix)

    def batch(self, vectors: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        """R runs at once: parameters (R, P) -> variables (timesteps + 1, R, N)."""
        padded = _padded(vectors)
        return self._call("batch", padded, matrix)[:, : len(vectors)]

    def tangents(
        self, vector: torch.Tensor, matrix: torch.Tensor, directions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Forward mode: variables, and their derivatives (R, timesteps + 1, N) along R directions (R, P)."""
        values, tangents = self._call("tangents", vector, matrix, directions)
        return values, tangents

    def pullback(
        self, vector: torch.Tensor, matrix: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Reverse mode: R weighted sums of the variables, weights (R, timesteps + 1, N) -> (R, P)."""
        count = len(weights)
        padded = weights if count == 1 else _padded(weights)
        return self._call("pullback", vector, matrix, padded)[:count]


def _padded(rows: torch.Tensor) -> torch.Tensor:
    """Rows repeated up to a power of two, so that batches of similar size share a compiled program."""
    size = pad_to(len(rows))
    return torch.cat([rows, rows[:1].expand(size - len(rows), *rows.shape[1:])]).contiguous()


@functools.lru_cache(maxsize=256)
def program(setup: Setup) -> Program:
    return Program(setup)


def _inputs(setup: Setup, vector: Any, matrix: Any) -> tuple[Inputs, Plan]:
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
    roles, at = _series_roles(definition), 0
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
    start = definition.initial_state(definition.constrain(params), scenario[0])
    initial = _canonical_state(definition, start, vector.dtype)
    return Inputs(params, scenario, shocks, initial, None), Plan(definition, periods)


def _flat(state: Any, lead: tuple[int, ...]) -> jax.Array:
    leaves = [getattr(state, key).reshape(*lead, -1) for key in state.fields]
    return jnp.concatenate(leaves, axis=-1)


def simulated_rows(setup: Setup, vector: Any, matrix: Any) -> jax.Array:
    """JAX: parameters (P,) and series (timesteps, K) -> variables (timesteps + 1, N)."""
    inputs, plan = _inputs(setup, vector, matrix)
    path = trajectory(plan, inputs)
    first = _flat(inputs.initial, ())
    repeated = jnp.broadcast_to(first, (setup.initialization + 1, first.shape[0]))
    return jnp.concatenate([repeated, _flat(path, (plan.periods,))])


def steady_rows(setup: Setup, vector: Any, matrix: Any) -> jax.Array:
    """JAX: the steady state of every period's scenario and parameters, (timesteps, N)."""
    inputs, plan = _inputs(setup, vector, matrix)
    definition = plan.model
    params = definition.constrain(inputs.params)
    fixed, moving = _parameter_paths(definition, params, inputs.shocks)

    def one(moving: Any, row: Any) -> Any:
        state = definition.steady_state(definition.Params(**fixed, **moving), row)
        return _canonical_state(definition, state, vector.dtype)

    path = jax.vmap(one, axis_size=plan.periods)(moving, inputs.scenario)
    first = _flat(inputs.initial, ())
    repeated = jnp.broadcast_to(first, (setup.initialization + 1, first.shape[0]))
    return jnp.concatenate([repeated, _flat(path, (plan.periods,))[1:]])


def _behavior_inputs(behavior: Any) -> tuple[Setup, torch.Tensor, torch.Tensor]:
    definition = definition_for(behavior)
    setup = setup_for(definition, behavior.hyper, behavior.scenarios)
    vector = pack_params(definition, behavior.params, behavior.parameters)
    return setup, vector, pack_series(setup, behavior.scenarios).to(vector.device)


def _is_transformed(tensor: torch.Tensor) -> bool:
    """Is it torch.func's or forward mode's stand-in for a tensor, which only `torch` programs take?"""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return True
    return (
        forward_ad.unpack_dual(tensor).tangent is not None
        if forward_ad._current_level >= 0
        else False
    )


def forward(behavior: Any) -> dict[str, torch.Tensor]:
    """Simulates a library behavior: name -> (timesteps + 1, n), differentiable in params and scenarios."""
    setup, vector, matrix = _behavior_inputs(behavior)
    # Without a graph to leave, the program that the Jacobians use serves: one compile less.
    plain = not torch.is_grad_enabled() and not any(map(_is_transformed, (vector, matrix)))
    compiled = program(setup).values if plain else program(setup).torch
    rows = compiled(vector, matrix)
    return unpack(setup.definition, rows, output_dtype(behavior.hyper))


def steady_state(behavior: Any) -> dict[str, torch.Tensor]:
    """The theoretical steady state of every period: name -> (timesteps, n)."""
    setup, vector, matrix = _behavior_inputs(behavior)
    if setup.definition.steady_state is None:
        raise NotImplementedError(f"{setup.definition.name} has no steady state in closed form.")
    rows = program(setup).steady(vector, matrix)
    return unpack(setup.definition, rows, output_dtype(behavior.hyper))


@functools.lru_cache(maxsize=256)
def _single_step(definition: Model) -> Callable[..., Any]:
    def step(prior: Any, params: Any, scenario: Any) -> Any:
        state = definition.step(
            definition.State(**prior), definition.Params(**params), definition.Scenario(**scenario)
        )
        dtype = jnp.result_type(*jax.tree.leaves((prior, params, scenario)))
        state = _canonical_state(definition, state, dtype)
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
    definition = behavior.definition
    prior = {
        key: behavior.prior[field.name].double().reshape(field.shape)
        for key, field in definition.State.fields.items()
    }
    given = behavior.params if params is None else params
    row = _fields_of(definition.Scenario, scenario)
    state = _single_step(definition)(prior, _fields_of(definition.Params, given), row)
    _set_state(behavior, state)


def initial_state(behavior: Any) -> None:
    """The library's own initial state: sets `behavior.state`."""
    setup, vector, matrix = _behavior_inputs(behavior)
    first = torch_function(functools.partial(_initial_fields, setup))(vector, matrix)
    _set_state(behavior, first)


def _initial_fields(setup: Setup, vector: Any, matrix: Any) -> dict[str, Any]:
    initial = _inputs(setup, vector, matrix)[0].initial
    return {key: getattr(initial, key) for key in initial.fields}


def _set_state(behavior: Any, state: Mapping[str, torch.Tensor]) -> None:
    dtype = output_dtype(behavior.hyper)
    for key, field in behavior.definition.State.fields.items():
        value = state[key].to(dtype)
        behavior.state[field.name] = value if field.shape else value.reshape(1)
