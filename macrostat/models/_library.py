"""Behavior of a library model, and the model itself."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch

from bridge import torch_function
from macrostat_jax import Model as Definition
from macrostat_jax import steady_state

from ..core import Behavior, Model, Parameters, Scenarios, Variables
from ..core._dtype import output_dtype
from ._declared import LibraryParameters, LibraryScenarios, LibraryVariables, tensor_name


class LibraryBehavior(Behavior):
    """Behavior of a library model: compiled by JAX as a whole, differentiable in torch.

    A subclass (or an instance) that overrides `initialize`, `step` or `apply_parameter_shocks` runs
    in eager torch, period by period; `super().step(...)` is then the library's own period. So does one
    whose variables are of a class that records them in a way of its own (`gather_timeseries`, say).

    Attributes:
        noise: of a random model, its random inputs in place of those that its seed gives: field ->
            (timesteps - timesteps_initialization, *shape), as `LibraryModel.noise` has them.
    """

    definition: ClassVar[Definition]
    parameters_class: ClassVar[type[LibraryParameters]]
    scenarios_class: ClassVar[type[LibraryScenarios]]
    variables_class: ClassVar[type[LibraryVariables]]

    def __init__(
        self,
        parameters: Parameters | None = None,
        scenarios: Scenarios | None = None,
        variables: Variables | None = None,
        scenario: int | str = 0,
        differentiable: bool = False,
        debug: bool = False,
        noise: Mapping[str, Any] | None = None,
    ) -> None:
        if parameters is None:
            parameters = self.parameters_class()
        if scenarios is None:
            scenarios = self.scenarios_class(parameters=parameters)
        if variables is None:
            variables = self.variables_class(parameters=parameters)
        super().__init__(parameters, scenarios, variables, scenario, differentiable, debug)
        self.noise = noise
        self._random: tuple[torch.Tensor, ...] | None = None

    @classmethod
    def runs_compiled(cls) -> bool:
        """Whether the class leaves to the library what a period does."""
        return all(getattr(cls, name) is getattr(LibraryBehavior, name) for name in _PERIOD)

    def _is_compiled(self) -> bool:
        own = any(name in self.__dict__ for name in _PERIOD)
        return self.runs_compiled() and not own and records_as_usual(self.variables)

    def initialize(self) -> None:
        from macrostat import _engine

        with self._graph():
            _engine.initial_state(self)

    def step(self, t: int, scenario: Any, params: Any = None, **kwargs: Any) -> None:
        from macrostat import _engine

        self._check_differentiable()
        with self._graph():
            _engine.step(self, t, scenario, params)

    def forward(self) -> dict[str, torch.Tensor]:
        """Runs the model; variable -> tensor of shape (timesteps + 1, n), attached to the graph (of a
        class with `supports_differentiable = False`, to none).
        """
        if not self._is_compiled():
            return super().forward()
        from macrostat import _engine

        self._check_differentiable()
        with self._graph():
            return self._take(_engine.forward(self))

    def _check_differentiable(self) -> None:
        if self.differentiable and not self.supports_differentiable:
            raise RuntimeError(
                f"{type(self).__name__} is non-differentiable; "
                "self.differentiable was mutated to True after construction."
            )

    def _graph(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext() if self.supports_differentiable else torch.no_grad()

    # Random inputs ----------------------------------------------------------------------------

    def random_inputs(self, definition: Definition) -> tuple[torch.Tensor, ...]:
        """The random inputs of a run in eager torch, the same in all of its periods."""
        if self._random is None:
            from macrostat import _engine

            self._random = _engine.behavior_random(self, definition)
        return self._random

    def _start(self) -> None:
        self._random = None
        super()._start()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_random": None}

    # Steady states ----------------------------------------------------------------------------

    def compute_theoretical_steady_state(self, **kwargs: Any) -> dict[str, torch.Tensor]:
        own = LibraryBehavior.compute_theoretical_steady_state_per_step
        per_step = type(self).compute_theoretical_steady_state_per_step
        if not self._is_compiled() or per_step is not own:
            return super().compute_theoretical_steady_state(**kwargs)
        from macrostat import _engine

        return self._take(_engine.steady_state(self))

    def compute_theoretical_steady_state_per_step(
        self, t: int, scenario: Any, params: Any, **kwargs: Any
    ) -> None:
        """Sets `self.state` to the steady state that belongs to the scenario row and parameters.

        Raises:
            NotImplementedError: the model is random.
        """
        function = _steady_state(self.definition)

        def fields(record: Any, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            found = {key: values[tensor_name(f.name)].double() for key, f in record.fields.items()}
            return {key: found[key].reshape(f.shape) for key, f in record.fields.items()}

        definition, dtype = self.definition, output_dtype(self.hyper)
        given: Any = self.params if params is None else params
        found = function(fields(definition.Params, given), fields(definition.Scenario, scenario))
        for key, field in definition.State.fields.items():
            self.state[field.name] = found[key].to(dtype).reshape(field.shape or (1,))

    def _take(self, timeseries: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Leaves variables and state as a run in eager torch would."""
        rows, kwargs = len(next(iter(timeseries.values()))), self.variables.tensor_kwargs
        for name in self.variables.info.keys() - timeseries.keys():
            # Declared by a class of the user's, and set by nothing.
            timeseries[name] = torch.zeros(rows, *self.variables.shape(name), **kwargs)
        self.variables.forget()
        self.variables.set_timeseries(timeseries)
        self.state = self.prior = {name: path[-1] for name, path in timeseries.items()}
        self.history = {}
        return timeseries


