"""More than one steady state: Newton's method from many places."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from . import _compile
from ._model import Model
from ._record import stands_for
from ._rest import Rest, at_state, independent_combinations
from ._steady import Search, constant_inputs, found_state, steady_state

APART = 1e-6
"""Two steady states differ where a variable does by more than this, relative to it where it exceeds 1."""


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class SteadyStates:
    """The steady states that were found, the one to which the run leads first. Made by `steady_states`.

    Attributes:
        states: the model's `State`, its leaves of shape (K, *shape): `states[0]` is the first.
        spectral_radii: (K,), of the step's Jacobian, as in `diff.stability`: below 1 is stable.
        residuals: (K,), the most that a period changes a variable, relative to it where that exceeds 1.
        counts: (K,), from how many of the starts Newton's method led there.
        failed: from how many it led nowhere.
        conserved: what the step conserves at the first, in words: each then stands for a continuum.
    """

    model: Model
    states: Any
    spectral_radii: np.ndarray
    residuals: np.ndarray
    counts: np.ndarray
    failed: int
    conserved: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.counts)

    def __str__(self) -> str:
        if not len(self):
            return f"{self.model.name}: no steady state found from {self.failed} starts."
        plural = "steady state" if len(self) == 1 else "steady states"
        lines = [f"{self.model.name}: {len(self)} {plural}"]
        lines += [f"  each in a continuum: the step conserves {what}" for what in self.conserved]
        flat = [np.asarray(ravel_pytree(self.states[i])[0]) for i in range(len(self))]
        for i, (radius, residual, count) in enumerate(
            zip(self.spectral_radii, self.residuals, self.counts, strict=True)
        ):
            values = ", ".join(f"{x:.5g}" for x in flat[i][:4]) + (
                ", ..." if len(flat[i]) > 4 else ""
            )
            kind = "stable" if radius < 1 else "UNSTABLE"
            lines.append(
                f"  {i}: ({values})  {kind}, spectral radius {radius:.4g}, residual {residual:.0e}, "
                f"from {count} starts"
            )
        if self.failed:
            lines.append(f"  from {self.failed} starts Newton's method led nowhere")
        return "\n".join(lines)

    __repr__ = __str__


def steady_states(
    model: Model,
    params: Any = None,
    scenario: Any = None,
    *,
    starts: int | Any = 64,
    spread: float = 1.0,
    seed: int = 0,
) -> SteadyStates:
    """Looks for several steady states: Newton's method from many starts around that of the run.

    What it finds are steady states; that there are no others it cannot say.

    Args:
        model, params, scenario: as in `steady_state`.
        starts: how many, drawn at random; or a `State` of them, leaves of shape (N, *shape).
        spread: how far the random starts scatter, relative to each variable's value at the steady state
            of the run (1 where that is zero). What the step conserves is left as the run has it.
        seed: of the draws.

    Returns:
        A `SteadyStates`; print it. The one of the run comes first, where the run leads to one.

    Raises:
        ValueError: a random model, or no starts.
    """
    params, row = constant_inputs(model, params, scenario)
    if isinstance(starts, int) and starts < 1:
        raise ValueError(f"{model.name}: there must be at least one start, not {starts}.")
    found: list[Rest] = []
    counts: list[int] = []
    try:
        centre = at_state(model, (), params, row, steady_state(model, params, row))
        found, counts = [centre], [0]
    except RuntimeError:
        initial = model.initial_state(model.constrain(params), row)
        centre = at_state(model, (), params, row, initial)
    if isinstance(starts, int):
        size = spread * np.where(centre.whole == 0, 1.0, np.abs(centre.whole))
        scatter = size * np.random.default_rng(seed).standard_normal((starts, centre.whole.size))
        finite = np.array(centre.place.finite)
        scatter[:, ~finite] = 0.0
        scatter[:, finite] -= scatter[:, finite] @ centre.conserved @ centre.conserved.T
        unravel = ravel_pytree(centre.state)[1]
        starts = jax.vmap(unravel)(jnp.asarray(centre.whole + scatter, centre.whole.dtype))
    elif not stands_for(starts, model.State):
        raise TypeError(f"{model.name} expects {model.State.__qualname__}, not {type(starts)}.")
    states, change = _compile.call(_from_each, Search(model, 0), params, row, starts)
    failed = 0
    for i, left in enumerate(np.asarray(change)):
        if not np.isfinite(left):
            failed += 1
            continue
        one = at_state(model, (), params, row, jax.tree.map(lambda leaf, i=i: leaf[i], states))
        same = [k for k, other in enumerate(found) if _distance(one, other) < APART]
        if same:
            counts[same[0]] += 1
        else:
            found.append(one)
            counts.append(1)
    from .diff._stability import eigen

    records = [one.state for one in found]
    return SteadyStates(
        model,
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *records) if records else None,
        np.array([eigen(one).radius for one in found]),
        np.array([float(np.max(one.change)) for one in found]),
        np.array(counts, int),
        failed,
        independent_combinations(found[0].conserved, found[0].labels) if found else (),
    )


def _distance(one: Rest, other: Rest) -> float:
    if one.place.finite != other.place.finite:
        return np.inf
    return float(np.max(np.abs(one.x - other.x) / np.maximum(1, np.abs(one.x))))


@functools.partial(jax.jit, static_argnums=0)
def _from_each(search: Search, params: Any, row: Any, starts: Any) -> tuple[Any, Any]:
    return jax.vmap(lambda start: found_state(search, params, row, start)[:2])(starts)
