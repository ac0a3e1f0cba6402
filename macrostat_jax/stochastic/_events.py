"""Where a path is not smooth in its parameters: the first variable that jumps, and when and whose.

A path is compared with those on both sides of the parameters, under the same noise. The bend of a smooth
variable, its second difference, is of second order in the step: at half the step a quarter of it is left.
Where something else is left, an event lies within the step: a choice, a bankruptcy, a limit that begins
to bind. No derivative is asked, so that a wrong one is no event.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import _compile
from .._inputs import Inputs, prepare
from .._model import Model
from .._trajectory import trajectory
from ..diff._target import Target, Wrt, resolve_wrt, with_initial, with_noise
from ._runs import move_sizes, runs_at_once


@dataclasses.dataclass(frozen=True, repr=False)
class Event:
    """The first thing in a run that the parameter's step changes other than smoothly.

    Attributes:
        run: the number of the run. `input`: the parameter, with its element if it has several.
        period: counted from 0. `variable`, `index`: of which variable, and which element of it.
        below, above: its values with the parameter a step lower and a step higher.
        count: how many elements of the variable change so in that period.
        where: the agent in words, ` of firm 12`; empty for a scalar.
    """

    run: int
    input: str
    period: int
    variable: str
    index: tuple[int, ...]
    below: float
    above: float
    count: int
    where: str = ""

    def __str__(self) -> str:
        others = f", and {self.count - 1:,} more" if self.count > 1 else ""
        digits = next(n for n in (6, 10, 17) if n == 17 or not self._alike(n))
        return (
            f"run {self.run}, {self.input}: in period {self.period} {self.variable}{self.where} is "
            f"{self.below:.{digits}g} a step below and {self.above:.{digits}g} a step above{others}"
        )

    def _alike(self, digits: int) -> bool:
        return f"{self.below:.{digits}g}" == f"{self.above:.{digits}g}"

    __repr__ = __str__


def events(
    model: Model,
    *,
    wrt: Wrt = "params",
    step: float = 1e-4,
    key: Any = None,
    noise: Any = None,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
) -> tuple[Event, ...]:
    """Where a model's path is not smooth within a step of its inputs, under the same noise.

    Args:
        wrt: as in `diff.jacobian`.
        step: to either side, as a share of each element's size; absolute where it is zero.
        key: of a random model: one, or one for each of several runs.
        noise, params, ...: as in `simulate`; one set of them, not a batch.

    Returns:
        The first `Event` of every run and input element, where there is one.

    Raises:
        As `simulate`. ValueError: a step that is not positive, or leads out of a parameter's bounds.
    """
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"step must be positive and finite, not {step}.")
    runs = {"params": params, "scenario": scenario, "shocks": shocks, "initial": initial}
    return events_near(model, wrt, step, key, noise, {**runs, "periods": periods}, check="step")


def events_near(
    model: Model,
    wrt: Wrt,
    step: float,
    key: Any,
    noise: Any,
    given: dict[str, Any],
    check: str = "",
) -> tuple[Event, ...]:
    """As `events`; without `check` parameters may leave their bounds, as those of differences do."""
    keys = key if np.ndim(key) else None
    first = key if keys is None else keys[0]
    inputs, plan = prepare(model, **given, key=first, noise=noise)
    if plan.batch is not None:
        raise ValueError(f"{model.name}: give one set of parameters and paths, not a batch.")
    resolved = resolve_wrt(model, wrt)
    inputs = with_initial(plan, with_noise(plan, inputs, resolved), resolved)
    target = Target(plan, tuple(model.State.fields), resolved)
    scales = move_sizes(target, inputs, step, check)
    elements = sum(np.size(leaf) for leaf in scales.values())
    if keys is not None:
        inputs = inputs._replace(key=None)
    return tuple(
        find_events(target, inputs, keys, scales, runs_at_once(target, inputs, 5 * elements))
    )


def find_events(
    target: Target, inputs: Inputs, keys: Any, scales: dict[str, Any], chunk: int
) -> list[Event]:
    """The first event of every run and differentiated element, where there is one.

    Args:
        inputs: without a key. keys: (R,), one for each run; None for inputs that hold their noise.
        scales: label -> the step of each element. chunk: how many runs at once.
    """
    labels = input_labels(target, inputs)
    found = []
    runs = 1 if keys is None else len(keys)
    for at in range(0, runs, chunk):
        these = None if keys is None else keys[np.arange(at, at + chunk) % runs]
        seen = _compile.call(_first_changes, target, inputs, these, scales)
        seen = {key: jax.tree.map(np.asarray, value) for key, value in seen.items()}
        for run in range(at, min(at + chunk, runs)):
            for i, label in enumerate(labels):
                one = {
                    key: {part: value[run - at, i] for part, value in parts.items()}
                    for key, parts in seen.items()
                }
                event = _first(target.plan.model, run, label, one, target.plan.periods)
                found += [event] if event else []
    return found


def input_labels(target: Target, inputs: Inputs) -> list[str]:
    """A name for every element that is differentiated by."""
    return [
        f"{label}[{i}]" if np.ndim(leaf) else label
        for label, leaf in target.split(inputs).items()
        for i in range(np.size(leaf))
    ]


def _first(model: Model, run: int, label: str, seen: dict[str, Any], never: int) -> Event | None:
    """The most telling of the variables that change in the first period in which any does: whole
    numbers and constants before what moves anyway, agents before aggregates."""
    period = min(int(parts["period"]) for parts in seen.values())
    if period >= never:
        return None

    def rank(key: str) -> tuple[bool, bool, bool]:
        parts = seen[key]
        return not parts["whole"], not parts["constant"], not model.State.fields[key].shape

    here = [key for key, parts in seen.items() if parts["period"] == period]
    key = min(here, key=rank)
    field, parts = model.State.fields[key], seen[key]
    index = tuple(int(i) for i in np.unravel_index(int(parts["at"]), field.shape or (1,)))
    index = index if field.shape else ()
    where = ", ".join(f"{a.name} {a.slots[i]}" for a, i in zip(field.axes, index, strict=True))
    return Event(
        run,
        label,
        period,
        key,
        index,
        float(parts["below"]),
        float(parts["above"]),
        int(parts["count"]),
        f" of {where}" if where else "",
    )


@functools.partial(jax.jit, static_argnums=0)
def _first_changes(target: Target, inputs: Inputs, keys: Any, scales: Any) -> dict[str, Any]:
    """Variable -> for each run and element: the first period of a change that is not smooth (T if there
    is none), and there: the first element, its values, whether it is constant else, how many do."""
    if keys is None:
        found = _of_run(target, inputs, scales)
        return jax.tree.map(lambda leaf: leaf[None], found)
    return jax.vmap(lambda key: _of_run(target, inputs._replace(key=key), scales))(keys)


def _of_run(target: Target, inputs: Inputs, scales: Any) -> dict[str, Any]:
    x, unravel = ravel_pytree(target.split(inputs))
    sizes = ravel_pytree(scales)[0]

    def path(x: Any) -> dict[str, Any]:
        states = trajectory(target.plan, target.moved(inputs, unravel(x)))
        return {k: getattr(states, k).astype(x.dtype) for k in states.fields}

    def by_element(unit: Any) -> dict[str, Any]:
        # All five in one batch: elsewhere the parameters' own run may round otherwise, and an event
        # magnifies that.
        shares = jnp.array([0.0, 1.0, -1.0, 0.5, -0.5], x.dtype)
        paths = jax.vmap(lambda share: path(x + share * sizes * unit))(shares)
        return {key: _change(values[0], values[1:]) for key, values in paths.items()}

    return jax.vmap(by_element)(jnp.eye(x.size, dtype=x.dtype))


def _change(base: Any, ends: Any) -> dict[str, Any]:
    """Of one variable: `base` (T, *shape), and `ends` (4, T, *shape) at h, -h, h / 2, -h / 2."""
    base = base.reshape(len(base), -1)
    high, low, near_high, near_low = ends.reshape(4, *base.shape)
    bend, nearer = high - 2 * base + low, near_high - 2 * base + near_low
    values = jnp.stack([high, low, base])
    size = jnp.max(jnp.where(jnp.isfinite(values), jnp.abs(values), 0))
    rounding = jnp.finfo(base.dtype).eps ** 0.6 * size
    odd = (jnp.abs(bend) > rounding) & (jnp.abs(4 * nearer - bend) > 0.5 * jnp.abs(bend))
    odd |= (jnp.isfinite(high) != jnp.isfinite(base)) | (jnp.isfinite(low) != jnp.isfinite(base))
    period = jnp.argmax(odd.any(axis=1))
    at = jnp.argmax(odd[period])
    return {
        "period": jnp.where(odd.any(), period, len(base)),
        "at": at,
        "below": low[period, at],
        "above": high[period, at],
        "whole": jnp.all(values[:, period, at] == jnp.round(values[:, period, at])),
        "constant": ((high == base) | (low == base))[period, at],
        "count": jnp.sum(odd[period]),
    }
