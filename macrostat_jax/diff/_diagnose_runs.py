"""The programs that a diagnosis runs: values, products with derivatives, and watched runs."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import _compile
from .._inputs import Inputs
from .._trajectory import trajectory
from . import _trace
from ._derivatives import _label
from ._finite import pad_to
from ._target import Target

MOST_ROWS = 256
HOOKS = {"switches": _trace.switches, "hazards": _trace.hazards, "rules": _trace.rules}


@dataclasses.dataclass(frozen=True)
class Case:
    """A model at a point: functions of the vector of all inputs that are looked at.

    Attributes:
        x: the point (n,), float64.
        outputs: the labels of the V outputs.
        sequential: runs are made one by one.
    """

    target: Target
    inputs: Inputs
    x: np.ndarray
    outputs: tuple[str, ...]
    sequential: bool = False

    @classmethod
    def of(cls, target: Target, inputs: Inputs) -> Case:
        leaves = [np.asarray(leaf, np.float64) for leaf in target.split(inputs).values()]
        x = np.concatenate([leaf.reshape(-1) for leaf in leaves])
        shapes = jax.eval_shape(lambda v: _labelled(target, inputs, v), x)
        names = []
        for label, leaf in shapes.items():
            for index in np.ndindex(leaf.shape):
                at = ",".join(map(str, index))
                names.append(f"{label}[{at}]" if at else label)
        if not names:
            raise TypeError("The function of the path returned no real number.")
        return cls(target, inputs, x, tuple(names))

    def values(self, points: np.ndarray) -> np.ndarray:
        """The outputs (R, V) at the rows of `points` (R, n), in batches of one size."""
        size = min(MOST_ROWS, pad_to(len(points)))
        parts = []
        for at in range(0, len(points), size):
            part = points[at : at + size]
            filled = np.concatenate([part, np.tile(self.x, (size - len(part), 1))])
            found = _compile.call(_values, (self.target, self.sequential), self.inputs, filled)
            parts.append(np.asarray(found)[: len(part)])
        return np.concatenate(parts)

    def single(self) -> np.ndarray:
        """The outputs (V,) of one run by itself."""
        return np.asarray(_compile.call(_single, self.target, self.inputs, self.x)[1])

    def path(self) -> Any:
        """The path of states of that run."""
        return _compile.call(_single, self.target, self.inputs, self.x)[0]

    def forward(self, directions: np.ndarray) -> np.ndarray:
        """Derivatives (M, V) along directions (M, n), in forward mode."""
        return np.asarray(_compile.call(_forward, self.target, self.inputs, self.x, directions))

    def reverse(self, weights: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
        """Gradients (K, n) of weighted sums (K, V) of the outputs, in reverse mode."""
        at = self.x if x is None else x
        return np.asarray(_compile.call(_reverse, self.target, self.inputs, at, weights))

    def curvature(self, weights: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The derivative (n,) along a direction of the gradient of a weighted sum (V,) of the outputs."""
        return np.asarray(
            _compile.call(_curvature, self.target, self.inputs, self.x, weights, direction)
        )

    def without(self, labels: set[str]) -> tuple[Case, np.ndarray]:
        """The same of fewer inputs, and which elements of `x` are left."""
        kept = tuple(one for one in self.target.wrt if one.label not in labels)
        left = np.concatenate(
            [np.full(leaf.size, name not in labels) for name, leaf in self.leaves().items()]
        )
        target = self.target._replace(wrt=kept)
        return dataclasses.replace(self, target=target, x=self.x[left]), left

    def leaves(self) -> dict[str, np.ndarray]:
        return {k: np.asarray(leaf) for k, leaf in self.target.split(self.inputs).items()}

    def program(self) -> Any:
        """The trace of everything from the inputs to the outputs; made anew every time."""
        x = self.target.split(self.inputs)

        def run(*leaves: Any) -> Any:
            return _labelled_from(self.target, self.inputs, dict(zip(x, leaves, strict=True)))

        # Abstract, so that no input is a constant of the trace.
        return jax.make_jaxpr(run)(*x.values())

    def by_dual_numbers(self, program: Any, direction: np.ndarray) -> np.ndarray:
        """The derivative (V,) along a direction (n,) of a `program`, carried out by NumPy."""
        from ..engines import Dual, Number

        given, at = [], 0
        for leaf in self.leaves().values():
            part = direction[at : at + leaf.size].reshape(leaf.shape)
            given.append(Number(leaf.astype(np.float64), part))
            at += leaf.size
        found = Dual().run(program, *given)
        slopes = [np.zeros(x.shape) if x.dot is None else np.asarray(x.dot) for x in found]
        return np.concatenate([np.ravel(slope) for slope in slopes])

    def watch(self, hook: str, points: np.ndarray) -> Watched:
        """Runs with a note of every operation of interest, at the rows of `points`."""
        size = pad_to(len(points))
        filled = np.concatenate([points, np.tile(self.x, (size - len(points), 1))])
        key = (self.target, hook, self.sequential)
        paths, inside, outside = _compile.call(_watched, key, self.inputs, filled)
        watch = _watches[key]
        rows = slice(len(points))
        return Watched(
            {name: np.asarray(path)[rows] for name, path in paths.items()},
            [np.asarray(note)[rows] for note in inside],
            [np.asarray(note)[rows] for note in outside],
            watch,
        )


