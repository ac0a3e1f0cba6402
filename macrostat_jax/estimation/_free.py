"""Which numbers are free: their places among a model's inputs, their bounds, and which add up."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._constraints import AddingUp
from .._model import Model
from .._record import Field
from ._bijections import Bijection, Group

INITIAL = "initial."


class Place(NamedTuple):
    """One number among the inputs of a run: `tax_rate`, `share[2]`, `initial.wealth`."""

    group: str
    key: str
    element: tuple[int, ...]

    @property
    def label(self) -> str:
        name = self.key if self.group == "params" else f"{self.group}.{self.key}"
        return f"{name}[{','.join(map(str, self.element))}]" if self.element else name


class Tie(NamedTuple):
    """Numbers that add up to `total`; the last of them is what the others leave."""

    members: tuple[Place, ...]
    total: float

    @property
    def rest(self) -> Place:
        return self.members[-1]


def places(model: Model, name: str) -> list[Place]:
    """What a name means: one number, or all elements of a field.

    Raises:
        KeyError: nothing of the model; with what there is.
    """
    match = re.fullmatch(r"([^\[]+)\[([\d,\s]+)\]", name)
    base = match[1] if match else name
    group = "initial" if base.startswith(INITIAL) else "params"
    record = model.State if group == "initial" else model.Params
    key = record.key_of(base.removeprefix(INITIAL))
    shape = record.fields[key].shape
    if match is None:
        return [Place(group, key, element) for element in np.ndindex(*shape)]
    element = tuple(int(part) for part in match[2].split(","))
    if len(element) != len(shape) or any(i >= n for i, n in zip(element, shape, strict=True)):
        raise KeyError(f"{model.name}: {name!r} does not exist; {key!r} has the shape {shape}.")
    return [Place(group, key, element)]


def place(model: Model, name: str) -> Place:
    """The one number that a name means."""
    found = places(model, name)
    if len(found) > 1:
        raise ValueError(f"{name!r} has several elements: name one, as in {found[0].label!r}.")
    return found[0]


def field_of(model: Model, one: Place) -> Field:
    return (model.State if one.group == "initial" else model.Params).fields[one.key]


def free_numbers(model: Model, free: Any) -> dict[Place, tuple[float, float]]:
    """The free numbers with their bounds.

    Raises:
        KeyError: an unknown name. ValueError: bounds in the wrong order, or beyond the model's; a number
            that is named twice.
    """
    given: Mapping[str, Any]
    if isinstance(free, str):
        free = (free,)
    given = free if isinstance(free, Mapping) else dict.fromkeys(free)
    if not given:
        raise ValueError(f"No parameter of {model.name} is free: name some in free=.")
    found: dict[Place, tuple[float, float]] = {}
    for name, bounds in given.items():
        for one in places(model, name):
            if one in found:
                raise ValueError(f"free names {one.label!r} twice.")
            found[one] = _bounds(model, one, bounds)
    return found


def _bounds(model: Model, one: Place, given: Any) -> tuple[float, float]:
    field = field_of(model, one)
    least, most = field.extremes if one.group == "params" else (-np.inf, np.inf)
    if given is None:
        return least, most
    try:
        low, high = (float(end) for end in given)
    except (TypeError, ValueError):
        raise ValueError(
            f"free takes name: (low, high), or None for the model's bounds; not {one.label!r}: {given!r}."
        ) from None
    if not low < high:
        raise ValueError(f"The bounds of {one.label!r} need low < high, not ({low:g}, {high:g}).")
    if low < field.bounds[0] or high > field.bounds[1]:
        raise ValueError(
            f"The bounds ({low:g}, {high:g}) of {one.label!r} reach beyond those of {model.name}, "
            f"{field.interval}."
        )
    return max(low, least), min(high, most)


def ties(model: Model, tied: Sequence[Any], free: Mapping[Place, Any]) -> tuple[Tie, ...]:
    """The groups with a free number: the model's adding-up constraints and the user's.

    Raises:
        ValueError: a number in two of them, or a derived one among the free.
    """
    found = []
    constraints = [*model.constraints, *(_adding_up(one) for one in tied)]
    for constraint in constraints:
        columns = [places(model, name) for name in constraint.names]
        for members in zip(*columns, strict=True):
            if any(one in free for one in members):
                found.append(Tie(tuple(members), float(constraint.total)))
            elif constraint not in model.constraints:
                raise ValueError(f"tied= names {constraint.names}, of which none is free.")
    rests = {tie.rest: tie for tie in found}
    for one in free:
        if one in rests:
            others = ", ".join(member.label for member in rests[one].members[:-1])
            raise ValueError(
                f"{one.label!r} is what {others} leave of {rests[one].total:g}: it cannot be free itself. "
                "Free the others."
            )
    members = [one for tie in found for one in tie.members if one in free or one == tie.rest]
    twice = sorted({one.label for one in members if members.count(one) > 1})
    if twice:
        raise ValueError(
            f"{', '.join(twice)} are in two adding-up groups at once, which is not supported: fix some."
        )
    return tuple(found)


def _adding_up(one: Any) -> AddingUp:
    return one if isinstance(one, AddingUp) else AddingUp(tuple(one))


def bijection(
    model: Model,
    free: Mapping[Place, tuple[float, float]],
    tied: Sequence[Tie],
    start: Mapping[Place, float],
) -> Bijection:
    """The map from all real numbers to the free ones."""
    order = list(free)
    low, high = np.array(list(free.values())).T
    scale = np.ones(len(order))
    for i, one in enumerate(order):
        if np.isfinite(low[i]) and np.isfinite(high[i]):
            continue
        origin = low[i] if np.isfinite(low[i]) else high[i] if np.isfinite(high[i]) else 0.0
        scale[i] = abs(start[one] - origin) or 1.0
    groups = []
    for tie in tied:
        members = tuple(order.index(one) for one in tie.members if one in free)
        bounds = _rest_bounds(model, tie)
        fixed = sum(start[one] for one in tie.members[:-1] if one not in free)
        groups.append(
            Group(members, *bounds, _centred(members, bounds, low, high, tie.total - fixed))
        )
    return Bijection(low, high, scale, tuple(groups))


def _rest_bounds(model: Model, tie: Tie) -> tuple[float, float]:
    field = field_of(model, tie.rest)
    return field.extremes if tie.rest.group == "params" else (-np.inf, np.inf)


def _centred(
    members: tuple[int, ...],
    bounds: tuple[float, float],
    low: np.ndarray,
    high: np.ndarray,
    total: float,
) -> bool:
    """Can no upper bound of the group bind? Then it is a simplex above its lower bounds."""
    lows = np.append(low[list(members)], bounds[0])
    highs = np.append(high[list(members)], bounds[1])
    if not np.isfinite(lows).all():
        return False
    return bool((highs - lows >= total - lows.sum() - 1e-12).all())
