"""What is measured: scenarios, sizes, and the point and directions that all backends are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

SCENARIOS: dict[str, str] = {
    "simulate": "the path of every variable",
    "gradient": "the gradient of one loss of the whole path by all parameters",
    "jvp": "the derivative of the path in one direction of the parameters",
    "vjp": "one weighting of the path, pulled back to all parameters",
    "jacobian-forward": "the path's derivative by every parameter, column by column",
    "jacobian-reverse": "the path's derivative by every parameter, row by row",
    "hvp": "the loss's second derivative in one direction",
    "sweep": "a batch of simulations at different parameters in one call",
}
"""Scenario -> what one call of it computes."""

CHECKED_RUNS = 8
"""So many runs of a sweep are compared with the reference."""
LARGEST = 1 << 30
"""Bytes of the largest result that a backend is asked for."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One figure to take, on any backend."""

    model: str
    scenario: str
    periods: int
    batch: int = 1
    sizes: tuple[tuple[str, int], ...] = ()
    """Numbers of agents: axis -> size, as `Model.resize` takes them."""
    seed: int = 0
    without: tuple[str, ...] = ()
    """Variables that are left out of the outputs: those that the published package computes otherwise."""

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "sizes": dict(self.sizes)}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Case:
        sizes = tuple(sorted(given["sizes"].items()))
        return cls(**{**given, "sizes": sizes, "without": tuple(given["without"])})

    @property
    def order(self) -> int:
        """How often the model is differentiated."""
        return {"simulate": 0, "sweep": 0, "hvp": 2}.get(self.scenario, 1)

    @property
    def label(self) -> str:
        batch = f", {self.batch:,} runs" if self.scenario == "sweep" else ""
        agents = "".join(f", {size:,} {axis}s" for axis, size in self.sizes)
        return f"{self.model} {self.scenario}, {self.periods:,} periods{batch}{agents}"


def cases(
    model: Any,
    scenarios: Sequence[str],
    periods: Sequence[int],
    batches: Sequence[int],
    sizes: Sequence[Mapping[str, int]],
    seed: int,
) -> list[Case]:
    """All cases of a model, the simulation of each size first: the others are compared with it."""
    found = []
    for given in sizes or [{}]:
        agents = tuple(sorted(given.items()))
        model.resize(**given)  # an unknown axis is an error here, before anything is measured
        for horizon in periods or [model.periods]:
            rest = [s for s in SCENARIOS if s in scenarios and s not in ("simulate", "sweep")]
            found += [Case(model.name, s, horizon, 1, agents, seed) for s in ("simulate", *rest)]
            if "sweep" in scenarios:
                found += [Case(model.name, "sweep", horizon, n, agents, seed) for n in batches]
    return found


def check_names(kind: str, given: Sequence[str], known: Mapping[str, Any]) -> tuple[str, ...]:
    """The names without repetition.

    Raises:
        ValueError: an unknown one, with the list of what there is; none at all.
    """
    wrong = [name for name in given if name not in known]
    if wrong or not given:
        what = f"There is no {kind} {', '.join(map(repr, wrong))}" if wrong else f"Name a {kind}"
        raise ValueError(f"{what}. There are: {', '.join(known)}.")
    return tuple(dict.fromkeys(given))


def check_counts(kind: str, given: Sequence[int]) -> tuple[int, ...]:
    """Whole numbers of at least 1, ascending, without repetition."""
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in given):
        raise ValueError(f"{kind} takes whole numbers from 1 on, not {list(given)!r}.")
    return tuple(sorted(set(given)))


Kind = Literal["model", "tangent", "adjoint"]


def runs(
    scenario: str, parameters: int, outputs: int, batch: int, way: str = "its own"
) -> dict[Kind, int]:
    """How many times over the horizon a backend goes by definition, by what it carries along.

    Args:
        scenario: one of `SCENARIOS`.
        parameters, outputs: how many numbers go in, and come out of a simulation.
        batch: runs of a sweep.
        way: `"its own"`, or `"forward"` for a backend that has forward mode only, one direction at a
            time, each with a run of the model (dual numbers).
    """
    if way == "forward":
        many = parameters if scenario in ("gradient", "jacobian-forward") else 1
        return {"model": many, "tangent": many}
    table: dict[str, dict[Kind, int]] = {
        "simulate": {"model": 1},
        "gradient": {"model": 1, "adjoint": 1},
        "jvp": {"model": 1, "tangent": 1},
        "vjp": {"model": 1, "adjoint": 1},
        "jacobian-forward": {"model": 1, "tangent": parameters},
        "jacobian-reverse": {"model": 1, "adjoint": outputs},
        "hvp": {"model": 1, "tangent": 1, "adjoint": 2},
        "sweep": {"model": batch},
    }
    return table[scenario]
