"""A model at rest: its steady state as a vector, with the derivatives of the step there."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from . import _compile
from ._inputs import float_dtype
from ._model import Model
from ._record import stands_for
from ._steady import SEARCHED_PERIODS, Search, _followed, constant_inputs, steady_state
from ._trajectory import canonical_state

AT_REST = 1e-3
"""By how much, relative to its size, a period may change a variable of a state that is called at rest."""


class Place(NamedTuple):
    """What a compiled derivative is specialised to: (group, field) by which to differentiate, and the
    elements of the state that are finite."""

    model: Any
    wrt: tuple[tuple[str, str], ...]
    finite: tuple[bool, ...]


@dataclasses.dataclass(frozen=True)
class Step:
    """The step at a state x (n,): what it makes of it, and its Jacobians by the state and the inputs."""

    after: np.ndarray
    by_state: np.ndarray
    by_inputs: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rest:
    """A steady state as the vector `x` of the finite elements of all variables, labelled.

    Attributes:
        conserved: (n, k), orthonormal: of these combinations of variables, the step changes nothing.
        eps: the unit round-off of the dtype.
    """

    place: Place
    params: Any
    row: Any
    state: Any
    whole: np.ndarray
    x: np.ndarray
    labels: tuple[str, ...]
    step: Step
    eps: float

    @property
    def model(self) -> Model:
        return self.place.model

    @functools.cached_property
    def conserved(self) -> np.ndarray:
        return _null(self.step.by_state - np.eye(self.x.size), self.eps)[0]

    @property
    def determined(self) -> bool:
        """Does what is conserved say where along the continuum of steady states this one lies?"""
        left, right = _null(self.step.by_state - np.eye(self.x.size), self.eps)
        return bool(np.min(np.linalg.svd(left.T @ right, compute_uv=False), initial=1.0) > 1e-6)

    @property
    def change(self) -> np.ndarray:
        """What a period changes, relative to the variable where that exceeds 1, (n,)."""
        return np.abs(self.step.after - self.x) / np.maximum(1, np.abs(self.x))

    def at(self, x: np.ndarray) -> Step:
        """The step at another state."""
        whole = self.whole.copy()
        whole[np.flatnonzero(self.place.finite)] = x
        return Step(*_called(_step, self.place, self.params, self.row, jnp.asarray(whole)))

    def slopes_of_jacobian(self, directions: np.ndarray) -> np.ndarray:
        """How the Jacobian by the state moves along each column of `directions` (n + m, p): (p, n, n)."""
        arguments = self.params, self.row, jnp.asarray(self.whole)
        columns = jnp.asarray(directions.T, self.whole.dtype)
        return _called(_slopes, self.place, *arguments, columns)[0]

    def conserved_by_inputs(self, periods: int = SEARCHED_PERIODS) -> np.ndarray:
        """How the inputs move what the step conserves, (k, m): by the closed form, else along the run."""
        arguments = self.params, self.row, jnp.asarray(self.whole)
        weights = jnp.asarray(self.conserved.T, self.whole.dtype)
        return _called(_pulled, (self.place, Search(self.model, periods)), *arguments, weights)[0]


def rest(
    model: Model,
    wrt: tuple[tuple[str, str], ...],
    params: Any,
    scenario: Any,
    state: Any,
) -> Rest:
    """The steady state, solved for or given, and the step there.

    Raises:
        TypeError: within a transformation, or a state of another model, or one that counts or flags.
        ValueError: a given state that a period changes by more than `AT_REST`. RuntimeError: no steady
            state, or a closed form that is none. As `steady_state` otherwise.
    """
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((params, scenario, state))):
        raise TypeError(
            f"{model.name}: tables are made of numbers; within jax.jit, jax.grad and the like use "
            "steady_state, which they differentiate."
        )
    params, row = constant_inputs(model, params, scenario)
    given = state is not None
    if not given:
        state = steady_state(model, params, row)
    elif not stands_for(state, model.State):
        raise TypeError(f"{model.name} expects {model.State.__qualname__}, not {type(state)}.")
    found = at_state(model, wrt, params, row, state)
    worst = int(np.argmax(found.change))
    if not found.change[worst] <= AT_REST:
        what = "the state given" if given else "the closed form of its steady state"
        error = ValueError if given else RuntimeError
        raise error(
            f"{model.name}: {what} is not at rest: a period changes {found.labels[worst]} from "
            f"{found.x[worst]:.6g} to {found.step.after[worst]:.6g}."
        )
    return found


def at_state(
    model: Model, wrt: tuple[tuple[str, str], ...], params: Any, row: Any, state: Any
) -> Rest:
    """The step at a state that need not be at rest; parameters and row as `constant_inputs` gives them."""
    dtype = float_dtype(params, row)
    leaves = [getattr(state, key) for key in model.State.fields]
    if not all(isinstance(leaf, jax.Array) and leaf.dtype == dtype for leaf in leaves):
        state = canonical_state(model, state, dtype)
    for key in model.State.fields:
        if not jnp.issubdtype(getattr(state, key).dtype, jnp.floating):
            raise TypeError(f"{model.name}: {key!r} counts or flags: it has no derivative.")
    whole = np.concatenate([np.ravel(getattr(state, key)) for key in model.State.fields])
    finite = ~np.isinf(whole)
    place = Place(model, wrt, tuple(map(bool, finite)))
    names = [name for field in model.State.fields.values() for name in slots(field)]
    labels = tuple(name for name, kept in zip(names, finite, strict=True) if kept)
    x = np.asarray(whole[finite], float)
    step = Step(*_called(_step, place, params, row, jnp.asarray(whole)))
    eps = float(jnp.finfo(whole.dtype).eps)
    return Rest(place, params, row, state, whole, x, labels, step, eps)


def slots(field: Any, label: str = "") -> list[str]:
    """The label of every element: `wealth`, or `output[S1]`, `output[S2]`, ..."""
    names = [""]
    for axis in field.axes:
        names = [f"{name},{slot}" if name else slot for name in names for slot in axis.slots]
    label = label or field.key
    return [f"{label}[{name}]" if name else label for name in names]


def _null(matrix: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal bases of the left and of the right null space, (n, k) each."""
    left, sizes, right = np.linalg.svd(matrix)
    # Against the ones on the diagonal of A - I; where units make entries large, against their rounding.
    null = sizes <= max(eps**0.75, 8 * eps * sizes[0])
    return left[:, null], right[null].T


