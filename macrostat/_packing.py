"""How the parameters, series and variables of a library model travel: packed, with their names.

Few tensors cross to JAX, whatever the model: all parameters in one vector, all scenario series as the
columns of one matrix, the paths of all small variables in one vector. Those of many agents have tensors of
their own: nothing is gained by packing them, and what a loss does not touch need not be pulled back.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd import forward_ad

from macrostat_jax import Field, Model

from .core._checks import check_hyperparameter

WIDE = 128
"""The number of elements from which on a variable's path is a tensor of its own."""


class Setup(NamedTuple):
    """What a program is specialised to; equal setups share one compiled program."""

    definition: Model
    timesteps: int
    initialization: int
    series: tuple[tuple[str, int], ...]
    """Name and number of columns of every scenario series, sorted by name."""


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


@functools.lru_cache(maxsize=256)
def element_index(definition: Model) -> dict[str, int]:
    """Declared scalar name -> its place in the packed parameter vector."""
    fields = definition.Params.fields.values()
    return {name: i for i, name in enumerate(n for field in fields for n in scalar_names(field))}


def tensor_name(field: Field) -> str:
    """The key of a field in `Behavior.params`."""
    return field.name.replace(".", "_")


def setup_for(definition: Model, hyper: Mapping[str, Any], series: Mapping[str, Any]) -> Setup:
    """The setup of a run. Raises `ValueError` where no period would be simulated, or numbers are not whole."""
    for name in ("timesteps", "timesteps_initialization"):
        check_hyperparameter(name, hyper[name])
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
    known = series_roles(definition)
    for field in definition.Scenario.fields.values():
        if tensor_name(field) not in widths:
            raise KeyError(f"{definition.name} needs the scenario series {tensor_name(field)!r}.")
        if widths[tensor_name(field)] != math.prod(field.shape):
            raise ValueError(
                f"Scenario series {tensor_name(field)!r} has {widths[tensor_name(field)]} columns, but "
                f"{definition.name} has it in the shape {field.shape}: make the scenarios anew from the "
                "changed parameters."
            )
    # Sorted: modules and plain dictionaries of series hold them in different orders.
    used = tuple((name, widths[name]) for name in sorted(series) if name in known)
    return Setup(definition, timesteps, initialization, used)


@functools.lru_cache(maxsize=256)
def series_roles(definition: Model) -> dict[str, tuple[str, str, int | None]]:
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
                torch.as_tensor(parameters.data[field.name]["value"], device="cpu")
                .double()
                .reshape(-1)
                .tolist()
            )
        else:
            values += [scalars[name] for name in scalar_names(field)]
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def pack_params(
    definition: Model, params: Mapping[str, torch.Tensor], parameters: Any
) -> torch.Tensor:
    """The tensors of `Behavior.params` as one float64 vector (P,), differentiable.

    A float32 tensor that still holds its declared value stands for that value, not for its rounding.
    """
    fields = definition.Params.fields.values()
    for field in fields:
        if params[tensor_name(field)].numel() != math.prod(field.shape):
            raise ValueError(
                f"Parameter {field.name!r} has the shape {tuple(params[tensor_name(field)].shape)}, but "
                f"{definition.name} has it in the shape {field.shape}."
            )
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
        return torch.zeros(setup.timesteps, 0, dtype=torch.float64, device="cpu")
    columns = [series[name].reshape(setup.timesteps, width) for name, width in setup.series]
    return torch.cat(columns, dim=1).double()


@functools.lru_cache(maxsize=256)
def parts(record: Any) -> tuple[tuple[str, ...], ...]:
    """The keys of a record by the vectors that their paths travel in: all small fields together, and each
    of `WIDE` elements or more by itself. In each the paths lie one after the other, each row by row.
    """
    sizes = {key: math.prod(field.shape) for key, field in record.fields.items()}
    small = tuple(key for key, size in sizes.items() if size < WIDE)
    return ((small,) if small else ()) + tuple((k,) for k, size in sizes.items() if size >= WIDE)


def unpack(
    definition: Model, paths: Sequence[torch.Tensor], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The vectors of `parts` as public name -> (T, 1), (T, n) or (T, n, m), in `dtype`."""
    fields = definition.State.fields
    found = {}
    for keys, path in zip(parts(definition.State), paths, strict=True):
        shapes = [fields[key].shape or (1,) for key in keys]
        sizes = list(map(math.prod, shapes))
        rows = path.numel() // sum(sizes)
        pieces = _pieces(path.to(dtype), [rows * size for size in sizes])
        for key, shape, piece in zip(keys, shapes, pieces, strict=True):
            found[key] = piece.view(rows, *shape)
    return {field.name: found[key] for key, field in fields.items()}


def _pieces(path: torch.Tensor, sizes: list[int]) -> Sequence[torch.Tensor]:
    if is_transformed(path):
        ends = itertools.accumulate(sizes)
        return [path[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    # Unsafe would be to write into `path`. What is written into one of these is no concern of the graph of
    # another, as with tensors of their own; and all their gradients are joined at once.
    return path.unsafe_split_with_sizes(sizes)


def is_transformed(tensor: torch.Tensor) -> bool:
    """Is it torch.func's or forward mode's stand-in for a tensor?"""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return True
    return forward_ad.unpack_dual(tensor).tangent is not None


def unpack_rows(
    definition: Model, rows: torch.Tensor, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Columns of (T, N) as public name -> (T, 1), (T, n) or (T, n, m), in `dtype`."""
    rows = rows.to(dtype)
    outputs = {}
    for place in slots(definition.State).values():
        columns = rows[:, place.start : place.stop]
        shape = place.field.shape
        outputs[place.field.name] = columns.reshape(-1, *shape) if len(shape) > 1 else columns
    return outputs
