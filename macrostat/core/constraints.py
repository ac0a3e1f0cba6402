"""Linear constraints among parameters, and where a named parameter lives among the tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

ROUNDING = 1e-9
"""How far a derived parameter may leave its bounds: 1 - 0.9 - 0.1 is -3e-17."""


class ConstraintError(ValueError):
    """A constraint that cannot hold, or that names something there is not."""


@dataclass(frozen=True)
class ParameterLocation:
    """The slot of one scalar parameter: a whole 0-d tensor, or one element of a vector or matrix.

    Args:
        tensor_key: the tensor's name in the vectorised parameters.
        index: the element, one integer per dimension; None for a tensor of its own.
    """

    tensor_key: str
    index: tuple[int, ...] | None = None

    def read(self, params: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The parameter's value as a tensor that is still attached to the graph."""
        tensor = params[self.tensor_key]
        return tensor if self.index is None else tensor[self.index]

    def write(self, params: MutableMapping[str, torch.Tensor], value: torch.Tensor) -> None:
        """Puts a new tensor into the dict; the old tensor, which may be a leaf, stays as it was."""
        if self.index is None:
            params[self.tensor_key] = value
            return
        base = params[self.tensor_key]
        where = tuple(torch.tensor([i], device=base.device) for i in self.index)
        params[self.tensor_key] = base.index_put(where, value.reshape(1))


def locate(name: str, vector_sectors: Sequence[str]) -> ParameterLocation:
    """The slot of parameter `name`, given the sectors whose parameters form vectors.

    `S.x` is slot S of the vector `x`, `R.C.x` cell (R, C) of the matrix `x`; slots follow the
    sorted sector names. In any other name dots become underscores, because a `ParameterDict` takes
    no dots.
    """
    order = sorted(vector_sectors)
    *sectors, last = name.split(".")
    if len(sectors) in (1, 2) and all(sector in order for sector in sectors):
        return ParameterLocation(last, tuple(order.index(sector) for sector in sectors))
    return ParameterLocation(name.replace(".", "_"))


class ConstraintResolver:
    """Parameter name -> `ParameterLocation`."""

    def __init__(self, mapping: Mapping[str, ParameterLocation]) -> None:
        self._locations = dict(mapping)

    def locate(self, name: str) -> ParameterLocation:
        """The slot of `name`; an unknown name is a `ConstraintError`."""
        if name not in self._locations:
            raise ConstraintError(
                f"Unknown constraint parameter: {name!r}. Known names: {sorted(self._locations)}"
            )
        return self._locations[name]

    def __contains__(self, name: object) -> bool:
        return name in self._locations

    def __len__(self) -> int:
        return len(self._locations)


@dataclass(frozen=True)
class LinearConstraint:
    """The parameters `param_names` sum to `target`; the last of them is derived from the others.

    The derived parameter's own gradient is 0, and the free ones carry -1 of it.

    Raises:
        ConstraintError: fewer than two names, a repeated name, or no finite target.
    """

    param_names: tuple[str, ...]
    target: float

    def __post_init__(self) -> None:
        names: Any = self.param_names
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ConstraintError(
                f"param_names must be a sequence of strings, got {type(names).__name__}"
            )
        names = tuple(names)
        object.__setattr__(self, "param_names", names)
        for name in names:
            if not isinstance(name, str):
                raise ConstraintError(f"param_names must all be strings; got {name!r}")
        if len(names) < 2:
            raise ConstraintError(
                f"A constraint needs at least two parameter names (free ones, then the derived "
                f"one); got {names!r}"
            )
        if len(set(names)) != len(names):
            raise ConstraintError(f"param_names must be unique; got {names!r}")
        if isinstance(self.target, bool) or not isinstance(self.target, int | float):
            raise ConstraintError(
                f"target must be a number, not a bool or else; got {self.target!r}"
            )
        if not math.isfinite(self.target):
            raise ConstraintError(f"target must be finite; got {self.target!r}")

    @property
    def free_params(self) -> tuple[str, ...]:
        return self.param_names[:-1]

    @property
    def derived_param(self) -> str:
        return self.param_names[-1]

    def implied(self, values: Mapping[str, Mapping[str, Any]]) -> float:
        """What the free parameters of `Parameters.values` leave for the derived one."""
        return self.target - sum(values[name]["value"] for name in self.free_params)

    def apply(
        self, params: MutableMapping[str, torch.Tensor], resolver: ConstraintResolver
    ) -> MutableMapping[str, torch.Tensor]:
        """Replaces the derived parameter among the tensors `params`, and returns `params`."""
        free = [resolver.locate(name).read(params) for name in self.free_params]
        resolver.locate(self.derived_param).write(params, self.target - sum(free))  # type: ignore[arg-type]
        return params


def verify(
    constraints: Sequence[LinearConstraint],
    values: Mapping[str, Mapping[str, Any]],
    resolver: ConstraintResolver,
) -> None:
    """Raises `ConstraintError` where the constraints contradict each other or the parameters."""
    for constraint in constraints:
        for name in constraint.param_names:
            if name not in values:
                raise ConstraintError(
                    f"Constraint references unknown parameter '{name}'. Available: {sorted(values)}"
                )
    derived = [constraint.derived_param for constraint in constraints]
    if repeated := sorted({name for name in derived if derived.count(name) > 1}):
        raise ConstraintError(
            f"Parameter(s) {repeated} appear as derived in multiple constraints; each can be "
            f"derived in at most one."
        )
    for constraint in constraints:
        if chained := sorted(set(derived).intersection(constraint.free_params)):
            raise ConstraintError(
                f"Parameter(s) {chained} are derived in one constraint but appear as free in "
                f"another. Chained constraints are not supported."
            )
    for constraint in constraints:
        for name in constraint.param_names:
            if name not in resolver:
                raise ConstraintError(
                    f"Constraint parameter '{name}' is not resolvable to a tensor slot: its "
                    f"sectors and the hyperparameter vector_sectors disagree."
                )
        _verify_shapes(constraint, [resolver.locate(name) for name in constraint.param_names])
    for constraint in constraints:
        _verify_bounds(constraint, values)


def _verify_shapes(constraint: LinearConstraint, places: list[ParameterLocation]) -> None:
    names = constraint.param_names
    ranks = {0 if place.index is None else len(place.index) for place in places}
    if len(ranks) > 1 and 0 in ranks:
        raise ConstraintError(
            f"Constraint {names!r} mixes scalar and indexed parameter locations; its parameters "
            f"must share one shape class."
        )
    keys = {place.tensor_key for place in places}
    if 0 not in ranks and len(keys) > 1:
        raise ConstraintError(
            f"Constraint {names!r} spans multiple tensor keys {sorted(keys)!r}; its indexed "
            f"parameters must live in one tensor."
        )
    if len(ranks) > 1:
        raise ConstraintError(f"Constraint {names!r} mixes {sorted(ranks)!r}-dimensional indices.")


def _verify_bounds(constraint: LinearConstraint, values: Mapping[str, Mapping[str, Any]]) -> None:
    value = constraint.implied(values)
    low = values[constraint.derived_param].get("lower bound")
    high = values[constraint.derived_param].get("upper bound")
    broken = None
    if low is not None and value < low - ROUNDING:
        broken = f"below its lower bound {low:.8g}"
    elif high is not None and value > high + ROUNDING:
        broken = f"above its upper bound {high:.8g}"
    if broken:
        raise ConstraintError(
            f"Constraint would drive derived parameter '{constraint.derived_param}' to "
            f"{value:.8g}, {broken}. Check the free parameters or the constraint's target."
        )
