"""Models of a user's own and faulty operations, for the tests of `macrostat.diff`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from core_cases import entry

from macrostat.core import Behavior, LinearConstraint, Model, Parameters, Scenarios, Variables

EPS32 = torch.finfo(torch.float32).eps
EPS64 = torch.finfo(torch.float64).eps
LIBRARY = ("LINEAR2D", "GL06SIM", "GL06SIMEX", "GL06PC")
MAIN = {"LINEAR2D": "State"}
"""The variable that losses look at; `NationalIncome` in the others."""

Step = Callable[[Any, dict[str, torch.Tensor], dict[str, torch.Tensor]], torch.Tensor]


def squares(name: str) -> Callable[[dict[str, torch.Tensor]], torch.Tensor]:
    """A smooth scalar loss of a library model, to which the whole path matters."""
    variable = MAIN.get(name, "NationalIncome")
    return lambda output: (output[variable] ** 2).mean()


def last(output: dict[str, torch.Tensor]) -> torch.Tensor:
    return output["NationalIncome"][-1, 0]


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def geometric(behavior: Any, params: dict, scenario: dict) -> torch.Tensor:
    """Y = a Y_-1 + b G: in closed form a^n c + b G (1 - a^n) / (1 - a)."""
    return params["a"] * behavior.prior["Y"] + params["b"] * scenario["G"]


def own_model(
    step: Step = geometric,
    values: dict[str, float] | None = None,
    constraints: tuple[LinearConstraint, ...] = (),
    timesteps: int = 4,
    initial: Callable[[Any], torch.Tensor] = lambda behavior: behavior.params["c"].reshape(1),
    width: int = 1,
) -> Any:
    """A model of one variable Y, whose next value is `step(behavior, params, scenario)`."""
    given = {"a": 0.5, "b": 0.3, "c": 2.0} if values is None else values

    class OwnParameters(Parameters):
        def get_default_parameters(self):
            return {name: entry(value, -1e9, 1e9) for name, value in given.items()}

        def get_default_hyperparameters(self):
            changes = {"timesteps": timesteps, "timesteps_initialization": 0}
            return super().get_default_hyperparameters() | changes

        def get_constraints(self):
            return constraints

    class OwnScenarios(Scenarios):
        def get_default_scenario_values(self):
            return {"G": 10.0, "a_add": 0.0}

    class OwnVariables(Variables):
        def get_default_variables(self):
            sectors = [f"S{i}" for i in range(width)]
            return {"Y": {"notation": "Y", "unit": ".", "history": 0, "sectors": sectors}}

    class OwnBehavior(Behavior):
        def initialize(self):
            self.state["Y"] = initial(self)

        def step(self, t, scenario, params=None):
            self.state["Y"] = step(self, params or {}, scenario)

    class Own(Model):
        parameters_class = OwnParameters
        scenarios_class = OwnScenarios
        variables_class = OwnVariables

        def __init__(self, **kwargs):
            super().__init__(**{"behavior": OwnBehavior, **kwargs})

    return Own()


def final(output: dict[str, torch.Tensor]) -> torch.Tensor:
    return output["Y"][-1].sum()


class Faulty(torch.autograd.Function):
    """The identity, with a derivative of `back` in reverse mode and `push` in forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, back: float, push: float) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
        ctx.back, ctx.push = inputs[1:]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor):
        return gradient * ctx.back, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: Any) -> torch.Tensor:
        return tangent * ctx.push


def faulty(x: torch.Tensor, back: float = 1.0, push: float = 1.0) -> torch.Tensor:
    found: Any = Faulty.apply(x, back, push)
    return found