_PERIOD = ("initialize", "step", "apply_parameter_shocks")
"""What a behavior overrides if it changes what a period does."""
_RECORD = ["initialize_tensors", "new_state", "record_state", "update_history", "gather_timeseries"]
"""What a class of variables overrides if it changes what a run returns."""


def records_as_usual(variables: Variables) -> bool:
    return all(getattr(type(variables), name) is getattr(Variables, name) for name in _RECORD)


@functools.lru_cache(maxsize=256)
def _steady_state(definition: Definition) -> Callable[..., dict[str, torch.Tensor]]:
    if definition.random or definition.random_start:
        raise NotImplementedError(f"{definition.name} is random: it has no steady state.")

    def function(params: Any, scenario: Any) -> dict[str, Any]:
        state = steady_state(
            definition, definition.Params(**params), definition.Scenario(**scenario)
        )
        return {key: getattr(state, key) for key in state.fields}

    return torch_function(function, name=f"{definition.name}_steady_state")


class LibraryModel(Model):
    """A library model with its components; `definition` is its declaration in `macrostat_jax`.

    Arguments are those of `macrostat.core.Model`; `behavior` defaults to the model's own.

    Attributes:
        noise: of a random model, its random inputs in place of those that `hyper["seed"]` gives, for
            simulations, derivatives, estimation and samples alike: field -> tensor of shape
            (timesteps - timesteps_initialization, *shape), with one row more, the first, where the
            initial state is random. `simulate(noise=...)` is for one run.
    """

    definition: ClassVar[Definition]
    behavior_class: ClassVar[type[LibraryBehavior]]

    def __init__(
        self,
        parameters: Parameters | Mapping[str, Any] | None = None,
        variables: Variables | Mapping[str, Any] | None = None,
        scenarios: Scenarios | Mapping[str, Any] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        behavior: type[Behavior] | None = None,
        name: str | None = None,
        log_level: int = logging.INFO,
        log_file: os.PathLike | str | None = None,
    ) -> None:
        super().__init__(
            parameters=parameters,
            hyperparameters=hyperparameters,
            scenarios=scenarios,
            variables=variables,
            behavior=self.behavior_class if behavior is None else behavior,
            name=self.definition.name if name is None else name,
            log_level=log_level,
            log_file=log_file,
        )
        self.noise: Mapping[str, Any] | None = None

    def _instance(self, scenario: int | str, kwargs: dict[str, Any]) -> Behavior:
        found = super()._instance(scenario, kwargs)
        if isinstance(found, LibraryBehavior) and found.noise is None:
            found.noise = self.noise
        return found
