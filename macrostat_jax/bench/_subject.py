"""What all backends of this project compute: one point, one direction, one weighting, three functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from .. import models
from .._inputs import Inputs, prepare
from .._trajectory import trajectory
from ..causality import _open
from ..engines._evaluate import CALLS
from ._cases import CHECKED_RUNS, LARGEST, Case, runs
from ._protocol import Refused


class Subject:
    """A model at a size, as functions of one vector of all its parameters.

    Args:
        case: the size. A random model is given the noise that JAX draws from its seed, the same on
            every backend; one that draws within its step is given the key, which only JAX can use.

    Attributes:
        x: the parameters as a vector (P,), in the declared order.
        unravel: from such a vector to the record of the parameters.
        rest: everything else that a run depends on.
        keys: the variables that are real numbers: the outputs.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        model = models.get(case.model).resize(**dict(case.sizes))
        options: dict[str, Any] = {"periods": case.periods}
        if model.random or model.random_start:
            key = jax.random.key(case.seed)
            if model.Noise is None:
                options["key"] = key
            else:
                dtype = jax.dtypes.canonicalize_dtype(float)
                options["noise"] = model.noise(key, periods=case.periods, dtype=dtype)
        self.model = model
        self.draws = "key" in options
        given, self.plan = prepare(model, **options)
        vector, self.unravel = ravel_pytree(given.params)
        self.x = np.asarray(vector)
        self.rest = given._replace(params=None)
        self.keys: tuple[str, ...] = tuple(k for k in model.real if k not in case.without)
        shapes = jax.eval_shape(self.path, self.x, self.rest)
        self.shapes = [one.shape for one in shapes]
        self.outputs = sum(math.prod(shape) for shape in self.shapes)
        self.check_size()

    def check_size(self) -> None:
        """Refuses what would fill the memory."""
        many = self.x.size if self.case.scenario.startswith("jacobian") else self.case.batch
        size = self.outputs * many * self.x.dtype.itemsize
        if size > LARGEST:
            raise Refused(f"the result alone is {size / 1e9:.1f} GB, the most is 1.1 GB")

    # Functions, as traced code --------------------------------------------------------------------

    def path(self, x: Any, rest: Inputs) -> tuple[Any, ...]:
        """The real variables' paths, each (T, *shape)."""
        path = trajectory(self.plan, rest._replace(params=self.unravel(x)))
        return tuple(getattr(path, key) for key in self.keys)

    def loss(self, x: Any, rest: Inputs) -> Any:
        """The sum of the squares of all variables in all periods, in thousands; undefined ones are 0."""
        return sum((_defined(y) ** 2).sum() for y in self.path(x, rest)) / 1e3

    def weighted(self, x: Any, rest: Inputs, weights: Any) -> Any:
        """The sum over the path that `vjp` differentiates."""
        return sum((w * y).sum() for w, y in zip(weights, self.path(x, rest), strict=True))

    def sweep(self, points: Any, rest: Inputs) -> tuple[Any, ...]:
        """The paths of a batch, each (T, B, *shape)."""
        return jax.vmap(lambda x: self.path(x, rest), out_axes=1)(points)

    # Where, and in which directions ----------------------------------------------------------------

    @property
    def direction(self) -> np.ndarray:
        """(P,): every parameter by some share of itself, zeros by a share of one."""
        size = np.where(self.x == 0, 1, np.abs(self.x))
        return (np.cos(np.arange(self.x.size)) * size).astype(self.x.dtype)

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """Shaped as the path."""
        dtype = self.x.dtype
        return tuple(np.cos(np.arange(math.prod(s))).reshape(s).astype(dtype) for s in self.shapes)

    @property
    def points(self) -> np.ndarray:
        """(B, P): the parameters of a sweep, within a thousandth of the model's own."""
        spread = 1 + 1e-3 * np.linspace(-1, 1, self.case.batch)
        return (spread[:, None] * self.x).astype(self.x.dtype)

    # What a call computes ---------------------------------------------------------------------------

    def function(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """The case's scenario as a function for JAX, and its arguments."""
        x, rest = self.x, self.rest
        table: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            "simulate": (self.path, (x, rest)),
            "gradient": (jax.grad(self.loss), (x, rest)),
            "jvp": (self._jvp, (x, self.direction, rest)),
            "vjp": (self._vjp, (x, self.weights, rest)),
            "jacobian-forward": (jax.jacfwd(self.path), (x, rest)),
            "jacobian-reverse": (jax.jacrev(self.path), (x, rest)),
            "hvp": (self._hvp, (x, self.direction, rest)),
            "sweep": (self.sweep, (self.points, rest)),
        }
        return table[self.case.scenario]

    def _jvp(self, x: Any, direction: Any, rest: Inputs) -> Any:
        return jax.jvp(lambda x: self.path(x, rest), (x,), (direction,))[1]

    def _vjp(self, x: Any, weights: Any, rest: Inputs) -> Any:
        return jax.vjp(lambda x: self.path(x, rest), x)[1](weights)[0]

    def _hvp(self, x: Any, direction: Any, rest: Inputs) -> Any:
        return jax.jvp(jax.grad(lambda x: self.loss(x, rest)), (x,), (direction,))[1]

    def reference(self) -> Any:
        """What the others are compared with: forward mode alone, one simulation at a time."""
        x, rest = self.x, self.rest
        name = self.case.scenario
        if name == "gradient":
            return jax.jit(jax.jacfwd(self.loss))(x, rest)
        if name == "vjp":
            return jax.jit(jax.jacfwd(self.weighted))(x, rest, self.weights)
        if name == "jacobian-reverse":
            return jax.jit(jax.jacfwd(self.path))(x, rest)
        if name == "hvp":
            slope = jax.jacfwd(self.loss)
            return jax.jit(lambda x, v, rest: jax.jvp(lambda x: slope(x, rest), (x,), (v,))[1])(
                x, self.direction, rest
            )
        if name == "sweep":
            one = jax.jit(self.path)
            each = [one(point, rest) for point in self.points[:CHECKED_RUNS]]
            return [np.stack(column, axis=1) for column in zip(*each, strict=True)]
        function, arguments = self.function()
        return jax.jit(function)(*arguments)

    def named(self, result: Any) -> dict[str, np.ndarray]:
        """A result as arrays by name, as backends compare them: of a sweep, the first runs."""
        if self.case.scenario in ("gradient", "vjp", "hvp"):
            return {"parameters": np.asarray(result)}
        found = dict(zip(self.keys, map(np.asarray, result), strict=True))
        if self.case.scenario == "sweep":
            return {key: value[:, :CHECKED_RUNS] for key, value in found.items()}
        return found

    def facts(self, way: str = "its own") -> dict[str, Any]:
        """What is known of a case by definition."""
        return {
            "parameters": int(self.x.size),
            "outputs": int(self.outputs),
            "runs": runs(self.case.scenario, self.x.size, self.outputs, self.case.batch, way),
            "dtype": str(self.x.dtype),
        }