@dataclasses.dataclass(frozen=True)
class Watched:
    """Attributes:
    paths: variable -> (R, T, *shape).
    inside: the notes of operations in periods, each (R, T).
    outside: of operations before and after, each (R,).
    """

    paths: dict[str, np.ndarray]
    inside: list[np.ndarray]
    outside: list[np.ndarray]
    watch: _trace.Watch

    def sites(self, inside: bool) -> list[tuple[int, _trace.Site]]:
        """The operations that `inside`, or `outside`, are the notes of."""
        found = enumerate(self.watch.sites)
        return [(at, site) for at, site in found if (site.phase == "period") == inside]


_watches: dict[Any, _trace.Watch] = {}
"""What was found while tracing, which a compiled program does not give again."""


def _unpacked(target: Target, inputs: Inputs, vector: Any) -> dict[str, Any]:
    x, at = {}, 0
    for label, leaf in target.split(inputs).items():
        size = int(np.prod(np.shape(leaf)))
        x[label] = vector[at : at + size].reshape(np.shape(leaf))
        at += size
    return x


def _labelled(target: Target, inputs: Inputs, vector: Any) -> dict[str, Any]:
    return _labelled_from(target, inputs, _unpacked(target, inputs, vector))


def _labelled_from(target: Target, inputs: Inputs, x: dict[str, Any]) -> dict[str, Any]:
    return _real(target.outputs(inputs, x))


def _real(outputs: Any) -> dict[str, Any]:
    """The outputs that are real numbers, by label."""
    leaves = jax.tree_util.tree_flatten_with_path(outputs)[0]
    return {
        _label(path): leaf
        for path, leaf in leaves
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    }


def _joined(outputs: Any) -> Any:
    # A narrower output is what the model makes of it; the comparisons are in float64.
    leaves = _real(outputs).values()
    return jnp.concatenate([jnp.ravel(jnp.asarray(leaf, jnp.float64)) for leaf in leaves])


def _flat(target: Target, inputs: Inputs, vector: Any) -> Any:
    return _joined(target.outputs(inputs, _unpacked(target, inputs, vector)))


def _over_rows(function: Any, sequential: bool) -> Any:
    """One row after the other where the host is called, which not every call can be for many at once."""
    return functools.partial(jax.lax.map, function) if sequential else jax.vmap(function)


@functools.partial(jax.jit, static_argnums=0)
def _values(key: tuple[Target, bool], inputs: Inputs, points: Any) -> Any:
    target, sequential = key
    return _over_rows(functools.partial(_flat, target, inputs), sequential)(points)


