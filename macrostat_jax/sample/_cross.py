"""Factorial designs: every point under every scenario, with every seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ._designs import Design

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class Cross:
    """The runs of a design under S scenarios and R seeds: P * S * R of them.

    Run `(p * S + s) * R + r` is point p under scenario s with seed r: the seed varies fastest.

    Attributes:
        design: the P points.
        scenarios: label -> what `simulate` takes as a scenario; empty: the one given to the sweep.
        seeds: of a random model. All points and scenarios share them: common random numbers, which
            leave differences between points free of their noise. Empty: the key given to the sweep.
    """

    design: Design
    scenarios: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.design) * self.each

    def __repr__(self) -> str:
        factors = [f"{len(self.design)} points"]
        factors += [f"{len(self.scenarios)} scenarios"] * bool(self.scenarios)
        factors += [f"{len(self.seeds)} seeds"] * bool(self.seeds)
        return f"Cross({' x '.join(factors)} = {len(self)} runs)"

    @property
    def each(self) -> int:
        """How many runs there are of each point."""
        return max(len(self.scenarios), 1) * max(len(self.seeds), 1)

    @property
    def names(self) -> tuple[str, ...]:
        return self.design.names

    @property
    def origin(self) -> dict[str, Any]:
        """As of the design, with the labels of the scenarios and the seeds."""
        more = {"scenarios": list(self.scenarios), "seeds": list(self.seeds)}
        return {**self.design.origin, **{name: value for name, value in more.items() if value}}

    def to_pandas(self) -> pd.DataFrame:
        """A row per run: its point, and the columns `scenario` and `seed` where there are several."""
        run = np.arange(len(self))
        table = self.design.to_pandas().iloc[run // self.each].reset_index(drop=True)
        seeds = max(len(self.seeds), 1)
        if self.scenarios:
            labels = np.array(list(self.scenarios))
            table["scenario"] = labels[run // seeds % len(labels)]
        if self.seeds:
            table["seed"] = np.array(self.seeds)[run % seeds]
        return table.rename_axis("run")


def cross(
    design: Design,
    scenarios: Iterable[str] | Mapping[str, Any] = (),
    seeds: int | Iterable[int] = (),
) -> Cross:
    """Every point of a design under every scenario with every seed, for `sweep`.

    Args:
        design: the points.
        scenarios: names of the model's scenarios (`"default"` is the one without a name), or
            label -> name or record of paths.
        seeds: of a random model: how many (0, 1, ...), or which.

    Raises:
        ValueError: scenarios or seeds that occur twice, nothing to cross with. TypeError: a seed or a
            number of seeds that is no integer; a scenario's name that is no string; one name in
            place of several.
    """
    if not isinstance(design, Design):
        raise TypeError(f"cross takes a Design, not {type(design).__name__}.")
    if isinstance(scenarios, str):
        raise TypeError(f"scenarios takes several names, [{scenarios!r}], not one string.")
    names = list(scenarios)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"The name of a scenario is a string ('default' is one), not {name!r}.")
    if isinstance(scenarios, Mapping):
        found = dict(scenarios)
    else:
        if len(set(names)) < len(names):
            raise ValueError(f"A scenario is crossed once, not as in {names}.")
        found = {name: None if name == "default" else name for name in names}
    if _is_integer(seeds):
        if seeds < 1:
            raise ValueError(f"There is at least one seed to cross with, not {seeds}.")
        numbers = tuple(range(seeds))
    elif isinstance(seeds, Iterable):
        numbers = tuple(seeds)
    else:
        raise TypeError(f"seeds takes a number of seeds, or which, not {seeds!r}.")
    for seed in numbers:
        if not _is_integer(seed):
            raise TypeError(f"A seed is an integer, not {seed!r}.")
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"A seed has 64 bits: {seed} has more.")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"A seed is crossed once, not as in {list(numbers)}.")
    if not found and not numbers:
        raise ValueError("cross needs scenarios or seeds to cross the design with.")
    return Cross(design, found, tuple(map(int, numbers)))


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
