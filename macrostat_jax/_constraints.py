"""Adding-up constraints: parameters of which one is what the others leave."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from ._record import Record

P = TypeVar("P", bound=Record)


@dataclasses.dataclass(frozen=True)
class AddingUp:
    """The parameters `names` sum to `total`; the last one is derived from the others.

    A name is a field, or an element of a vector field: `"budget_share[2]"`.

    Its own value is replaced by `total - sum(others)`, after shocks too, so its own derivative is 0
    and the others carry -1 of what it does (Tobin's adding-up constraints on portfolio shares).
    """

    names: tuple[str, ...]
    total: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if len(self.names) < 2 or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"An adding-up constraint needs at least two different parameters, not {self.names}."
            )

    @property
    def free(self) -> tuple[str, ...]:
        return self.names[:-1]

    @property
    def derived(self) -> str:
        return self.names[-1]


def constrain(params: P, constraints: tuple[AddingUp, ...]) -> P:
    """`params` with every derived parameter computed from the free ones of its group."""
    if not constraints:
        return params
    values = {key: getattr(params, key) for key in params.fields}
    for constraint in constraints:
        apply(values, constraint)
    return params.replace(**values)


def apply(values: dict[str, Any], constraint: AddingUp) -> None:
    """Writes the derived value into `values` (field -> array; leading axes, such as time, are kept)."""
    rest: Any = constraint.total
    for name in constraint.free:
        key, element = split(name)
        rest = rest - (values[key] if element is None else values[key][..., element])
    key, element = split(constraint.derived)
    if element is None:
        values[key] = rest
        return
    array = jnp.asarray(values[key])
    values[key] = array.at[..., element].set(rest)


def split(name: str) -> tuple[str, int | None]:
    """`"share[2]"` is the element 2 of the vector `share`; `"share"` the whole field."""
    found = re.fullmatch(r"(\w+)\[(\d+)\]", name)
    return (found[1], int(found[2])) if found else (name, None)


def _overlap(one: str, other: str) -> bool:
    (key, element), (other_key, other_element) = split(one), split(other)
    return key == other_key and (element == other_element or None in (element, other_element))


def verify(model: str, params: type[Record], constraints: tuple[AddingUp, ...]) -> None:
    """Raises `ValueError` where the constraints of a declaration cannot hold."""
    derived: list[str] = []
    for constraint in constraints:
        for name in constraint.names:
            key, element = split(name)
            if key not in params.fields:
                raise ValueError(
                    f"Model {model}: a constraint names {name!r}, which is not a parameter. "
                    f"There are: {', '.join(params.fields)}."
                )
            shape = params.fields[key].shape
            if element is not None and not (len(shape) == 1 and 0 <= element < shape[0]):
                raise ValueError(f"Model {model}: a constraint names {name!r}, of shape {shape}.")
        shapes = {_shape(params, name) for name in constraint.names}
        if len(shapes) > 1:
            raise ValueError(
                f"Model {model}: the parameters {constraint.names} of a constraint have different "
                f"shapes: {sorted(shapes)}."
            )
        if any(_overlap(constraint.derived, other) for other in derived):
            raise ValueError(
                f"Model {model}: {constraint.derived!r} is derived by two constraints."
            )
        derived.append(constraint.derived)
    for constraint in constraints:
        chained = [one for one in derived if any(_overlap(one, free) for free in constraint.free)]
        if chained:
            raise ValueError(
                f"Model {model}: {sorted(chained)} is derived by one constraint and free in another."
            )
        if any(params.fields[split(name)[0]].default is None for name in constraint.free):
            continue  # resized: the values come with the run
        value = constraint.total - sum(_default(params, name) for name in constraint.free)
        low, high = params.fields[split(constraint.derived)[0]].bounds
        if not np.all((value >= low) & (value <= high)):
            raise ValueError(
                f"Model {model}: with the defaults, {constraint.derived!r} would be {value}, "
                f"outside its bounds [{low}, {high}]."
            )


def _shape(params: type[Record], name: str) -> tuple[int, ...]:
    key, element = split(name)
    return params.fields[key].shape if element is None else ()


def _default(params: type[Record], name: str) -> np.ndarray:
    key, element = split(name)
    value = np.broadcast_to(np.asarray(params.fields[key].default, float), params.fields[key].shape)
    return value if element is None else value[element]
