"""The random inputs of a library model in the torch API.

A program of a random model takes one tensor more than that of another: the draws of all periods, packed
as columns (rows, M), or the seed, from which JAX draws inside of the run what
`macrostat_jax.simulate(model, key=jax.random.key(seed))` draws in float64. A model that the published
package has too draws with torch, in the order of that package, so that a seed gives the path it gives
there: the module of such a model that `EXTENSIONS` lists has a function `noise(hyper)`, which returns its
draws in float64, packed.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import torch

from macrostat_jax import Model

from ._packing import slots
from .core._checks import seed_of
from .core.scenarios import as_tensor
from .models._conventions import EXTENSIONS

Noise = Mapping[str, Any]
"""Field, by its own or its public name -> draws, a tensor or array of shape (rows, *shape)."""


def is_random(definition: Model) -> bool:
    return definition.random or definition.random_start


def random_inputs(
    definition: Model, hyper: Mapping[str, Any], given: Noise | None = None
) -> tuple[torch.Tensor, ...]:
    """What a program takes besides parameters and series: nothing, the packed draws, or the seed.

    Raises:
        TypeError: noise for a model that takes none. KeyError, ValueError: noise that does not fit, a
            seed that is missing or no integer.
    """
    if not is_random(definition):
        if given is not None:
            raise TypeError(f"{definition.name} is not random: it takes no noise.")
        return ()
    if given is None:
        draw = _drawn_in_torch(definition.name)
        if draw is None:
            return (torch.tensor(seed_of(hyper), device="cpu"),)
        return (draw(hyper),)
    return (_pack(definition, hyper, given),)


@functools.cache
def _drawn_in_torch(name: str) -> Callable[[Mapping[str, Any]], torch.Tensor] | None:
    if name not in EXTENSIONS:
        return None
    module = importlib.import_module(f"macrostat.models.{EXTENSIONS[name]}")
    return getattr(module, "noise", None)


def generator_of(hyper: Mapping[str, Any]) -> torch.Generator:
    """A generator that gives what torch's global one would after `torch.manual_seed(hyper["seed"])`."""
    return torch.Generator().manual_seed(seed_of(hyper))


def _pack(definition: Model, hyper: Mapping[str, Any], given: Noise) -> torch.Tensor:
    name, record = definition.name, definition.Noise
    if record is None:
        raise TypeError(f"{name} draws from a seed alone: it takes no noise.")
    found = {record.key_of(field): value for field, value in given.items()}
    if missing := [key for key in record.fields if key not in found]:
        raise KeyError(f"{name}: the noise lacks {', '.join(missing)}.")
    periods = int(hyper["timesteps"]) - int(hyper["timesteps_initialization"])
    rows = periods + definition.random_start
    columns = []
    for key, field in record.fields.items():
        tensor = as_tensor(found[key])
        if tensor.shape != (rows, *field.shape):
            first = ", the first for the initial state" if definition.random_start else ""
            raise ValueError(
                f"{name}: the noise {key!r} must have the shape {(rows, *field.shape)}, one row for each "
                f"of {periods} periods (timesteps less timesteps_initialization){first}; not "
                f"{tuple(tensor.shape)}."
            )
        columns.append(tensor.reshape(rows, -1).double())
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


# In JAX -----------------------------------------------------------------------------------------


def key_and_noise(definition: Model, random: tuple[Any, ...]) -> tuple[Any, Any]:
    """`random_inputs` as `macrostat_jax.simulate` takes them."""
    if not random:
        return None, None
    if random[0].ndim == 0:
        return jax.random.key(random[0]), None
    return None, _fields(definition, random[0])


def initial_draws(definition: Model, key: Any, noise: Any, dtype: Any) -> tuple[Any, ...]:
    """What `initial_state` takes besides parameters and scenario."""
    if not definition.random_start:
        return ()
    if noise is not None:
        return (noise[0],)
    first = definition.start_key(key)[0]
    return (first if definition.Noise is None else definition.draw(first, dtype),)


def period_draws(
    definition: Model, random: tuple[Any, ...], period: Any, dtype: Any
) -> tuple[Any, ...]:
    """What `step` takes besides prior state, parameters and scenario, in the period of that number."""
    if not definition.random:
        return ()
    key, noise = key_and_noise(definition, random)
    if noise is not None:
        return (noise[period + int(definition.random_start)],)
    key = jax.random.fold_in(definition.start_key(key)[1], period)
    return (key if definition.Noise is None else definition.draw(key, dtype),)


def _fields(definition: Model, columns: Any) -> Any:
    assert definition.Noise is not None
    return definition.Noise(
        **{
            key: columns[:, place.start : place.stop].reshape(-1, *place.field.shape)
            for key, place in slots(definition.Noise).items()
        }
    )
