"""Labelled vectors: what a linear operator takes and gives, as named arrays or as one flat vector."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._model import Model
from .._record import Axis
from ._target import Input, field_of, resolve_wrt


@dataclasses.dataclass(frozen=True)
class Block:
    """One named array of a space."""

    label: str
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def slots(self) -> list[str]:
        """A name for every element: `tax_rate`, `national_income[3]`, `output[2,Farms]`."""
        names = [""]
        for axis in self.axes:
            names = [f"{name},{slot}" if name else slot for name in names for slot in axis.slots]
        return [f"{self.label}[{name}]" if name else self.label for name in names]


@dataclasses.dataclass(frozen=True)
class Space:
    """Named arrays in a fixed order, and the flat vector (n,) that they make together.

    Attributes:
        blocks: the arrays.
        dtype: of the vectors.
        model: whose inputs or variables the labels name, in either spelling; None if nobody's.
        inputs: the model's inputs that the blocks are, where they are inputs.
    """

    blocks: tuple[Block, ...]
    dtype: Any
    model: Model | None = None
    inputs: tuple[Input, ...] | None = None

    @property
    def size(self) -> int:
        return sum(block.size for block in self.blocks)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(block.label for block in self.blocks)

    def slots(self) -> list[str]:
        return [name for block in self.blocks for name in block.slots()]

    def label(self, name: str) -> str:
        """The label that `name` means.

        Raises:
            KeyError: with the list of what there is.
        """
        if name in self.labels:
            return name
        meant = None
        if self.model is not None:
            try:
                if self.inputs is None:
                    meant = self.model.State.key_of(name)
                else:
                    meant = resolve_wrt(self.model, (name,))[0].label
            except KeyError:
                pass
        if meant not in self.labels:
            raise KeyError(f"{name!r} is not in this space: {', '.join(self.labels)}.")
        return meant

    def pack(self, values: Mapping[str, Any]) -> Any:
        """Named arrays as one vector (n,); a number fills its array, what is not named is zero.

        Raises:
            KeyError: an unknown name. ValueError: a wrong shape.
        """
        given = {self.label(name): value for name, value in values.items()}
        parts = []
        for block in self.blocks:
            value = given.get(block.label, 0.0)
            if np.shape(value) not in ((), block.shape):
                raise ValueError(
                    f"{block.label!r} needs the shape {block.shape}, not {np.shape(value)}."
                )
            module: Any = jnp if isinstance(value, jax.Array) else np
            array = module.asarray(value, self.dtype)
            parts.append(module.broadcast_to(array, block.shape).reshape(-1))
        traced = any(isinstance(part, jax.Array) for part in parts)
        return jnp.concatenate(parts) if traced else np.concatenate(parts)

    def unpack(self, vector: Any) -> dict[str, Any]:
        """A vector (..., n) as named arrays (..., *shape)."""
        found, at = {}, 0
        for block in self.blocks:
            part = vector[..., at : at + block.size]
            found[block.label] = part.reshape((*vector.shape[:-1], *block.shape))
            at += block.size
        return found

    def flat(self, values: Any) -> Any:
        """A vector (n,) from named arrays or from a flat vector."""
        if isinstance(values, Mapping):
            return self.pack(values)
        if np.shape(values) != (self.size,):
            raise ValueError(
                f"A flat vector of this space has the shape ({self.size},), not {np.shape(values)}: "
                f"it holds {', '.join(self.labels)} one after the other."
            )
        return values if isinstance(values, jax.Array) else np.asarray(values, self.dtype)

    def relabelled(self, names: Mapping[str, str]) -> Space:
        new = {self.label(old): name for old, name in names.items()}
        blocks = tuple(dataclasses.replace(b, label=new.get(b.label, b.label)) for b in self.blocks)
        if len({block.label for block in blocks}) < len(blocks):
            raise ValueError(f"Two arrays of one space have one name: {[b.label for b in blocks]}.")
        return Space(blocks, self.dtype)

    def same_as(self, other: Space) -> bool:
        ours = [(b.label, b.shape) for b in self.blocks]
        return ours == [(b.label, b.shape) for b in other.blocks]

    def __str__(self) -> str:
        shown = [f"{b.label}{list(b.shape) if b.shape else ''}" for b in self.blocks[:6]]
        more = len(self.blocks) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")


def input_space(model: Model, wrt: tuple[Input, ...], leaves: Mapping[str, Any]) -> Space:
    """The space of a model's inputs; `leaves` are their values by label."""
    blocks = []
    for one in wrt:
        axes = field_of(model, one).axes
        shape = np.shape(leaves[one.label])
        if len(shape) > len(axes):
            axes = (Axis("time", size=shape[0]), *axes)
        blocks.append(Block(one.label, axes))
    dtype = leaves[wrt[0].label].dtype
    return Space(tuple(blocks), dtype, model, wrt)


def output_space(model: Model, shapes: Mapping[str, Any]) -> Space:
    """The space of labelled outputs; those that are variables have time and the variable's axes."""
    blocks = []
    for label, leaf in shapes.items():
        field = model.State.fields.get(label)
        if field is not None and leaf.shape[1:] == field.shape:
            axes = (Axis("time", size=leaf.shape[0]), *field.axes)
        else:
            axes = tuple(Axis(f"{label}_{i}", size=size) for i, size in enumerate(leaf.shape))
        blocks.append(Block(label, axes))
    dtype = next(iter(shapes.values())).dtype
    return Space(tuple(blocks), dtype, model)