def combination(weights: np.ndarray, labels: tuple[str, ...], most: int = 4) -> str:
    """`wealth - government_bill_stock`: a linear combination in words, scaled to its largest weight."""
    scaled = weights / weights[np.argmax(np.abs(weights))]
    order = [i for i in np.argsort(-np.abs(scaled), kind="stable") if abs(scaled[i]) > 1e-6]
    text = ""
    for i in order[:most]:
        size = abs(scaled[i])
        number = "" if abs(size - 1) < 1e-6 else f"{size:.3g} "
        text += f" {'-' if scaled[i] < 0 else '+'} {number}{labels[i]}"
    return text.removeprefix(" + ") + (" + ..." if len(order) > most else "")


def independent_combinations(basis: np.ndarray, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The combinations that span the columns of `basis`, each with as few variables as row reduction
    leaves."""
    rows = basis.T.copy()
    for i in range(len(rows)):
        j = int(np.argmax(np.abs(rows[i])))
        rows[i] /= rows[i, j]
        for other in range(len(rows)):
            if other != i:
                rows[other] -= rows[other, j] * rows[i]
    return tuple(combination(row, labels) for row in rows)


def why_not(model: Model, params: Any, row: Any, last: Any) -> str:
    """What a search that failed saw, in sentences: where it ended, what moves there, and how."""
    whole = np.asarray(ravel_pytree(last)[0])
    names = [name for field in model.State.fields.values() for name in slots(field)]
    if not np.isfinite(whole).all():
        bad = [name for name, value in zip(names, whole, strict=True) if not np.isfinite(value)]
        return (
            f"The run diverges: {', '.join(bad[:4])}{', ...' if len(bad) > 4 else ''} ended infinite or "
            "NaN. simulate shows the path; steady_states looks in other places."
        )
    found = at_state(model, (), params, row, last)
    worst = int(np.argmax(found.change))
    said = (
        f"Where Newton's method ended, a period still changes {found.labels[worst]} from "
        f"{found.x[worst]:.6g} to {found.step.after[worst]:.6g}"
    )
    if not np.isfinite(found.step.by_state).all():
        return f"{said}, and the step has no finite derivative."
    eigenvalues = np.linalg.eigvals(found.step.by_state)
    radius = float(np.max(np.abs(eigenvalues)))
    said += f", and the step's Jacobian has the spectral radius {radius:.6g}"
    moved = found.conserved.T @ (found.step.after - found.x)
    if moved.size and np.max(np.abs(moved)) > 0.1 * np.linalg.norm(found.step.after - found.x):
        return (
            f"{said} with a unit eigenvalue along which the state drifts: a trend, with no level to "
            "rest at."
        )
    kind = "it grows or diverges" if radius > 1 else "it may cycle, or jump at a kink"
    return f"{said}: {kind}. simulate shows the path; steady_states looks in other places."


def _called(function: Any, place: Any, *args: Any) -> tuple[np.ndarray, ...]:
    return tuple(np.asarray(x, float) for x in _compile.call(function, place, *args))


def _function(place: Place, params: Any, row: Any, whole: Any) -> tuple[Any, Any, Any]:
    """Traced code, on vectors of what is finite: the step (x, inputs) -> x; what makes a function of the
    records one of the inputs; and the point (x, inputs)."""
    model, given = place.model, {"params": params, "scenario": row}
    leaves = [getattr(given[group], key) for group, key in place.wrt]
    cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
    finite = np.flatnonzero(place.finite)
    like = {key: jnp.zeros(f.shape, whole.dtype) for key, f in model.State.fields.items()}
    unravel = ravel_pytree(model.State(**like))[1]

    def records(inputs: Any) -> tuple[Any, Any]:
        changed = dict(given)
        parts = jnp.split(inputs, cuts) if leaves else []
        for (group, key), part, leaf in zip(place.wrt, parts, leaves, strict=True):
            changed[group] = changed[group].replace(**{key: part.reshape(leaf.shape)})
        return model.constrain(changed["params"]), changed["scenario"]

    def after(x: Any, inputs: Any) -> Any:
        state = model.step(unravel(whole.at[finite].set(x)), *records(inputs))
        return ravel_pytree(canonical_state(model, state, whole.dtype))[0][finite]

    def of_inputs(function: Any) -> Any:
        return lambda inputs: ravel_pytree(function(*records(inputs)))[0][finite]

    flat = [jnp.ravel(leaf) for leaf in leaves] or [jnp.zeros(0, whole.dtype)]
    return after, of_inputs, (whole[finite], jnp.concatenate(flat))


@functools.partial(jax.jit, static_argnums=0)
def _step(place: Place, params: Any, row: Any, whole: Any) -> tuple[Any, Any, Any]:
    after, _, (x, inputs) = _function(place, params, row, whole)

    def twice(x: Any) -> Any:
        value = after(x, inputs)
        return value, value

    by_state, value = jax.jacfwd(twice, has_aux=True)(x)
    by_inputs = jax.jacfwd(after, 1)(x, inputs) if inputs.size else jnp.zeros((x.size, 0), x.dtype)
    return value, by_state, by_inputs


@functools.partial(jax.jit, static_argnums=0)
def _slopes(place: Place, params: Any, row: Any, whole: Any, directions: Any) -> tuple[Any]:
    after, _, point = _function(place, params, row, whole)

    def along(direction: Any) -> Any:
        tangent = jnp.split(direction, [point[0].size])
        return jax.jvp(jax.jacfwd(after), point, tuple(tangent))[1]

    return (jax.vmap(along)(directions),)


@functools.partial(jax.jit, static_argnums=0)
def _pulled(
    place_and_search: tuple[Place, Search], params: Any, row: Any, whole: Any, weights: Any
) -> tuple[Any]:
    place, search = place_and_search
    model, dtype = place.model, whole.dtype
    _, of_inputs, (_, inputs) = _function(place, params, row, whole)

    def reached(params: Any, row: Any) -> Any:
        if model.steady_state is not None:
            return canonical_state(model, model.steady_state(params, row), dtype)
        initial = canonical_state(model, model.initial_state(params, row), dtype)
        return _followed(search, params, row, initial)

    pull = jax.vjp(of_inputs(reached), inputs)[1]
    return (jax.vmap(pull)(weights)[0],)
