"""Adding-up constraints: parameters of which one is what the others leave."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np

from ._record import Record

P = TypeVar("P", bound=Record)


@dataclasses.dataclass(frozen=True)
class AddingUp:
    """The parameters `names` sum to `total`; the last one is derived from the others.

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
    changes = {}
    for constraint in constraints:
        rest = constraint.total
        for name in constraint.free:
            rest = rest - getattr(params, name)
        changes[constraint.derived] = rest
    return params.replace(**changes) if changes else params


def verify(model: str, params: type[Record], constraints: tuple[AddingUp, ...]) -> None:
    """Raises `ValueError` where the constraints of a declaration cannot hold."""
    derived: set[str] = set()
    for constraint in constraints:
        for name in constraint.names:
            if name not in params.fields:
                raise ValueError(
                    f"Model {model}: a constraint names {name!r}, which is not a parameter. "
                    f"There are: {', '.join(params.fields)}."
                )
        shapes = {params.fields[name].shape for name in constraint.names}
        if len(shapes) > 1:
            raise ValueError(
                f"Model {model}: the parameters {constraint.names} of a constraint have different "
                f"shapes: {sorted(shapes)}."
            )
        if constraint.derived in derived:
            raise ValueError(f"Model {model}: {constraint.derived!r} is derived by two constraints.")
        derived.add(constraint.derived)
    for constraint in constraints:
        if chained := derived.intersection(constraint.free):
            raise ValueError(
                f"Model {model}: {sorted(chained)} is derived by one constraint and free in another."
            )
        field = params.fields[constraint.derived]
        others = (np.asarray(params.fields[name].default, float) for name in constraint.free)
        value = constraint.total - sum(others)
        low, high = field.bounds
        if not np.all((value >= low) & (value <= high)):
            raise ValueError(
                f"Model {model}: with the defaults, {constraint.derived!r} would be {value}, "
                f"outside its bounds [{low}, {high}]."
            )
