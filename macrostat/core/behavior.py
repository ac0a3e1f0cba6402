"""The behavior of a model: its equations, and the loop over time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ._checks import seed_of
from .parameters import Parameters
from .scenarios import Scenarios
from .variables import Variables, detached


class Behavior(torch.nn.Module):
    """Base of all behaviors. A model overrides `initialize` and `step`, in torch operations.

    Time: the state that `initialize` leaves is recorded `timesteps_initialization + 1` times; then
    `step` runs for t = timesteps_initialization .. timesteps - 1. Scenario row t lands on row t + 1
    of the results, which have timesteps + 1 rows.

    Attributes:
        params: the parameters as leaves, a `ParameterDict`.
        scenarios: the series of the scenario as leaves of shape (timesteps, 1), a `ParameterDict`.
        hyper: the hyperparameters.
        state: what the current period has computed so far: variable -> tensor. Starts at 0.
        prior: the state of the period before.
        history: variable -> its last values, the latest first, where it declares a history.
        numpy_rng: seeded by `hyper["seed"]`, as is torch's generator, at the start of each run.

    Args:
        parameters, scenarios, variables: the components.
        scenario: number or name of the scenario to run.
        differentiable: kept for the model's own use.
        debug: kept for the model's own use.

    Raises:
        RuntimeError: `differentiable` for a class with `supports_differentiable = False`.
    """

    supports_differentiable: bool = True

    def __init__(
        self,
        parameters: Parameters | None = None,
        scenarios: Scenarios | None = None,
        variables: Variables | None = None,
        scenario: int | str = 0,
        differentiable: bool = False,
        debug: bool = False,
    ) -> None:
        super().__init__()
        if differentiable and not self.supports_differentiable:
            raise RuntimeError(
                f"{type(self).__name__} sets supports_differentiable=False and cannot be "
                f"constructed with differentiable=True."
            )
        parameters = Parameters() if parameters is None else parameters
        scenarios = Scenarios(parameters=parameters) if scenarios is None else scenarios
        self.parameters: Any = parameters
        self.hyper = parameters.hyper
        self.params = parameters.to_nn_parameters()
        self.scenarioID = scenarios.find(scenario)
        self.scenarios = scenarios.to_nn_parameters(scenario=self.scenarioID)
        self.variables = Variables(parameters=parameters) if variables is None else variables
        self.differentiable = differentiable
        self.debug = debug
        self.numpy_rng = np.random.default_rng(seed_of(self.hyper))
        self.state: dict[str, torch.Tensor] = {}
        self.prior: dict[str, torch.Tensor] = {}
        self.history: dict[str, torch.Tensor] = {}

    # The equations ----------------------------------------------------------------------------

    def initialize(self) -> None:
        """Sets the entries of `self.state` before the first period."""
        raise NotImplementedError("Behavior.initialize() to be implemented by model")

    def step(self, t: int, scenario: dict[str, torch.Tensor], params: Any = None) -> None:
        """Sets the entries of `self.state` for period t, given `self.prior`.

        Args:
            t: the period.
            scenario: series -> its row of shape (1,).
            params: the parameters after shocks and constraints.
        """
        raise NotImplementedError("Behavior.step() to be implemented by model")

    def compute_theoretical_steady_state_per_step(self, **kwargs: Any) -> None:
        """Sets the entries of `self.state` to a steady state, given `t`, `scenario`, `params`."""
        raise NotImplementedError(
            "Behavior.compute_theoretical_steady_state_per_step() to be implemented by model"
        )

    # The loop ---------------------------------------------------------------------------------

    def forward(self) -> dict[str, torch.Tensor]:
        """Runs the model; variable -> tensor of shape (timesteps + 1, n), attached to the graph."""
        with seeded(self.hyper):
            self._start()
            for t in range(self.hyper["timesteps_initialization"], self.hyper["timesteps"]):
                scenario = self._begin(t)
                params = self.apply_parameter_shocks(t, scenario)
                self.step(t=t, scenario=scenario, params=params)
                self._end(t)
        return self.variables.gather_timeseries()

    def compute_theoretical_steady_state(self, **kwargs: Any) -> dict[str, torch.Tensor]:
        """The steady state that belongs to each period's scenario row and parameters.

        Returns:
            Variable -> tensor of shape (timesteps, n). Scenario row t lands on row t; the rows up
            to `timesteps_initialization` hold the initial state.
        """
        with seeded(self.hyper):
            self._start()
            for t in range(self.hyper["timesteps_initialization"] + 1, self.hyper["timesteps"]):
                scenario = self._begin(t)
                params = self.apply_parameter_shocks(t, scenario)
                self.compute_theoretical_steady_state_per_step(
                    t=t, scenario=scenario, params=params
                )
                self._end(t)
        return self.variables.gather_timeseries()

    def _start(self) -> None:
        warmup, horizon = self.hyper["timesteps_initialization"], self.hyper["timesteps"]
        if not 0 <= warmup < horizon:
            raise ValueError(
                f"timesteps_initialization must be less than timesteps: {warmup} against {horizon}."
            )
        self.numpy_rng = np.random.default_rng(seed_of(self.hyper))
        self.state, self.history = self.variables.initialize_tensors()
        self.initialize()
        for t in range(warmup + 1):
            self.variables.record_state(t, self.state)
            self.history = self.variables.update_history(self.state)
        self.prior = self.state

    def _begin(self, t: int) -> dict[str, torch.Tensor]:
        self.state = self.variables.new_state()
        return {key: series[t] for key, series in self.scenarios.items()}

    def _end(self, t: int) -> None:
        self.variables.record_state(t, self.state)
        self.history = self.variables.update_history(self.state)
        self.prior = self.state

    def apply_parameter_shocks(
        self, t: int, scenario: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The parameters of period t: `value * X_multiply + X_add`, then the constraints.

        A series `X_add` moves the parameter (or every slot of the vector) X, `S_X_add` the slot of
        sector S, `R_C_X_add` a cell of a matrix; likewise `_multiply`.
        """
        params = {}
        sectors: list[str] = sorted(self.hyper.get("vector_sectors") or ())
        for key, value in self.params.items():
            factor = _shock(scenario, key, "multiply", value, sectors)
            term = _shock(scenario, key, "add", value, sectors)
            value = value if factor is None else value * factor
            params[key] = value if term is None else value + term
        resolver = self.parameters.get_constraint_resolver()
        for constraint in self.parameters.get_constraints():
            constraint.apply(params, resolver)
        return params

    # Smooth stand-ins for conditions ----------------------------------------------------------

    def _constant(self, name: str) -> float:
        if name not in self.hyper:
            raise KeyError(f"Set the hyperparameter {name!r}: how sharp the smooth switch is.")
        return self.hyper[name]

    def _tensor(self, value: Any) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value
        return torch.as_tensor(value, dtype=torch.get_default_dtype(), device=self.hyper["device"])

    def diffwhere(self, condition: Any, x1: Any, x2: Any) -> torch.Tensor:
        """`x1` where `condition` is positive, `x2` where it is negative, and a sigmoid between."""
        weight = torch.sigmoid(self._tensor(condition) * self._constant("sigmoid_constant"))
        return weight * (self._tensor(x1) - x2) + x2

    def tanhmask(self, x: Any) -> torch.Tensor:
        """1 where `x` is positive, 0 where it is negative, by a tanh in between."""
        return (1 + torch.tanh(self._tensor(x) * self._constant("tanh_constant"))) / 2

    def diffmin(self, x1: Any, x2: Any) -> torch.Tensor:
        """The smaller of two, smoothed: -log(exp(-r x1) + exp(-r x2)) / r, without overflow."""
        r = self._constant("min_constant")
        return -torch.logaddexp(-r * self._tensor(x1), -r * self._tensor(x2)) / r

    def diffmax(self, x1: Any, x2: Any) -> torch.Tensor:
        """The larger of two, smoothed: log(exp(r x1) + exp(r x2)) / r, without overflow."""
        r = self._constant("max_constant")
        return torch.logaddexp(r * self._tensor(x1), r * self._tensor(x2)) / r

    def diffmin_v(self, x: Any) -> torch.Tensor:
        """The smallest element, smoothed: a 0-d tensor."""
        r = self._constant("min_constant")
        return -torch.logsumexp(-r * self._tensor(x).reshape(-1), dim=0) / r

    def diffmax_v(self, x: Any) -> torch.Tensor:
        """The largest element, smoothed: a 0-d tensor."""
        r = self._constant("max_constant")
        return torch.logsumexp(r * self._tensor(x).reshape(-1), dim=0) / r

    # torch.nn.Module --------------------------------------------------------------------------

    # The documented attribute `parameters` hides the method that these two of torch's would call.
    def zero_grad(self, set_to_none: bool = True) -> None:
        for leaves in (self.params, self.scenarios):
            leaves.zero_grad(set_to_none=set_to_none)

    def requires_grad_(self, requires_grad: bool = True) -> Behavior:
        for leaves in (self.params, self.scenarios):
            leaves.requires_grad_(requires_grad)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: a run's tensors go along without their graph."""
        found = self.__dict__.copy()
        for key in ("state", "prior", "history"):
            if key in found:
                found[key] = detached(found[key])
        return found


