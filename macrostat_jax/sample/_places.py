"""What names mean: fields of a model's parameters, their elements, and what constraints derive."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from .. import _constraints
from .._model import Model
from .._record import Field

T = TypeVar("T")


def place(model: Model, name: str, whole: bool = False) -> tuple[str, tuple[int, ...] | None]:
    """`"share[2]"` is the element (2,) of `share`; `"tax_rate"` is a field, with None."""
    match = re.fullmatch(r"([^\[]+)\[(\s*\d+\s*(?:,\s*\d+\s*)*)\]", name)
    key = model.Params.key_of(match[1] if match else name)
    field = model.Params.fields[key]
    element = tuple(int(part) for part in match[2].split(",")) if match else None
    if element is None:
        if field.shape and not whole:
            raise ValueError(
                f"{name!r} has the shape {field.shape}: name its elements, as in "
                f"{elements(key, field)[0]!r}."
            )
    elif len(element) != len(field.shape) or any(
        i >= size for i, size in zip(element, field.shape, strict=True)
    ):
        raise KeyError(
            f"{model.name}: {name!r} does not exist; {key!r} has the shape {field.shape}."
        )
    label = key if element is None else labelled(key, element)
    if derived(model) & {key, label}:
        raise ValueError(
            f"{model.name}: {label!r} is derived by an adding-up constraint; sample the others."
        )
    return key, element


def expanded(model: Model, name: str) -> list[str]:
    """The canonical names of what `name` means: one parameter, or all elements of a field."""
    key, element = place(model, name, whole=True)
    return elements(key, model.Params.fields[key]) if element is None else [labelled(key, element)]


def each(model: Model, given: Mapping[str, T]) -> dict[str, T]:
    """Canonical name -> what is given for it, elements of a whole field one by one.

    Raises:
        KeyError: an unknown name. ValueError: names that mean the same parameter.
    """
    found: dict[str, T] = {}
    meant: dict[str, str] = {}
    for name, value in given.items():
        for one in expanded(model, name):
            if one in meant:
                raise ValueError(f"{model.name}: {meant[one]!r} and {name!r} both mean {one!r}.")
            meant[one] = name
            found[one] = value
    return found


def distinct(model: Model, names: Iterable[str]) -> list[tuple[str, tuple[int, ...] | None]]:
    """The places that names mean, each of another one; errors as for `place` and `each`."""
    names = list(names)
    each(model, dict.fromkeys(names))
    return [place(model, name) for name in names]


def labelled(key: str, element: tuple[int, ...]) -> str:
    return f"{key}[{','.join(map(str, element))}]"


def elements(key: str, field: Field) -> list[str]:
    if not field.shape:
        return [key]
    return [labelled(key, element) for element in np.ndindex(*field.shape)]


def derived(model: Model) -> set[str]:
    return {constraint.derived for constraint in model.constraints}


def repeated(value: Any, n: int, field: Field) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, np.float64), (n, *field.shape)).copy()


def check_derived(model: Model, params: Any) -> None:
    for constraint in model.constraints:
        key, element = _constraints.split(constraint.derived)
        field = model.Params.fields[key]
        values = np.asarray(getattr(params, key))
        if values.ndim == len(field.shape):
            continue
        values = values if element is None else values[..., element]
        low, high = field.bounds
        outside = ~((values >= low - 1e-9) & (values <= high + 1e-9))
        if outside.any():
            runs = np.flatnonzero(outside.reshape(len(values), -1).any(axis=1))
            raise ValueError(
                f"{model.name}: {len(runs)} of {len(values)} points (the first is {runs[0]}) drive "
                f"{constraint.derived!r}, which is what {', '.join(constraint.free)} leave of "
                f"{constraint.total:g}, out of its bounds ({low:g}, {high:g}): sample narrower ranges."
            )
