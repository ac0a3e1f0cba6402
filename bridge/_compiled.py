"""A JAX function of arrays with its transforms, each compiled once.

JAX only. What is differentiated or batched is always the flat form: arrays in, a pytree of arrays
out.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from macrostat_jax import _compile
from macrostat_jax._compile import disk_cache

Indices = tuple[int, ...]


class Compiled:
    """`function(*arrays) -> pytree of arrays`, compiled, and its derived functions likewise.

    The derived functions are kept in the function they come from, each under what it depends on
    besides shapes and dtypes (which `jax.jit` tells apart). So each is traced and compiled once,
    and all go when the root goes.

    A derived function calls the compiled form of its parent. JAX then reuses the parent's traced
    program, and the user's function is traced once for all transforms; `inline` dissolves the
    parent in the derived program.
    """

    def __init__(self, function: Callable[..., Any], name: str):
        def owning(*arrays: jax.Array) -> Any:
            # An input or a constant handed through would be returned as the very buffer it came in,
            # and a user who writes into the result would write into that. The copy costs nothing
            # where there is none to make.
            return jax.tree.map(jnp.copy, function(*arrays))

        owning.__name__ = owning.__qualname__ = name
        self._name = name
        # Unused arrays are kept because they say on which device to compute.
        self._compiled = jax.jit(owning, inline=True, keep_unused=True)
        self._known: set[Any] = set()
        self._derived: dict[tuple[Any, ...], Compiled] = {}
        self._lock = threading.Lock()

    def __call__(self, *arrays: jax.Array) -> Any:
        signature = (
            _compile.generation,
            *((array.shape, array.dtype) for array in arrays),
        )
        if signature in self._known:
            return self._compiled(*arrays)
        with disk_cache():
            result = self._compiled(*arrays)
        self._known.add(signature)
        return result

    def _once(self, key: tuple[Any, ...], make: Callable[[], Callable[..., Any]]) -> "Compiled":
        with self._lock:
            if key not in self._derived:
                self._derived[key] = Compiled(make(), f"{key[0]}_{self._name}")
            return self._derived[key]

    def _outputs(self, arrays: Sequence[jax.Array], wanted: Indices) -> list[jax.Array]:
        leaves = jax.tree.leaves(self._compiled(*arrays))
        return [leaves[i] for i in wanted]

    def jvp(self, inputs: Indices, outputs: Indices) -> "Compiled":
        """Return `(*arrays, *tangents of inputs) -> [tangent of each of outputs]`."""

        def make():
            def tangents_out(*arrays: jax.Array) -> list[jax.Array]:
                count = len(arrays) - len(inputs)
                fixed, tangents = arrays[:count], arrays[count:]
                chosen = [fixed[i] for i in inputs]
                tangents = [t.astype(x.dtype) for t, x in zip(tangents, chosen, strict=True)]
                return jax.jvp(
                    lambda *x: self._outputs(_put(fixed, inputs, x), outputs), chosen, tangents
                )[1]

            return tangents_out

        return self._once(("jvp", inputs, outputs), make)

    def vjp(self, inputs: Indices, outputs: Indices) -> "Compiled":
        """Return `(*arrays, *cotangents of outputs) -> [cotangent of each of inputs]`.

        It computes the function again, inside the one program that computes its derivative. Keeping
        residuals instead would save that, at the price of two programs per derivative, of memory
        held by the torch graph in the number and shapes JAX chooses, and of higher derivatives that
        would have to go through them.

        Cotangents of complex numbers are torch's, which are the conjugates of JAX's.
        """

        def make():
            def cotangents_in(*arrays: jax.Array) -> tuple[jax.Array, ...]:
                count = len(arrays) - len(outputs)
                fixed, cotangents = arrays[:count], arrays[count:]
                chosen = [fixed[i] for i in inputs]
                primals, pullback = jax.vjp(
                    lambda *x: self._outputs(_put(fixed, inputs, x), outputs), *chosen
                )
                cotangents = [
                    jnp.conj(c.astype(y.dtype)) for c, y in zip(cotangents, primals, strict=True)
                ]
                return tuple(jnp.conj(c) for c in pullback(cotangents))

            return cotangents_in

        return self._once(("vjp", inputs, outputs), make)

    def vmap(self, in_axes: tuple[int | None, ...]) -> "Compiled":
        """Return the function over a batch: an axis per array, `None` for those not batched.

        Results are batched along axis 0.
        """
        return self._once(("vmap", in_axes), lambda: jax.vmap(self._compiled, in_axes=in_axes))


def _put(
    arrays: Sequence[jax.Array], places: Indices, values: Sequence[jax.Array]
) -> list[jax.Array]:
    """Return `arrays` as a list, with `values` at `places`."""
    result = list(arrays)
    for place, value in zip(places, values, strict=True):
        result[place] = value
    return result
