"""The usual things to keep of a run, by name."""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

WHATS: dict[str, Callable[[Any], Any]] = {
    "last": lambda path: path[-1],
    "first": lambda path: path[0],
    "mean": lambda path: path.mean(axis=0),
    "std": lambda path: path.std(axis=0),
    "min": lambda path: path.min(axis=0),
    "max": lambda path: path.max(axis=0),
    "path": lambda path: path,
}


@dataclasses.dataclass(frozen=True, init=False)
class Outcomes:
    """What to keep of a run: numbers by name, for `sweep(keep=Outcomes("national_income:mean"))`.

    Args:
        names: a variable, by either of its names, and after a colon what of it: `last` (the default),
            `first`, `mean`, `std` (over the periods of a run), `min`, `max`, `path`, or a period:
            `"wealth:40"`. Other processes need nothing to make sense of it.

    Raises:
        ValueError: no names, or a name of another form. When a sweep begins: KeyError, a variable that the
            model does not have; ValueError, a period that the run does not have.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        if not names:
            raise ValueError("Outcomes takes at least one name.")
        for name in names:
            variable, what = _split(name)
            if not variable or not (what in WHATS or re.fullmatch(r"-?\d+", what)):
                raise ValueError(
                    f"{name!r} is no outcome: a variable and, after a colon, one of "
                    f"{', '.join(WHATS)} or a period."
                )
        object.__setattr__(self, "names", names)

    def __call__(self, path: Any) -> dict[str, Any]:
        # A plain dict would come back in alphabetical order.
        return OrderedDict((name, _taken(path, *_split(name))) for name in self.names)


def _split(name: str) -> tuple[str, str]:
    variable, colon, what = name.partition(":")
    return variable, what if colon else "last"


def _taken(path: Any, variable: str, what: str) -> Any:
    values = jnp.asarray(path[variable])
    if what in WHATS:
        return WHATS[what](values)
    period = int(what)
    if not -len(values) <= period < len(values):
        raise ValueError(
            f"{variable}:{what}: a run has {len(values)} periods, 0 to {len(values) - 1}."
        )
    return values[period]