@functools.partial(jax.jit, static_argnums=0)
def _single(target: Target, inputs: Inputs, x: Any) -> Any:
    path = trajectory(target.plan, target.moved(inputs, _unpacked(target, inputs, x)))
    return path, _joined(target.read(path))


@functools.partial(jax.jit, static_argnums=0)
def _forward(target: Target, inputs: Inputs, x: Any, directions: Any) -> Any:
    function = functools.partial(_flat, target, inputs)
    return jax.vmap(lambda d: jax.jvp(function, (x,), (d,))[1])(directions)


@functools.partial(jax.jit, static_argnums=0)
def _reverse(target: Target, inputs: Inputs, x: Any, weights: Any) -> Any:
    _, pull = jax.vjp(functools.partial(_flat, target, inputs), x)
    return jax.vmap(lambda w: pull(w)[0])(weights)


@functools.partial(jax.jit, static_argnums=0)
def _curvature(target: Target, inputs: Inputs, x: Any, weights: Any, direction: Any) -> Any:
    def total(x: Any) -> Any:
        values = _flat(target, inputs, x)
        return jnp.sum(jnp.where(weights == 0, 0, values) * weights)

    return jax.jvp(jax.grad(total), (x,), (direction,))[1]


@functools.partial(jax.jit, static_argnums=0)
def _watched(key: tuple[Target, str, bool], inputs: Inputs, points: Any) -> Any:
    target, hook, _ = key
    names = tuple(target.plan.model.State.fields)

    def run(x: dict[str, Any]) -> Any:
        path = trajectory(target.plan, target.moved(inputs, x))
        # The loss too: it may have switches of its own.
        return {name: getattr(path, name) for name in names}, target.read(path)

    def one(vector: Any) -> Any:
        x = _unpacked(target, inputs, vector)
        program, shapes = jax.make_jaxpr(run, return_shape=True)(x)
        watch = _trace.Watch(HOOKS[hook], target.plan.periods, names)
        results = watch.run(program, jax.tree.leaves(x))
        paths, _ = jax.tree.unflatten(jax.tree.structure(shapes), results)
        _watches[key] = watch
        notes = list(zip(watch.sites, watch.notes, strict=True))
        inside = [note for site, note in notes if site.phase == "period"]
        return paths, inside, [note for site, note in notes if site.phase != "period"]

    return _over_rows(one, key[2])(points)


def cast_floats(tree: Any, dtype: Any) -> Any:
    """The same with floats of `dtype`; for float32 as arrays of JAX, which decide the dtype of a run."""

    def cast(leaf: Any) -> Any:
        if isinstance(leaf, str):  # a scenario's name
            return leaf
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(
                "A diagnosis needs numbers: call it outside of jit and other transforms."
            )
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        return jnp.asarray(leaf, dtype) if dtype == np.float32 else np.asarray(leaf, dtype)

    return jax.tree.map(cast, tree)


def distance_text(exact: Any, other: Any, text: str) -> str:
    return text.format(*largest_distance(exact, other))


def largest_distance(exact: Any, other: Any) -> tuple[float, str, int]:
    """The largest distance of two paths as a share of the variable's size: (share, variable, period)."""
    floats = {
        key: (np.asarray(getattr(exact, key), float), np.asarray(getattr(other, key), float))
        for key in exact.fields
        if jnp.issubdtype(getattr(exact, key).dtype, jnp.floating)
    }
    sizes = {
        k: np.max(np.abs(a), where=np.isfinite(a), initial=0.0) for k, (a, _) in floats.items()
    }
    # What is the small difference of large variables has their rounding.
    least = 1e-3 * max(sizes.values(), default=1.0)
    worst = (0.0, "", 0)
    for key, (a, b) in floats.items():
        with np.errstate(invalid="ignore"):
            gap = np.where(a == b, 0.0, np.abs(a - b)) / max(sizes[key], least, 1e-300)
        gap = np.where(np.isfinite(gap), gap, np.inf).reshape(gap.shape[0], -1).max(axis=1)
        if gap.max(initial=0.0) > worst[0]:
            worst = (float(gap.max()), key, int(np.argmax(gap)))
    return worst
