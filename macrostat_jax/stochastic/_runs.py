"""What estimates over many runs share: their keys, their memory, how far parameters move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._inputs import Inputs
from .._model import Model
from .._trajectory import trajectory
from ..diff._target import Target, field_of, resolve_wrt

MEMORY = 256 * 2**20
"""What the paths of the runs that are computed at once may take, in bytes."""


def run_keys(model: Model, key: Any, runs: int) -> Any:
    """The key of every run: those given, or `fold_in(key, i)`, which is `run_keys(seed, runs)`.

    Raises:
        TypeError: no key, or a number of runs that is no integer. ValueError: fewer than 2 runs.
    """
    key = model.check_key(key)
    if jnp.ndim(key) > 1:
        raise ValueError(f"{model.name}: key is one key, or one for each run; not {key.shape}.")
    if jnp.ndim(key) == 1:
        runs = len(key)
    elif isinstance(runs, bool) or not isinstance(runs, int | np.integer):
        raise TypeError(f"The number of runs must be an integer, not {runs!r}.")
    if runs < 2:
        raise ValueError(f"A standard error needs at least 2 runs, not {runs}.")
    if jnp.ndim(key) == 1:
        return key
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(runs, dtype=jnp.uint32))


def runs_at_once(target: Target, inputs: Inputs, copies: int) -> int:
    """How many runs keep their paths, `copies` of each, within MEMORY. `inputs` hold a key, or noise."""
    path = jax.eval_shape(lambda x: trajectory(target.plan, x), inputs)
    size = sum(math.prod(s.shape) * s.dtype.itemsize for s in jax.tree.leaves(path))
    return max(1, MEMORY // max(1, size * copies))


Share = float | Mapping[str, float]
DEFAULT_SHARE = 0.05


def move_sizes(target: Target, inputs: Inputs, share: Share, check: str = "") -> dict[str, Any]:
    """How far each element moves: `share` times its own size, or `share` where it is zero.

    Args:
        share: a number, or input -> number, with 0.05 for what is not named.

    Raises:
        ValueError: a parameter would leave its bounds; `check` is the option that would be smaller.
        KeyError: an unknown input.
    """
    model = target.plan.model
    shares = dict.fromkeys((one.label for one in target.wrt), DEFAULT_SHARE)
    if isinstance(share, Mapping):
        shares |= {resolve_wrt(model, name)[0].label: value for name, value in share.items()}
    else:
        shares = dict.fromkeys(shares, share)
    found = {}
    for label, leaf in target.split(inputs).items():
        x, size = np.asarray(leaf), shares[label]
        found[label] = np.where(x == 0, size, size * np.abs(x)).astype(x.dtype)
        if check:
            check_bounds(target, {label: np.stack([x - found[label], x + found[label]])}, check)
    return found


def check_bounds(target: Target, points: dict[str, Any], option: str) -> None:
    """Raises a ValueError where a parameter would leave its bounds."""
    model = target.plan.model
    for one in target.wrt:
        if one.group == "params" and one.label in points:
            field, values = field_of(model, one), np.asarray(points[one.label])
            if not field.within(values):
                raise ValueError(
                    f"{model.name}: with this {option} the parameter {one.label!r} moves to between "
                    f"{values.min():.4g} and {values.max():.4g}, out of its bounds {field.interval}: "
                    f"choose a smaller {option}, or leave it out of wrt."
                )
