"""Scenarios: exogenous series and parameter shocks over time."""

from __future__ import annotations

import colorsys
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from ._dtype import output_dtype
from .parameters import Parameters

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

_INFO_KEYS = {"Name", "Colour", "Index"}


class Scenarios:
    """The scenarios of a model; number 0 is the default one.

    Attributes:
        timeseries: scenario number -> series -> tensor of shape (timesteps, 1), or
            (timesteps, *shape) for series whose default value has a shape.
        info: scenario number -> {"Name", "Colour", "Index"}; "Index" labels the periods from the
            trigger on.
        trigger: the period (0-based) from which scenarios depart from the default one.

    Args:
        parameters: give the horizon and the trigger.
        scenarios: name -> timeseries, each added as by `add_scenario`.
        scenario_info: scenario number -> info, in place of what is made up.
        calibration_variables: the series that `to_nn_parameters` makes trainable.
    """

    def __init__(
        self,
        parameters: Parameters | None = None,
        scenarios: Mapping[str, Mapping[str, Any]] | None = None,
        scenario_info: Mapping[int, dict[str, Any]] | None = None,
        calibration_variables: Sequence[str] | None = None,
    ) -> None:
        self.parameters = Parameters() if parameters is None else parameters
        self.trigger: int = self.parameters["scenario_trigger"]
        if self.trigger < 0:
            raise ValueError(f"scenario_trigger must not be negative, but is {self.trigger}.")
        self.timeseries: dict[int, dict[str, torch.Tensor]] = {0: self.get_default_scenario()}
        self.info: dict[int, dict[str, Any]] = {0: self._new_info("Scenario.0", "#000000")}
        self.calibration_variables = list(calibration_variables or [])
        self.current_scenario = 0
        for name, timeseries in (scenarios or {}).items():
            self.add_scenario(timeseries=timeseries, name=name)
        self.info.update(scenario_info or {})
        self.verify_scenario_info()

    # What a model declares --------------------------------------------------------------------

    def get_default_scenario_values(self) -> dict[str, Any]:
        """Series -> its value in every period: a number, or a tensor of the series' shape."""
        return {}

    def get_default_scenario(self) -> dict[str, torch.Tensor]:
        """The default values as series of shape (timesteps, 1) or (timesteps, *shape)."""
        horizon = self.parameters["timesteps"]
        series = {}
        for key, value in self.get_default_scenario_values().items():
            row = _tensor(value).to(output_dtype(self.parameters.hyper))
            row = row.reshape(1) if row.dim() == 0 else row
            series[key] = row.expand(horizon, *row.shape).clone()
        return series

    def vectorize_scenarios(self, timeseries: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A hook: what the behavior gets in place of `timeseries`."""
        return timeseries

    # Access -----------------------------------------------------------------------------------

    def __getitem__(self, item: tuple[int | str, str]) -> torch.Tensor:
        """`scenarios[id or name, series]`."""
        if not isinstance(item, tuple) or len(item) != 2:
            raise TypeError(f"Write scenarios[id or name, series], not scenarios[{item!r}].")
        scenario, variable = item
        series = self.timeseries[self.find(scenario)]
        if variable not in series:
            raise KeyError(f"There is no series {variable!r}. There are: {', '.join(series)}.")
        return series[variable]

    def get_scenario_index(self, scenario: str) -> int:
        """The number of the scenario of that name; `ValueError` if there is none."""
        for number, info in self.info.items():
            if info["Name"] == scenario:
                return number
        known = ", ".join(repr(info["Name"]) for info in self.info.values())
        raise ValueError(f"Scenario {scenario} not found. There are: {known}.")

    def find(self, scenario: int | str) -> int:
        """The number of a scenario. Unknown numbers are a `KeyError`, names a `ValueError`."""
        if isinstance(scenario, str):
            return self.get_scenario_index(scenario)
        if scenario not in self.timeseries:
            raise KeyError(f"There is no scenario {scenario}. There are: {list(self.timeseries)}.")
        return scenario

    def add_scenario(
        self, timeseries: Mapping[str, Any], name: str | None = None, colour: str | None = None
    ) -> None:
        """Adds a scenario: the default one with some series changed from the trigger on.

        Args:
            timeseries: series -> a number, which holds to the end; or a list, tensor, array or
                Series, which fills its own length, after which the default resumes. What exceeds
                the horizon is cut off, with a logged warning.
            name: default `Scenario.<number>`.
            colour: for pictures, `#rrggbb`.

        Raises:
            KeyError: a series that the default scenario lacks. ValueError: a value of a wrong
                shape. The scenario is then not added.
        """
        import pandas as pd

        number = max(self.info) + 1
        if timeseries and self.trigger >= self.parameters["timesteps"]:
            logger.warning(
                "Scenario %r changes nothing: its trigger is %d, and there are %d timesteps.",
                name or number,
                self.trigger,
                self.parameters["timesteps"],
            )
        series = self.get_default_scenario()
        info = self._new_info(
            f"Scenario.{number}" if name is None else name, colour or _hue(number)
        )
        for key, value in timeseries.items():
            if key not in series:
                raise KeyError(
                    f"Key {key} not found in scenario {number}. Add it to the default scenario. "
                    f"There are: {', '.join(series)}."
                )
            self._splice(key, series[key], value)
            if isinstance(value, pd.Series | pd.DataFrame):
                info["Index"] = value.index.to_numpy()
        if any(info["Name"] == other["Name"] for other in self.info.values()):
            logger.warning(
                "There already is a scenario named %r; by name, the first one is found.",
                info["Name"],
            )
        self.timeseries[number], self.info[number] = series, info

    def _splice(self, key: str, path: torch.Tensor, value: Any) -> None:
        value = _tensor(value).detach().to(path)
        room, shape = path[self.trigger :], path.shape[1:]
        if value.dim() == 0 or (value.shape == shape and shape != (1,)):
            room[...] = value
            return
        width = shape.numel()
        if value.numel() % width or value.numel() // width != len(value):
            raise ValueError(
                f"Series {key!r} takes a number or rows of shape {tuple(shape)}, not an array of "
                f"shape {tuple(value.shape)}."
            )
        if len(value) > len(room):
            logger.warning("%r: %d of its %d values fit.", key, len(room), len(value))
        length = min(len(value), len(room))
        room[:length] = value[:length].reshape(length, *shape)

    def _new_info(self, name: str, colour: str) -> dict[str, Any]:
        periods = max(self.parameters["timesteps"] - self.trigger, 0)
        return {"Name": name, "Colour": colour, "Index": np.arange(periods)}

    def verify_scenario_info(self) -> None:
        """Raises `ValueError` unless all scenarios have series, and info of the three keys."""
        if self.info.keys() != self.timeseries.keys():
            raise ValueError(
                "There should be a one-to-one mapping between scenario info and timeseries: "
                f"{sorted(self.info)} against {sorted(self.timeseries)}."
            )
        for number, info in self.info.items():
            if info.keys() != _INFO_KEYS:
                raise ValueError(
                    f"Scenario info for scenario {number} should have the keys "
                    f"{sorted(_INFO_KEYS)}, not {sorted(info)}."
                )

    def to_nn_parameters(self, scenario: int | str = 0) -> torch.nn.ParameterDict:
        """The series of a scenario as leaves; those in `calibration_variables` are trainable.

        They are copies: training them leaves `timeseries` as it is.
        """
        self.current_scenario = self.find(scenario)
        series = self.timeseries[self.current_scenario]
        horizon = self.parameters["timesteps"]
        for key, path in series.items():
            if len(path) != horizon:
                raise ValueError(
                    f"Scenario series {key!r} has {len(path)} periods, but timesteps is {horizon}: "
                    f"make the scenarios anew from the changed parameters."
                )
        dtype, device = output_dtype(self.parameters.hyper), self.parameters["device"]
        leaves = {}
        for key, value in self.vectorize_scenarios(series).items():
            tensor = value.detach().to(device=device, dtype=dtype, copy=True)
            trainable = key in self.calibration_variables
            leaves[key] = torch.nn.Parameter(tensor, requires_grad=trainable)
        return torch.nn.ParameterDict(leaves)

    # Files ------------------------------------------------------------------------------------

    def to_json(self, json_path: os.PathLike | str) -> None:
        """Writes all scenarios over the whole horizon."""
        Path(json_path).write_text(json.dumps(self.document()), encoding="utf-8")

    @classmethod
    def from_json(cls, json_path: os.PathLike | str, parameters: Parameters | None = None) -> Self:
        """Scenarios from a file that `to_json` wrote; `parameters` must have the same horizon.

        Files of the published package, whose series begin at the trigger, are read as well.
        """
        found = cls(parameters=parameters)
        found.take_document(json.loads(Path(json_path).read_text(encoding="utf-8")))
        return found

    def document(self) -> dict[str, Any]:
        """All scenarios as one JSON document."""
        content: dict[str, Any] = {
            f"Scenario.{number}": {
                key: (path[:, 0] if path.shape[1:] == (1,) else path).tolist()
                for key, path in series.items()
            }
            for number, series in self.timeseries.items()
        }
        content["CalibrationVariables"] = self.calibration_variables
        content["ScenarioDetails"] = {
            number: {**info, "Index": [_plain(label) for label in info["Index"]]}
            for number, info in self.info.items()
        }
        return content

    def take_document(self, content: Mapping[str, Any]) -> None:
        """Replaces all scenarios by those of such a document."""
        details = {int(number): dict(info) for number, info in content["ScenarioDetails"].items()}
        timeseries = {}
        for number, info in details.items():
            info["Index"] = np.asarray(info["Index"])
            timeseries[number] = self.get_default_scenario()
            for key, values in content[f"Scenario.{number}"].items():
                if key not in timeseries[number]:
                    raise KeyError(
                        f"Key {key} not found in scenario {number}. Add it to the default scenario."
                    )
                path = timeseries[number][key]
                start = 0 if len(values) == len(path) else self.trigger
                if start + len(values) != len(path):
                    raise ValueError(
                        f"Scenario {number}: {key!r} has {len(values)} periods in the file, the "
                        f"parameters ask for {len(path)} with trigger {self.trigger}."
                    )
                path[start:] = torch.tensor(values, dtype=path.dtype).reshape(-1, *path.shape[1:])
        self.timeseries, self.info = timeseries, details
        self.calibration_variables = list(content.get("CalibrationVariables", []))
        self.verify_scenario_info()


def _tensor(value: Any) -> torch.Tensor:
    """Numbers, lists, arrays and frames as a tensor of its own memory, in full precision."""
    if isinstance(value, torch.Tensor):
        return value
    return torch.from_numpy(np.array(value, dtype=float))


def _plain(label: Any) -> Any:
    """An index label as JSON knows it; dates become ISO text."""
    import pandas as pd

    if isinstance(label, np.datetime64 | pd.Timestamp):
        return str(label)
    return label.item() if isinstance(label, np.generic | torch.Tensor) else label


def _hue(number: int) -> str:
    """A colour per scenario, the same in every run: neighbours differ by the golden angle."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1.0, 0.75, 0.8)
    return f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"
