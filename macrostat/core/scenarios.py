"""Scenarios: exogenous series and parameter shocks over time."""

from __future__ import annotations

import colorsys
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch

from . import _files
from ._dtype import output_dtype
from .parameters import Parameters

logger = logging.getLogger(__name__)

_INFO_KEYS = {"Name", "Colour", "Index"}
_DATES = "datetime64[", "timedelta64[", "period["
KIND = "Scenarios"
"""What their files hold."""


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
        series, dtype = {}, output_dtype(self.parameters.hyper)
        for key, value in self.get_default_scenario_values().items():
            if isinstance(value, int | float):
                series[key] = torch.full((horizon, 1), value, dtype=dtype, device="cpu")
                continue
            row = as_tensor(value).to(dtype)
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
        """The number of the scenario of that name; `ValueError` if there is none.

        `Scenario.1: Drop in alpha1`, as the published package calls it, is scenario 1, `Drop in alpha1`.
        """
        for number, info in self.info.items():
            if scenario in (info["Name"], f"Scenario.{number}: {info['Name']}"):
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
                Series, which fills its own length, after which the default resumes.
            name: default `Scenario.<number>`.
            colour: for pictures, `#rrggbb`.

        Raises:
            KeyError: a series that the default scenario lacks. ValueError: a value of a wrong
                shape or that is not finite, more values than there are periods from the trigger on, or
                a trigger beyond the horizon. The scenario is then not added.
        """
        import pandas as pd

        number = max(self.info) + 1
        horizon = self.parameters["timesteps"]
        if timeseries and self.trigger >= horizon:
            raise ValueError(
                f"Scenario {name or number!r} would change nothing: scenario_trigger is {self.trigger}, "
                f"and there are {horizon} timesteps."
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
        value = as_tensor(value).detach().to(path)
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"Series {key!r} must be finite: it has NaN or infinite values.")
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
        length = len(value)
        if length > len(room):
            raise ValueError(
                f"Series {key!r} has {length} values, but there are {len(room)} periods from the trigger "
                f"({self.trigger}) to the end."
            )
        room[:length] = value.reshape(length, *shape)

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

    # All of them hold all scenarios over the whole horizon and read back what was written.

    def to_json(self, json_path: os.PathLike | str) -> None:
        _files.write_json(json_path, self.document())

    @classmethod
    def from_json(cls, json_path: os.PathLike | str, parameters: Parameters | None = None) -> Self:
        """Scenarios from a file that `to_json` wrote; `parameters` must have the same horizon.

        Files of the published package, whose series begin at the trigger, are read as well.

        Raises:
            KeyError: a series that the default scenario lacks. ValueError: what is no such file, or
                series of another horizon or shape. Both name the file.
        """
        found = cls(parameters=parameters)
        with _files.reading(json_path):
            found.take_document(_files.read_json(json_path))
        return found

    def to_csv(self, csv_path: os.PathLike | str) -> None:
        """Writes a table: a row per scenario and period, a column per series or element of one.

        In front of it is a line `# {...}` with names, colours and labels, so that
        `pandas.read_csv(path, skiprows=1)` reads the table.

        Raises:
            ValueError: scenarios of different series or lengths, which no table can hold.
        """
        self._write_table(csv_path, "csv")

    @classmethod
    def from_csv(cls, csv_path: os.PathLike | str, parameters: Parameters | None = None) -> Self:
        """Scenarios from a file that `to_csv` wrote; errors as from `from_json`."""
        return cls._read_table(csv_path, "csv", parameters)

    def to_excel(self, excel_path: os.PathLike | str) -> None:
        """Writes the table of `to_csv` as the sheet `Scenarios`. Needs openpyxl."""
        self._write_table(excel_path, "excel")

    @classmethod
    def from_excel(
        cls, excel_path: os.PathLike | str, parameters: Parameters | None = None
    ) -> Self:
        """Scenarios from a workbook that `to_excel` wrote; errors as from `from_json`."""
        return cls._read_table(excel_path, "excel", parameters)

    def to_parquet(self, parquet_path: os.PathLike | str) -> None:
        """Writes the table of `to_csv`, the rest in its metadata. Needs pyarrow."""
        self._write_table(parquet_path, "parquet")

    @classmethod
    def from_parquet(
        cls, parquet_path: os.PathLike | str, parameters: Parameters | None = None
    ) -> Self:
        """Scenarios from a file that `to_parquet` wrote; errors as from `from_json`."""
        return cls._read_table(parquet_path, "parquet", parameters)

    def _write_table(self, path: os.PathLike | str, form: str) -> None:
        import pandas as pd

        keys = list(self.timeseries[0])
        lengths = {}
        for number, series in self.timeseries.items():
            found = {len(path) for path in series.values()}
            if series.keys() != set(keys) or len(found) > 1:
                raise ValueError(
                    f"Scenario {number} has other series than scenario 0, or series of different "
                    f"lengths: a table cannot hold it. Write JSON."
                )
            lengths[number] = found.pop() if found else 0
        columns: dict[str, Any] = {
            "Scenario": np.repeat(list(lengths), list(lengths.values())),
            "Period": np.concatenate([np.arange(length) for length in lengths.values()]),
        }
        shapes = {}
        for key in keys:
            rows = torch.cat([series[key] for series in self.timeseries.values()])
            shapes[key] = list(rows.shape[1:])
            names = _files.element_names(key, shapes[key])
            flat = _files.numeric(rows, f"series {key!r}").reshape(len(rows), -1)
            _files.add_columns(columns, names, flat)
        details = {"Series": shapes, **self._details()}
        _files.write_table(path, form, pd.DataFrame(columns), KIND, details)

    @classmethod
    def _read_table(cls, path: os.PathLike | str, form: str, parameters: Parameters | None) -> Self:
        found = cls(parameters=parameters)
        with _files.reading(path):
            table, content = _files.read_table(path, form, KIND)
            counts = _files.take_columns(table, ["Scenario", "Period"])
            numbers = _files.column_tensor(
                counts["Scenario"].to_numpy(), torch.int64, "'Scenario'"
            ).numpy()
            periods = _files.column_tensor(
                counts["Period"].to_numpy(), torch.int64, "'Period'"
            ).numpy()
            dtype = output_dtype(found.parameters.hyper)
            # A model without series has no rows, and scenarios all the same.
            named = [n for n in _files.entry(content, "ScenarioDetails") if n.isdigit()]
            for number in dict.fromkeys([*map(int, named), *numbers.tolist()]):
                rows = numbers == number
                if not np.array_equal(periods[rows], np.arange(rows.sum())):
                    raise ValueError(
                        f"the periods of scenario {number} must be 0 to {rows.sum() - 1}, in order."
                    )
                content[f"Scenario.{number}"] = series = {}
                for key, shape in _files.entry(content, "Series").items():
                    names = _files.element_names(key, _files.as_shape(shape, f"series {key!r}"))
                    cells = _files.take_columns(table, names).to_numpy()[rows]
                    path_ = _files.column_tensor(cells, dtype, f"series {key!r}")
                    series[key] = path_.reshape(len(path_), *shape)
            found.take_document(content)
        return found

    def document(self) -> dict[str, Any]:
        """All scenarios as one JSON document."""
        content: dict[str, Any] = {_files.STAMP: _files.stamp(KIND)}
        for number, series in self.timeseries.items():
            content[f"Scenario.{number}"] = {
                key: (path[:, 0] if path.shape[1:] == (1,) else path).tolist()
                for key, path in series.items()
            }
        return content | self._details()

    def _details(self) -> dict[str, Any]:
        return {
            "CalibrationVariables": self.calibration_variables,
            "ScenarioDetails": {
                str(number): {**info, **_labels(info["Index"])}
                for number, info in self.info.items()
            },
        }

    def take_document(self, content: Mapping[str, Any]) -> None:
        """Replaces all scenarios by those of such a document."""
        _files.check_stamp(content.get(_files.STAMP), KIND)
        info, timeseries = {}, {}
        for label, details in _files.entry(content, "ScenarioDetails").items():
            if not (label.isascii() and label.isdigit()):
                raise ValueError(f"'ScenarioDetails': {label!r} is no number of a scenario.")
            info[int(label)] = _info(details, f"scenario {label}")
            timeseries[int(label)] = self._series_of(content, int(label))
        named = {key for key in content if key.startswith("Scenario.")}
        if extra := named - {f"Scenario.{number}" for number in info}:
            raise ValueError(f"'ScenarioDetails' has nothing on {', '.join(sorted(extra))}.")
        if 0 not in info:
            raise ValueError("scenario 0, the default one, is missing.")
        trainable = content.get("CalibrationVariables", [])
        if not isinstance(trainable, list) or not all(isinstance(key, str) for key in trainable):
            raise ValueError("'CalibrationVariables' must be a list of names.")
        self.timeseries, self.info = timeseries, info
        self.calibration_variables = trainable
        self.verify_scenario_info()

    def _series_of(self, content: Mapping[str, Any], number: int) -> dict[str, torch.Tensor]:
        series = self.get_default_scenario()
        for key, values in _files.entry(content, f"Scenario.{number}").items():
            if key not in series:
                raise KeyError(
                    f"Key {key} not found in scenario {number}. Add it to the default scenario. "
                    f"There are: {', '.join(series)}."
                )
            path, what = series[key], f"scenario {number}: {key!r}"
            if not isinstance(values, torch.Tensor):
                values = _files.as_tensor(values, str(path.dtype), what)
            length = len(values) if values.dim() else 1
            if values.numel() != length * path.shape[1:].numel():
                raise ValueError(
                    f"{what} must have rows of shape {tuple(path.shape[1:])}, not "
                    f"{tuple(values.shape[1:])}."
                )
            start = 0 if length == len(path) else self.trigger
            if start + length != len(path):
                raise ValueError(
                    f"Scenario {number}: {key!r} has {length} periods in the file, the "
                    f"parameters ask for {len(path)} with trigger {self.trigger}."
                )
            path[start:] = values.reshape(-1, *path.shape[1:])
        return series


def _info(details: Any, what: str) -> dict[str, Any]:
    found = dict(_files.as_mapping(details, what))
    kind = found.pop("IndexType", None)
    for key in ("Name", "Colour"):
        if not isinstance(found.get(key), str):
            raise ValueError(f"{what}: {key!r} must be a text, not {found.get(key)!r}.")
    if not isinstance(found.get("Index"), list):
        raise ValueError(f"{what}: 'Index' must be a list.")
    found["Index"] = _from_labels(found["Index"], kind, what)
    return found


def as_tensor(value: Any) -> torch.Tensor:
    """Numbers, lists, arrays and frames as a tensor of its own memory, in full precision."""
    if isinstance(value, torch.Tensor):
        return value
    return torch.from_numpy(np.array(value, dtype=float))


def _labels(index: Any) -> dict[str, Any]:
    """Labels of periods as JSON knows them; dates and periods are texts, by the name of their type."""
    import pandas as pd

    found = pd.Index(list(index), tupleize_cols=False)
    kind = str(found.dtype)
    if kind.startswith(_DATES):
        return {"Index": [str(label) for label in found], "IndexType": kind}
    if found.dtype.kind in "biuf":
        return {"Index": found.tolist(), "IndexType": kind}
    labels = [_files.encode(label, "the index of a scenario") for label in found]
    return {"Index": labels, "IndexType": "object"}


def _from_labels(labels: list[Any], kind: Any, what: str) -> np.ndarray:
    import pandas as pd

    if kind is None:
        return np.asarray(labels)  # a file without a version
    if isinstance(kind, str) and kind.startswith(_DATES):
        try:
            return pd.Index(labels, dtype=kind).to_numpy()
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{what}: 'Index' are no {kind}: {error}") from error
    if kind in ("bool", "int64", "uint64", "float64"):
        return np.asarray(labels, dtype=kind)
    if kind != "object":
        raise ValueError(f"{what}: there is no 'IndexType' {kind!r}.")
    found = np.empty(len(labels), dtype=object)
    found[:] = [_files.decode(label) for label in labels]
    return found


def _hue(number: int) -> str:
    """A colour per scenario, the same in every run: neighbours differ by the golden angle."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618 % 1.0, 0.75, 0.8)
    return f"#{int(red * 255):02x}{int(green * 255):02x}{int(blue * 255):02x}"