_run = threading.RLock()
"""Held during a run in eager torch: torch's generator is one for all threads, and each run seeds it."""


@contextlib.contextmanager
def seeded(hyper: Mapping[str, Any]) -> Iterator[None]:
    """Seeds torch for a run by `hyper["seed"]`; afterwards its generator is where it was. One run at a time:
    another thread's would draw from the same generator.
    """
    device = torch.device(hyper["device"])
    devices = [device] if device.type == "cuda" else []
    with _run, torch.random.fork_rng(devices=devices):
        seed = seed_of(hyper)
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def _shock(
    scenario: Mapping[str, torch.Tensor],
    key: str,
    kind: str,
    value: torch.Tensor,
    sectors: list[str],
) -> torch.Tensor | None:
    """The factor or term for parameter `key`, broadcastable to it; None for no shock."""
    combine = torch.mul if kind == "multiply" else torch.add
    shock = scenario.get(f"{key}_{kind}")
    if value.dim() == 0 or value.shape != (len(sectors),) * value.dim():
        return shock
    prefixes = sectors if value.dim() == 1 else [f"{r}_{c}" for r in sectors for c in sectors]
    if value.dim() > 2:
        return shock
    labels = [f"{prefix}_{key}_{kind}" for prefix in prefixes]
    if not any(label in scenario for label in labels):
        return shock
    neutral = value.new_tensor([1.0 if kind == "multiply" else 0.0])
    slots = torch.cat([scenario.get(label, neutral).reshape(1) for label in labels])
    slots = slots.reshape(value.shape)
    return slots if shock is None else combine(slots, shock)
