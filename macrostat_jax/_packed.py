"""Pytrees as parameters: the weights of a network, as one vector that the rest of the library knows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ._record import Axis, param


class Packed:
    """A pytree whose arrays of real numbers are a vector parameter: a behaviour that is learned.

        CONSUMPTION = Packed(eqx.nn.MLP(2, "scalar", 8, 1, key=jax.random.key(0)))

        class Params(Record):
            consumption: Vector = CONSUMPTION.param()

        def step(prior, params, scenario):
            network = CONSUMPTION.unpack(params.consumption)
            ...

    As a vector, weights are parameters like all others: they are batched, differentiated, fitted, saved
    and labelled. `model.params(consumption=network)` takes the pytree itself, so that one may
    differentiate by it, too.

    Args:
        tree: any pytree. Its arrays of real numbers are the weights; whole numbers, functions and other
            leaves stay what they are.

    Attributes:
        size: how many weights there are.
        labels: the name of each: `layers[0].weight[1,0]`.

    Raises:
        ValueError: there is no array of real numbers. TypeError: complex numbers.
    """

    def __init__(self, tree: Any) -> None:
        found, self._structure = jax.tree_util.tree_flatten_with_path(tree)
        self._leaves = [leaf for _, leaf in found]
        self._places = [i for i, leaf in enumerate(self._leaves) if _is_weight(leaf)]
        if not self._places:
            raise ValueError(
                f"{type(tree).__name__}: there is no array of real numbers in it. Numbers become "
                "arrays with jnp.asarray."
            )
        self._shapes = [np.shape(self._leaves[i]) for i in self._places]
        ends = np.cumsum([math.prod(shape) for shape in self._shapes])
        self.size, self._cuts = int(ends[-1]), [int(end) for end in ends[:-1]]
        self.labels = tuple(
            label
            for i, shape in zip(self._places, self._shapes, strict=True)
            for label in _labels(found[i][0], shape)
        )

    def __repr__(self) -> str:
        return f"Packed({self.size} weights in {len(self._places)} arrays)"

    def param(self, *, axis: str = "weight", **about: Any) -> Any:
        """A field of `Params` that holds the weights; the default is those of the pytree.

        Args:
            axis: the name of its dimension.
            about: symbol, unit, bounds, ref and name, as for `param`.
        """
        default = tuple(np.asarray(self.pack(self._structure.unflatten(self._leaves))).tolist())
        field = param(default, shape=Axis(axis, labels=self.labels), **about)
        return dataclasses.replace(field, packed=self)

    def pack(self, tree: Any) -> Any:
        """The weights (n,) of a pytree of the same structure; a vector is returned as it is.

        Leaves with leading axes in common, those of a batch of pytrees, give (..., n).

        Raises:
            ValueError: another structure, or other shapes: named, with both.
        """
        if self._are_weights(tree):
            return tree
        found, structure = jax.tree_util.tree_flatten_with_path(tree)
        if structure != self._structure:
            raise ValueError(
                f"This pytree is of another structure.\n  declared: {self._structure}\n  "
                f"given:    {structure}"
            )
        weights = [found[i] for i in self._places]
        lead = np.ndim(weights[0][1]) - len(self._shapes[0])
        batch = np.shape(weights[0][1])[: max(lead, 0)]
        for (path, leaf), shape in zip(weights, self._shapes, strict=True):
            if np.shape(leaf) != (*batch, *shape):
                raise ValueError(
                    f"{_name(path)} has the shape {np.shape(leaf)}, declared is {shape}"
                    + (f", after the batch axes {batch}." if batch else ".")
                )
        concrete = not any(isinstance(leaf, jax.core.Tracer) for _, leaf in weights)
        module: Any = np if concrete else jnp
        # Under strict promotion JAX has no common type of float32 and float64.
        dtype = max((jnp.asarray(leaf).dtype for _, leaf in weights), key=lambda one: one.itemsize)
        flat = [module.asarray(leaf, dtype).reshape(*batch, -1) for _, leaf in weights]
        return jnp.asarray(module.concatenate(flat, axis=-1))

    def _are_weights(self, value: Any) -> bool:
        """One number for all of them, or (..., n): packed already."""
        if isinstance(value, int | float):
            return True
        try:
            return np.shape(value)[-1:] == (self.size,)
        except (ValueError, TypeError):  # a pytree of lists, or of tracers
            return False

    def unpack(self, weights: Any) -> Any:
        """The pytree with these weights (..., n): each array of shape (..., *shape), in their dtype.

        Raises:
            ValueError: not as many weights as there are.
        """
        if np.shape(weights)[-1:] != (self.size,):
            raise ValueError(f"There are {self.size} weights, not {np.shape(weights)}.")
        lead = np.shape(weights)[:-1]
        leaves = list(self._leaves)
        parts = jnp.split(jnp.asarray(weights), self._cuts, axis=-1)
        for i, shape, part in zip(self._places, self._shapes, parts, strict=True):
            leaves[i] = part.reshape(*lead, *shape)
        return self._structure.unflatten(leaves)


def _is_weight(leaf: Any) -> bool:
    if not isinstance(leaf, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        raise TypeError("Weights are real numbers, not complex ones.")
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path).lstrip(".") or "weight"


def _labels(path: Any, shape: tuple[int, ...]) -> list[str]:
    name = _name(path)
    return [f"{name}[{','.join(map(str, at))}]" if shape else name for at in np.ndindex(*shape)]
