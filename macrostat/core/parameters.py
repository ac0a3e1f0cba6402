"""Parameters, hyperparameters and data of a model."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from . import _parameter_files as files
from . import constraints as _constraints
from ._checks import BoundaryError as BoundaryError
from ._checks import check_data, check_hyperparameter, check_order, check_value, number, require
from ._dtype import output_dtype
from ._files import read_json, reading, write_json
from .constraints import ConstraintResolver, LinearConstraint

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

OPTIONAL_HYPERPARAMETERS = frozenset(
    {
        "sectors",
        "iosectors",
        "vector_sectors",
        "dtype",
        "sigmoid_constant",
        "tanh_constant",
        "min_constant",
        "max_constant",
    }
)
"""What the core reads if it is there: always accepted, declared or not."""


_IMMUTABLE = (str, int, float, bool, type(None))


def _copied(entry: Mapping[str, Any]) -> dict[str, Any]:
    """`copy.deepcopy` of a dict, most of whose values need none: half the time of building a model."""
    return {k: v if isinstance(v, _IMMUTABLE) else copy.deepcopy(v) for k, v in entry.items()}


def _copies(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: _copied(entry) for name, entry in entries.items()}


class Parameters:
    """The parameters of a model.

    Attributes:
        values: name -> {"value", "lower bound", "upper bound", "unit", "notation"}; numbers are
            Python numbers, in full precision.
        hyper: settings that are no parameters of the economics: the horizon `timesteps`, ...
        data: name -> {"value": tensor, "lower_bound", "upper_bound", "unit", "notation"}.

    Args:
        parameters: name -> number, or name -> entries that replace those of the default.
        hyperparameters: name -> value.
        data_parameters: name -> array, or name -> entries that replace those of the default.
        bounds: name -> (lower, upper), for parameters.

    A class that declares no parameters (`get_default_parameters` is empty) takes those it is given.

    Raises:
        KeyError: a name that is not declared.
        BoundaryError: missing or contradictory bounds, or a value outside of them.
        ConstraintError: constraints that cannot hold.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        data_parameters: Mapping[str, Any] | None = None,
        *,
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        # Copies, because a subclass may hand out dicts that it keeps.
        self.values: dict[str, dict[str, Any]] = _copies(self.get_default_parameters())
        self.hyper: dict[str, Any] = _copied(self.get_default_hyperparameters())
        self._resolver: tuple[Any, ConstraintResolver] | None = None
        self._needed_bounds = set(self.values)
        self._take_values(parameters or {}, bounds or {})
        self.update_hyper(hyperparameters or {})
        # After the hyperparameters, which may say how many sectors the data are of.
        self.data: dict[str, dict[str, Any]] = _copies(self.get_default_data_parameters())
        for name, entry in (data_parameters or {}).items():
            require(name, self.data, "data parameter")
            self.data[name].update(entry if isinstance(entry, Mapping) else {"value": entry})
        for entry in self.values.values():
            entry["value"] = number(entry.get("value"))
        for entry in self.data.values():
            entry["value"] = self._tensor(entry["value"])
        self.verify_bounds()
        self.verify_constraints()
        self.enforce_constraints()
        self.verify_parameters()

    def _take_values(self, given: Mapping[str, Any], bounds: Mapping[str, Any]) -> None:
        declared = bool(self.values)
        for name, entry in given.items():
            if declared:
                require(name, self.values, "parameter")
            target = self.values.setdefault(name, {"unit": ".", "notation": name})
            target.update(entry if isinstance(entry, Mapping) else {"value": entry})
            if "value" not in target:
                raise ValueError(f"Parameter {name!r} has no value.")
            self._needed_bounds.add(name)
        for name, (low, high) in bounds.items():
            require(name, self.values, "parameter")
            self.values[name].update({"lower bound": low, "upper bound": high})

    def update_hyper(self, hyperparameters: Mapping[str, Any]) -> None:
        """Changes hyperparameters; one that neither class nor core knows is a `KeyError`."""
        for name in hyperparameters:
            if name not in OPTIONAL_HYPERPARAMETERS:
                require(name, self.hyper, "hyperparameter")
        for name, value in hyperparameters.items():
            check_hyperparameter(name, value)
        self.hyper.update(hyperparameters)

    # What a model declares --------------------------------------------------------------------

    def get_default_parameters(self) -> dict[str, dict[str, Any]]:
        return {}

    def get_default_hyperparameters(self) -> dict[str, Any]:
        return {
            "timesteps": 100,
            "timesteps_initialization": 10,
            "scenario_trigger": 0,
            "seed": 42,
            "device": "cpu",
            "requires_grad": False,
        }

    def get_default_data_parameters(self) -> dict[str, dict[str, Any]]:
        return {}

    def get_constraints(self) -> tuple[LinearConstraint, ...]:
        return ()

    # Access -----------------------------------------------------------------------------------

    def __contains__(self, key: object) -> bool:
        return key in self.values or key in self.data or key in self.hyper

    def __getitem__(self, key: str) -> Any:
        if key in self.values:
            return self.values[key]["value"]
        if key in self.data:
            return self.data[key]["value"]
        if key in self.hyper:
            return self.hyper[key]
        raise KeyError(self._unknown(key))

    def __setitem__(self, key: str, value: Any) -> None:
        """Sets a value; outside its bounds it is a `BoundaryError`, an unknown name a `KeyError`.

        The value of a parameter that a constraint derives lasts until the next export only.
        """
        if key in self.values:
            value = number(value)
            self._check_value(key, value, self.values[key])
            self.values[key]["value"] = value
        elif key in self.data:
            tensor = self._tensor(value)
            check_data(key, {**self.data[key], "value": tensor})
            self.data[key]["value"] = tensor
        elif key in self.hyper or key in OPTIONAL_HYPERPARAMETERS:
            check_hyperparameter(key, value)
            self.hyper[key] = value
        else:
            raise KeyError(self._unknown(key))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raises `TypeError`: `behavior.parameters` is this object, and not the method of `torch.nn.Module`."""
        raise TypeError(
            "The parameters of a model are no function: an optimiser takes behavior.params.values()."
        )

    def _unknown(self, key: str) -> str:
        known = ", ".join([*self.values, *self.data, *self.hyper])
        return f"{key!r} is no parameter, data or hyperparameter. There are: {known}."

    def __str__(self) -> str:
        width = max([len(key) for key in [*self.hyper, *self.values, *self.data]] + [10])

        def line(key: str, text: str) -> str:
            return f"  {key:.<{width}} {text}"

        rows = ["Hyperparameters:", *(line(k, f"{v}") for k, v in self.hyper.items())]
        rows += ["", "Parameters:"]
        for key, info in self.values.items():
            rows.append(line(key, f"{info['value']:.5g} ({info.get('unit', '.')})"))
        if self.data:
            rows += ["", "Data Parameters:"]
            for key, info in self.data.items():
                rows.append(line(key, f"{tuple(info['value'].shape)} ({info.get('unit', '.')})"))
        return "\n".join(rows) + "\n"

    def get_bounds(self) -> dict[str, tuple[Any, Any]]:
        """Name -> (lower, upper), of parameters and data; None where data have no bound."""
        found = {k: (i["lower bound"], i["upper bound"]) for k, i in self.values.items()}
        return found | {
            k: (i.get("lower_bound"), i.get("upper_bound")) for k, i in self.data.items()
        }

    def get_values(self) -> dict[str, float]:
        self.enforce_constraints()
        return {key: info["value"] for key, info in self.values.items()}

    def get_data_values(self) -> dict[str, torch.Tensor]:
        return {key: info["value"] for key, info in self.data.items()}

    def get_all_values(self) -> dict[str, Any]:
        return {**self.get_values(), **self.get_data_values()}

    def get_free_param_names(self) -> list[str]:
        """The scalar parameters that no constraint derives, in declared order."""
        derived = {constraint.derived_param for constraint in self.get_constraints()}
        return [name for name in self.values if name not in derived]

    def is_equal(self, other: Parameters) -> bool:
        """Whether values, hyperparameters and data agree exactly."""
        return (
            self.values == other.values
            and self.hyper == other.hyper
            and self.data.keys() == other.data.keys()
            and all(torch.equal(self.data[k]["value"], other.data[k]["value"]) for k in self.data)
        )

    def set_bound(self, key: str, value: tuple[float, float]) -> None:
        """Sets the bounds (lower, upper) of a parameter.

        Raises:
            KeyError: an unknown parameter. BoundaryError: lower above upper, or bounds that exclude
                the present value; the bounds then stay as they were.
        """
        require(key, self.values, "parameter")
        low, high = value
        info = {**self.values[key], "lower bound": low, "upper bound": high}
        check_order(f"Parameter {key}", low, high)
        self._check_value(key, info["value"], info)
        self.values[key] = info

    def set_notation(self, key: str, value: str) -> None:
        require(key, self.values, "parameter")
        self.values[key]["notation"] = value

    def set_unit(self, key: str, value: str) -> None:
        require(key, self.values, "parameter")
        self.values[key]["unit"] = value

    # Checks -----------------------------------------------------------------------------------

    def verify_bounds(self) -> None:
        """Raises `BoundaryError` where bounds are missing or the lower exceeds the upper one."""
        missing = {
            name
            for name in self._needed_bounds
            for side in ("lower bound", "upper bound")
            if self.values[name].get(side) is None
        }
        if missing:
            raise BoundaryError(f"Missing bounds for parameters: {sorted(missing)}.")
        for name, info in self.values.items():
            check_order(f"Parameter {name}", info["lower bound"], info["upper bound"])
        for name, info in self.data.items():
            low, high = info.get("lower_bound"), info.get("upper_bound")
            if low is not None and high is not None:
                check_order(f"Data parameter {name}", low, high)

    def verify_parameters(self) -> None:
        """Raises `BoundaryError` where a value is not within its bounds."""
        for name, info in self.values.items():
            self._check_value(name, info["value"], info)
        for name, info in self.data.items():
            check_data(name, info)

    def verify_constraints(self) -> None:
        """Raises `ConstraintError` where constraints contradict each other or the parameters."""
        constraints = self.get_constraints()
        if not constraints:
            return
        _constraints.verify(constraints, self.values, self.get_constraint_resolver())
        for constraint in constraints:
            total = sum(self.values[name]["value"] for name in constraint.param_names)
            if abs(total - constraint.target) > 1e-6:
                logger.warning(
                    "Constraint violation: %s sum to %.8f, not %.8f. '%s' is adjusted.",
                    constraint.param_names,
                    total,
                    constraint.target,
                    constraint.derived_param,
                )

    def enforce_constraints(self) -> None:
        """Gives every derived parameter the value that the free ones leave for it."""
        for constraint in self.get_constraints():
            self.values[constraint.derived_param]["value"] = constraint.implied(self.values)

    def _check_value(self, name: str, value: float, info: Mapping[str, Any]) -> None:
        derived = any(name == constraint.derived_param for constraint in self.get_constraints())
        check_value(name, value, info, _constraints.ROUNDING if derived else 0.0)

    # Tensors ----------------------------------------------------------------------------------

    def get_constraint_resolver(self) -> ConstraintResolver:
        """Where each parameter lives among the tensors; cached until names or sectors change."""
        sectors = self.hyper.get("vector_sectors") or ()
        key = (tuple(self.values), tuple(sectors))
        if self._resolver is None or self._resolver[0] != key:
            mapping = {name: _constraints.locate(name, sectors) for name in self.values}
            self._resolver = key, ConstraintResolver(mapping)
        return self._resolver[1]

    def vectorize_parameters(self) -> dict[str, torch.Tensor]:
        """The parameters as tensors: 0-d scalars, vectors (n,), matrices (n, n), and the data.

        n is the number of `vector_sectors`, in sorted order; a slot that no parameter names is 0.
        """
        self.enforce_constraints()
        resolver = self.get_constraint_resolver()
        size = len(self.hyper.get("vector_sectors") or ())
        arrays: dict[str, np.ndarray] = {}
        for name, info in self.values.items():
            place = resolver.locate(name)
            index = place.index or ()
            if place.tensor_key not in arrays:
                arrays[place.tensor_key] = np.zeros((size,) * len(index))
            elif arrays[place.tensor_key].ndim != len(index) or not index:
                raise ValueError(
                    f"Parameter {name!r} would share the tensor {place.tensor_key!r} with a "
                    f"parameter of another shape or name."
                )
            arrays[place.tensor_key][index] = info["value"]
        kwargs: dict[str, Any] = {"device": self.hyper["device"], "dtype": output_dtype(self.hyper)}
        tensors = {key: torch.tensor(array, **kwargs) for key, array in arrays.items()}
        for name, info in self.data.items():
            if name in tensors:
                raise KeyError(
                    f"Data parameter {name!r} collides with a parameter's tensor of that name."
                )
            tensors[name] = (
                torch.as_tensor(info["value"], device="cpu").detach().to(**kwargs, copy=True)
            )
        return tensors

    def to_nn_parameters(self) -> torch.nn.ParameterDict:
        """`vectorize_parameters` as trainable leaves."""
        return torch.nn.ParameterDict(self.vectorize_parameters())

    @staticmethod
    def _tensor(value: Any) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value
        return torch.tensor(np.asarray(value), dtype=torch.get_default_dtype(), device="cpu")

    # Files ------------------------------------------------------------------------------------

    # All of them read back what was written: values in full precision, hyperparameters with their
    # types, data with bounds and dtype. A class that declares parameters keeps its defaults for
    # what a file lacks. What a file holds is never run.

    @classmethod
    def from_json(cls, file_path: os.PathLike | str) -> Self:
        """Parameters from a file that `to_json` wrote, here or in the published package.

        Raises:
            KeyError: a name that the class does not declare.
            ValueError: what is no such file, or breaks a rule of the constructor.
            RuntimeError: a device that this machine lacks. All of them name the file.
        """
        with reading(file_path):
            return cls(**files.arguments(read_json(file_path)))

    def to_json(self, file_path: os.PathLike | str) -> None:
        """Writes everything. NaN and infinities are spelt `NaN` and `Infinity`.

        Raises:
            TypeError: a hyperparameter of a kind that no file can hold. As for all files, one that
                was there stays whole if writing fails.
        """
        self.enforce_constraints()
        write_json(file_path, files.document(self.values, self.hyper, self.data))

    @classmethod
    def from_csv(cls, file_path: os.PathLike | str) -> Self:
        """Parameters from a file that `to_csv` wrote, with its folder of data tables beside it.

        Errors as from `from_json`.
        """
        with reading(file_path):
            given = files.read_csv(file_path)
            found = cls(**given)
        folder = files.data_folder(file_path)
        # Tables of the published package, whose main table does not name them.
        for name in found.data.keys() - given.get("data_parameters", {}).keys():
            if (folder / f"{name}.csv").exists():
                found.load_data_parameter_from_file(name, folder / f"{name}.csv")
        return found

    def to_csv(self, file_path: os.PathLike | str, sphinx_math: bool = False) -> pd.DataFrame:
        """Writes one table; returns it, with parameters and hyperparameters.

        Data go into one table each, in the folder `<stem>_data` beside the file. `sphinx_math`
        wraps the notation in a Sphinx math role.
        """
        self.enforce_constraints()
        return files.write_csv(file_path, self.values, self.hyper, self.data, sphinx_math)

    @classmethod
    def from_excel(cls, file_path: os.PathLike | str) -> Self:
        """Parameters from a workbook that `to_excel` wrote; errors as from `from_json`."""
        with reading(file_path):
            return cls(**files.read_excel(file_path))

    def to_excel(self, file_path: os.PathLike | str) -> None:
        """Writes the sheet `Parameters`, the table of `to_csv`, and a sheet for each data parameter.

        Numbers that need 17 digits are cells of text. Needs openpyxl.
        """
        self.enforce_constraints()
        files.write_excel(file_path, self.values, self.hyper, self.data)

    @classmethod
    def from_parquet(cls, file_path: os.PathLike | str) -> Self:
        """Parameters from a file that `to_parquet` wrote; errors as from `from_json`."""
        with reading(file_path):
            return cls(**files.read_parquet(file_path))

    def to_parquet(self, file_path: os.PathLike | str) -> None:
        """Writes the table of `to_csv` as columns of text, data included. Needs pyarrow."""
        self.enforce_constraints()
        files.write_parquet(file_path, self.values, self.hyper, self.data)

    def load_data_parameter_from_file(
        self,
        name: str,
        file_path: os.PathLike | str,
        index_col: int | None = 0,
        header: int | None = 0,
    ) -> None:
        """Reads one data parameter from a CSV table.

        Raises:
            KeyError: an unknown data parameter. ValueError: a table of another shape.
            BoundaryError: values outside its bounds.
        """
        import pandas as pd

        require(name, self.data, "data parameter")
        # As text first: pandas' own conversion may be off in the last digit.
        table = pd.read_csv(file_path, index_col=index_col, header=header, dtype=str).astype(float)
        expected = tuple(self.data[name]["value"].shape)
        if tuple(n for n in table.shape if n != 1) != tuple(n for n in expected if n != 1):
            raise ValueError(
                f"Shape mismatch for data parameter '{name}': loaded {table.shape}, "
                f"expected {expected}."
            )
        self[name] = torch.tensor(
            table.to_numpy().reshape(expected),
            dtype=self.data[name]["value"].dtype,
            device="cpu",
        )

    def load_data_parameters_from_directory(
        self,
        data_dir: os.PathLike | str,
        mapping: Mapping[str, str] | None = None,
        **csv_kwargs: Any,
    ) -> None:
        """Reads data parameters from `<name>.csv`, or from the files that `mapping` names.

        Without `mapping`, a data parameter that has no file keeps its value (a logged warning); a
        file that `mapping` names must exist.
        """
        for name, filename in (mapping or {name: f"{name}.csv" for name in self.data}).items():
            path = Path(data_dir) / filename
            if mapping is None and not path.exists():
                logger.warning("File not found for data parameter '%s': %s", name, path)
                continue
            self.load_data_parameter_from_file(name, path, **csv_kwargs)
