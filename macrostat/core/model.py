"""The model: parameters, scenarios, variables and behavior, together."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch

from . import _files as files
from . import _parameter_files as parameter_files
from .behavior import Behavior
from .parameters import Parameters
from .scenarios import Scenarios
from .variables import Variables

KIND = "Model"
"""What its file holds."""


class Model:
    """A model that can be simulated.

    Attributes:
        parameters, scenarios, variables: the components.
        behavior: the class of the behavior; each run makes an instance of it.
        behavior_instance: the instance of the last `simulate`, or None.

    Args:
        parameters: `Parameters`, or name -> value or entries; default: the default ones.
        hyperparameters: changes to the hyperparameters, of the given `parameters` too. They hold
            for scenarios and variables that the model makes; given ones must agree with them.
        scenarios: `Scenarios`, or name -> timeseries.
        variables: `Variables`, or their `info`.
        behavior: a subclass of `Behavior`.
        name: for messages and files.
        log_level, log_file: if a file is named, what macrostat logs is written there too, from that
            level on. Nothing is logged to a file otherwise.
    """

    parameters_class: type[Parameters] = Parameters
    scenarios_class: type[Scenarios] = Scenarios
    variables_class: type[Variables] = Variables

    def __init__(
        self,
        parameters: Parameters | Mapping[str, Any] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        scenarios: Scenarios | Mapping[str, Any] | None = None,
        variables: Variables | Mapping[str, Any] | None = None,
        behavior: type[Behavior] | None = Behavior,
        name: str = "model",
        log_level: int = logging.INFO,
        log_file: os.PathLike | str | None = None,
    ) -> None:
        if isinstance(parameters, Parameters):
            parameters.update_hyper(hyperparameters or {})
        else:
            parameters = self.parameters_class(
                parameters=parameters, hyperparameters=hyperparameters
            )
        if not isinstance(scenarios, Scenarios):
            scenarios = self.scenarios_class(parameters=parameters, scenarios=scenarios)
        if not isinstance(variables, Variables):
            info = None if variables is None else dict(variables)
            variables = self.variables_class(parameters=parameters, variable_info=info)
        if behavior is None:
            behavior = Behavior
        if not (isinstance(behavior, type) and issubclass(behavior, Behavior)):
            raise TypeError(f"behavior must be a subclass of Behavior, not {behavior!r}.")
        self.parameters, self.scenarios, self.variables = parameters, scenarios, variables
        self.behavior = behavior
        self.behavior_instance: Any = None
        self.name = name
        if log_file is not None:
            _log_to(log_file, log_level)

    def _instance(self, scenario: int | str, kwargs: dict[str, Any]) -> Behavior:
        behavior = self.behavior(
            self.parameters,
            self.scenarios,
            self.variables,
            scenario=self.scenarios.find(scenario),
            **kwargs,
        )
        return behavior.to(self.parameters["device"])

    def simulate(self, scenario: int | str = 0, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Runs a scenario, without gradients.

        Args:
            scenario: its number or name.
            kwargs: for the behavior's constructor, for instance `debug=True`.

        Returns:
            Variable -> tensor of shape (timesteps + 1, n). Row 0 is the initial state.

        Raises:
            KeyError, ValueError: an unknown number or name.
        """
        self.behavior_instance = self._instance(scenario, kwargs)
        with torch.no_grad():
            return self.behavior_instance.forward()

    def get_model_training_instance(self, scenario: int | str = 0, **kwargs: Any) -> Behavior:
        """A behavior whose `forward()` is differentiable in its `params`; arguments as above."""
        return self._instance(scenario, kwargs).train()

    def compute_theoretical_steady_state(
        self, scenario: int | str = 0, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """The steady state that belongs to each period of a scenario; arguments as above.

        Returns:
            Variable -> tensor of shape (timesteps, n), which is in `variables.timeseries` too.
        """
        behavior = self._instance(scenario, kwargs)
        with torch.no_grad():
            return behavior.compute_theoretical_steady_state()

    # Files ------------------------------------------------------------------------------------

    def to_json(self, file_path: os.PathLike | str) -> None:
        """Writes `<file_path>_params.json`, `_scenarios.json` and `_variables.json`."""
        self.parameters.to_json(f"{file_path}_params.json")
        self.scenarios.to_json(f"{file_path}_scenarios.json")
        self.variables.to_json(f"{file_path}_variables.json")

    @classmethod
    def from_json(cls, file_path: os.PathLike | str) -> Self:
        """A model from the three files that `to_json` wrote, here or in the published package.

        Errors as from `Parameters.from_json`, `Scenarios.from_json`, `Variables.from_json`.
        """
        model = cls(parameters=cls.parameters_class.from_json(f"{file_path}_params.json"))
        for path, take in (
            (f"{file_path}_scenarios.json", model.scenarios.take_document),
            (f"{file_path}_variables.json", model._take_results),
        ):
            with files.reading(path):
                take(files.read_json(path))
        return model

    def save(self, path: os.PathLike | str) -> None:
        """Writes parameters, scenarios, and declaration and results of the variables as one file.

        The behavior is code and is not written: `load` takes it from the class. An interrupted
        write leaves the file that was there.

        Raises:
            TypeError: a hyperparameter, say, of a kind that no file can hold.
        """
        self.parameters.enforce_constraints()
        content = {
            files.STAMP: files.stamp(KIND),
            "model": type(self).__name__,
            "name": self.name,
            "parameters": parameter_files.document(
                self.parameters.values, self.parameters.hyper, self.parameters.data
            ),
            "scenarios": self.scenarios.document(),
            "variables": self.variables.document(),
        }
        files.write_json(path, content)

    @classmethod
    def load(cls, path: os.PathLike | str) -> Self:
        """A model from a file that `save` wrote. Reading it runs no code.

        `GL06SIM.load(path)` and `MyModel.load(path)` make models of that class, `Model.load(path)`
        makes a library model if that is what the file holds.

        Raises:
            ValueError: a file of another kind or another model, or one that is not whole.
            KeyError: a parameter, say, that the class does not declare. Both name the file.
        """
        data = Path(path).read_bytes()
        if data[:1] == b"\x80":
            raise ValueError(
                f"{path} looks like a pickle, which runs whatever code it holds when it is read. To "
                f"convert one that you trust: load it with what wrote it, call its "
                f"to_json('converted'), and then here {cls.__name__}.from_json('converted')."
            )
        with files.reading(path):
            content = files.parse_json(data)
            saved, name = content.get("model"), content.get("name")
            if not isinstance(saved, str) or not isinstance(name, str):
                raise ValueError("this was not written by Model.save.")
            files.check_stamp(content.get(files.STAMP), KIND)
            made: Any = cls
            if cls is Model and saved != "Model":
                made = _library_model(saved)
            elif saved != cls.__name__:
                raise ValueError(f"the file holds a {saved}, not a {cls.__name__}.")
            given = parameter_files.arguments(files.entry(content, "parameters"))
            model = made(parameters=made.parameters_class(**given))
            model.name = name
            model.scenarios.take_document(files.entry(content, "scenarios"))
            model._take_results(files.entry(content, "variables"))
        return model

    def _take_results(self, content: Mapping[str, Any]) -> None:
        results = Variables.arguments(content)
        self.variables.info = results["variable_info"]
        self.variables.initialize_tensors()
        self.variables.set_timeseries(results["timeseries"])


def _library_model(name: str) -> type[Model]:
    from macrostat.models import get_available_models, get_model

    if name not in get_available_models():
        raise ValueError(
            f"the file holds a {name}, which is no model of the library: load it with "
            f"{name}.load(path)."
        )
    return get_model(name)


def _log_to(path: os.PathLike | str, level: int) -> None:
    logger, name = logging.getLogger("macrostat"), os.path.abspath(path)
    if any(getattr(handler, "baseFilename", None) == name for handler in logger.handlers):
        return
    handler = logging.FileHandler(name, delay=True)
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(level)