def _defined(y: Any) -> Any:
    return jnp.where(jnp.isfinite(y), y, jnp.zeros_like(y))


class Count:
    """What a traced program does: arithmetic operations, and passes over the horizon."""

    def __init__(self, program: Any, periods: int) -> None:
        self.operations = 0
        self.passes = 0
        self.bounded = True
        self._periods = periods
        self._count(_open(program), 1)

    def _count(self, jaxpr: Any, times: int) -> None:
        for equation in jaxpr.eqns:
            name, params = equation.primitive.name, equation.params
            if name == "scan":
                self.passes += times * (params["length"] == self._periods)
                self._count(_open(params["jaxpr"]), times * params["length"])
            elif name == "while":
                self.bounded = False  # how often is not known before it runs: once is counted
                self._count(_open(params["body_jaxpr"]), times)
            elif name == "cond":
                self._count(_open(params["branches"][-1]), times)
            elif name in CALLS:
                self._count(_open(params[CALLS[name]]), times)
            else:
                self.operations += times * _operations(equation)


MOVES = """
    reshape squeeze expand_dims broadcast_in_dim transpose concatenate slice rev dynamic_slice
    dynamic_update_slice iota pad gather copy copy_p convert_element_type stop_gradient split tile
    stack bitcast_convert_type device_put optimization_barrier
"""
"""Primitives without arithmetic."""


def _operations(equation: Any) -> int:
    name = equation.primitive.name
    if name in MOVES.split():
        return 0
    size = sum(math.prod(v.aval.shape) for v in equation.outvars if hasattr(v.aval, "shape"))
    if name == "dot_general":
        (over, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * size * math.prod(shape[axis] for axis in over)
    if name.startswith(("reduce_", "scatter", "cum", "arg")):
        return max(math.prod(v.aval.shape) for v in equation.invars if hasattr(v.aval, "shape"))
    return size
