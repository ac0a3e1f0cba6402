"""Variables: what a model computes, its time series and its tables."""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from . import _accounts, _files
from ._dtype import output_dtype
from .parameters import Parameters

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

KIND = "Variables"
"""What their files hold."""


class Variables:
    """The variables of a model.

    Attributes:
        info: name -> {"notation", "unit", "history", "sectors", "sfc"}. "sectors" gives the shape:
            labels, integers, or names of sizes among the parameters. "sfc" lists the accounting
            roles, pairs of "Inflow", "Outflow", "Asset", "Liability" or "Index" and a sector, or a
            (sector, account). "history" is how many past values the model wants to see.
        timeseries: name -> tensor of shape (rows, *shape), from the last run.

    Args:
        variable_info: in place of what the class declares.
        timeseries: results to start with.
        parameters: give the horizon, the device and the sizes.
    """

    def __init__(
        self,
        variable_info: dict[str, dict[str, Any]] | None = None,
        timeseries: Mapping[str, torch.Tensor] | None = None,
        parameters: Parameters | Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(parameters, Parameters):
            parameters = Parameters(parameters=parameters)
        self.parameters = parameters
        self.info = self.get_default_variables() if variable_info is None else variable_info
        self._unknown: set[str] = set()
        self.forget()
        if timeseries is not None:
            self.set_timeseries(timeseries)

    def get_default_variables(self) -> dict[str, dict[str, Any]]:
        """What a model declares: the default `info`."""
        return {}

    @property
    def tensor_kwargs(self) -> dict[str, Any]:
        """How state tensors are made: device, dtype, requires_grad."""
        return {
            "device": self.parameters["device"],
            "dtype": output_dtype(self.parameters.hyper),
            "requires_grad": self.parameters["requires_grad"],
        }

    # Recording a run --------------------------------------------------------------------------

    def initialize_tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Forgets the last run; returns a zero state and an empty history."""
        self.forget()
        return self.new_state(), self.history

    def forget(self) -> None:
        """Forgets the last run."""
        self.history: dict[str, list] = {
            name: [] for name, info in self.info.items() if info.get("history", 0) > 0
        }
        self.timeseries_list: dict[str, list[torch.Tensor]] = {name: [] for name in self.info}
        self.timeseries: dict[str, torch.Tensor] = {}

    def new_state(self) -> dict[str, torch.Tensor]:
        """Zeros of every variable's shape."""
        kwargs = self.tensor_kwargs
        return {name: torch.zeros(self.shape(name), **kwargs) for name in self.info}

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a variable in one period: (1,) for a scalar, (n,) for n sectors, ..."""
        info = self.info[name]
        entries = info.get("sectors") or []
        sizes = [self._size(entry) for entry in entries]
        labels = [len(entries) or 1]
        shape = [size for size in sizes if size] if sizes and all(sizes) else labels
        return (*shape, len(info["matrix"])) if "matrix" in info else tuple(shape)

    def _size(self, entry: Any) -> int | None:
        """The size that an entry of "sectors" stands for; None for a label."""
        if isinstance(entry, str) and entry not in self.parameters:
            return None
        entry = self.parameters[entry] if isinstance(entry, str) else entry
        if isinstance(entry, torch.Tensor) and entry.numel() == 1:
            return max(int(entry), 1)
        return entry if isinstance(entry, int) and entry is not True and entry > 0 else None

    def record_state(self, t: int, state_vars: Mapping[str, torch.Tensor]) -> None:
        """Appends one row; a variable that the state lacks is 0.

        Entries that are not declared serve the model from one period to the next; they are not
        recorded, and a logged warning says so once for each.
        """
        if self.timeseries and not any(self.timeseries_list.values()):
            self.timeseries_list = {k: list(v.unbind()) for k, v in self.timeseries.items()}
        for name in state_vars:
            if name not in self.timeseries_list and name not in self._unknown:
                self._unknown.add(name)
                logger.warning("%r is set by the model but not declared: it is not recorded.", name)
        for name, rows in self.timeseries_list.items():
            value = state_vars.get(name)
            if value is None:
                value = torch.zeros(self.shape(name), **self.tensor_kwargs)
            elif not isinstance(value, torch.Tensor):
                raise TypeError(
                    f"Variable {name!r} must be a tensor at t={t}, not {type(value).__name__}."
                )
            # A copy, because the model may go on to write into its state.
            rows.append(value.reshape(1).clone() if value.dim() == 0 else value.clone())

    def update_history(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Puts the state in front of the history.

        Returns:
            Variable -> tensor of shape (h, *shape) (scalars: (h,)), the latest first, where h is at
            most the declared "history".
        """
        for name, past in self.history.items():
            past.insert(0, state[name].squeeze().clone())
            del past[self.info[name]["history"] :]
        return {name: torch.stack(past) for name, past in self.history.items()}

    def gather_timeseries(self) -> dict[str, torch.Tensor]:
        """Name -> tensor of shape (rows, *shape). Rows that are missing at the end are NaN."""
        if any(self.timeseries_list.values()):
            self.timeseries = {name: self._gather(name) for name in self.info}
        return dict(self.timeseries) or {name: self._gather(name) for name in self.info}

    def _gather(self, name: str) -> torch.Tensor:
        rows, horizon = self.timeseries_list.get(name, []), self.parameters["timesteps"]
        if not rows:
            dtype, device = output_dtype(self.parameters.hyper), self.parameters["device"]
            return torch.full((horizon,), math.nan, dtype=dtype, device=device)
        shapes = {row.shape for row in rows}
        if len(shapes) > 1:
            if len({row.numel() for row in rows}) > 1:
                raise ValueError(
                    f"Variable {name!r} changes its shape during the run: "
                    f"{sorted(tuple(shape) for shape in shapes)}. Declare its shape in 'sectors' "
                    f"and keep to it."
                )
            rows = [row.reshape(rows[-1].shape) for row in rows]
        path = torch.stack(rows)
        if len(path) < horizon:
            gap = path.new_full((horizon - len(path), *path.shape[1:]), math.nan)
            path = torch.cat([path, gap])
        return path

    def set_timeseries(self, timeseries: Mapping[str, torch.Tensor]) -> None:
        """Takes over whole results, name -> tensor of shape (rows, *shape), without copying."""
        self.timeseries_list = {name: [] for name in self.info}
        self.timeseries = dict(timeseries)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: results go along without their graph."""
        return {
            **self.__dict__,
            "timeseries": detached(self.timeseries),
            "timeseries_list": detached(self.timeseries_list),
            "history": detached(self.history),
        }

    # Accounting -------------------------------------------------------------------------------

    def get_stock_variables(self) -> dict[str, list]:
        """Name -> accounting roles, of the assets and liabilities."""
        return _accounts.of_kind(self.info, _accounts.STOCKS)

    def get_flow_variables(self) -> dict[str, list]:
        """Name -> accounting roles, of the inflows and outflows."""
        return _accounts.of_kind(self.info, _accounts.FLOWS)

    def get_index_variables(self) -> dict[str, list]:
        """Name -> accounting roles, of the variables outside the accounts."""
        return _accounts.of_kind(self.info, ("index",))

    def verify_sfc_info(self) -> bool:
        """Whether every accounting role is well formed; what is wrong is logged."""
        problem = _accounts.problem(self.info)
        if problem:
            logger.warning(problem)
        return problem is None

    def balance_sheet_theoretical(
        self, mathfmt: str = "sphinx", non_camel_case: bool = False, group_io: bool = True
    ) -> pd.DataFrame:
        """The balance sheet in symbols: items by (sector, account), and the total.

        Args:
            mathfmt: "sphinx" (a math role), "myst" or "latex" (dollar signs).
            non_camel_case: write "Money Stock" for MoneyStock.
            group_io: show all `hyper["iosectors"]` as one column, IOSectors.

        Raises:
            ValueError: malformed accounting roles, or an unknown `mathfmt`.
        """
        table = _accounts.balance_sheet(self._entries(group_io), self._columns(group_io))
        return _accounts.in_symbols(table, mathfmt, non_camel_case)

    def balance_sheet_actual(
        self, timestep: int = -1, non_camel_case: bool = False, group_io: bool = True
    ) -> pd.DataFrame:
        """The balance sheet in numbers at one row of the results, with each item's total."""
        table = _accounts.balance_sheet(self._entries(group_io), self._columns(group_io))
        return _accounts.in_numbers(table, self._rows(timestep), non_camel_case)

    def transaction_matrix_theoretical(
        self, mathfmt: str = "sphinx", non_camel_case: bool = False, group_io: bool = True
    ) -> pd.DataFrame:
        """The transaction-flow matrix in symbols; arguments as for the balance sheet.

        Buying an asset is a use of funds: it enters with a minus sign, issuing a liability with a
        plus, so that columns sum to zero (Godley and Lavoie, *Monetary Economics*, table 2.3).
        """
        table = _accounts.transaction_matrix(self._entries(group_io), self._columns(group_io))
        return _accounts.in_symbols(table, mathfmt, non_camel_case, total_row=True)

    def transaction_matrix_actual(
        self, timestep: int = -1, non_camel_case: bool = False, group_io: bool = True
    ) -> pd.DataFrame:
        """The transaction-flow matrix in numbers at one row of the results, with totals."""
        table = _accounts.transaction_matrix(self._entries(group_io), self._columns(group_io))
        return _accounts.in_numbers(table, self._rows(timestep), non_camel_case, total_row=True)

    def _entries(self, group_io: bool) -> list[_accounts.Entry]:
        problem = _accounts.problem(self.info)
        if problem:
            raise ValueError(f"SFC information is not complete: {problem}")
        hyper = self.parameters.hyper
        grouped = hyper.get("iosectors", []) if group_io else []
        return _accounts.entries(self.info, grouped)

    def _columns(self, group_io: bool) -> list[str]:
        hyper = self.parameters.hyper
        sectors = list(hyper.get("sectors", []))
        if group_io and hyper.get("iosectors"):
            sectors = [s for s in sectors if s not in hyper["iosectors"]] + [_accounts.GROUP]
        return sectors

    def _rows(self, timestep: int) -> _accounts.Rows:
        self.gather_timeseries()
        if not self.timeseries:
            raise ValueError("There are no results yet: simulate the model first.")
        series = {k: v.detach().cpu().double() for k, v in self.timeseries.items()}
        rows = min(len(path) for path in series.values())
        at = timestep + rows if timestep < 0 else timestep
        if not 0 <= at < rows:
            raise ValueError(f"timestep must lie in {-rows} to {rows - 1}, not {timestep}.")
        return _accounts.Rows(
            now={name: path[at] for name, path in series.items()},
            before={name: path[max(at - 1, 0)] for name, path in series.items()},
        )

    def check_health(self) -> bool:
        """Whether the results are finite, and every item of the balance sheet sums to zero.

        An item is checked where some sector holds it and another one owes it. What is wrong is
        logged. Tolerance: the rounding of the results' dtype, relative to the item.
        """
        if not self._is_finite():
            return False
        worst = _accounts.imbalances(_accounts.entries(self.info, []), self.timeseries)
        for item, (gap, scale) in worst.items():
            logger.warning("%r does not sum to zero: off by %g of %g.", item, gap, scale)
        return not worst

    def _is_finite(self) -> bool:
        def is_wrong(name: str) -> Any:
            # An "unlimited" variable may be infinite, and no other.
            unlimited = self.info.get(name, {}).get("unlimited", False)
            return torch.isnan if unlimited else lambda values: ~torch.isfinite(values)

        series = self.gather_timeseries()
        bad = [name for name, path in series.items() if bool(is_wrong(name)(path).any())]
        for name in bad:
            logger.warning("%r is not finite everywhere.", name)
        return not bad

    # Tables and files -------------------------------------------------------------------------

    def to_pandas(self) -> pd.DataFrame:
        """The results: one row per time, columns (variable, sector)."""
        import pandas as pd

        frames = {}
        for name, path in self.gather_timeseries().items():
            array = path.detach().cpu()
            info = self.info.get(name, {})
            labels = info.get("sectors") or []
            if "matrix" in info:
                for i, column in enumerate(info["matrix"]):
                    frames[f"{name}{column}"] = _frame(array[:, i], labels)
            else:
                frames[name] = _frame(array, labels)
        table = pd.concat(frames.values(), keys=frames.keys(), axis=1)
        table.index.name = "time"
        return table

    def compare(self, other: Variables | pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The difference to other results, and the relative difference in percent of theirs.

        Raises:
            ValueError: no columns in common. Columns that one side lacks are NaN, and logged.
        """
        import pandas as pd

        ours = self.to_pandas()
        theirs: pd.DataFrame = other.to_pandas() if isinstance(other, Variables) else other
        if not set(ours.columns) & set(theirs.columns):
            raise ValueError("The results to compare have no columns (variable, sector) in common.")
        for axis, a, b in (
            ("columns", ours.columns, theirs.columns),
            ("rows", ours.index, theirs.index),
        ):
            if unmatched := set(a) ^ set(b):
                logger.warning("Only one side has the %s %s.", axis, sorted(unmatched, key=str))
        # Labels of mixed types cannot be sorted, which pandas would try.
        columns = pd.MultiIndex.from_tuples(dict.fromkeys([*ours.columns, *theirs.columns]))
        index = list(dict.fromkeys([*ours.index, *theirs.index]))
        ours = ours.reindex(index=index, columns=columns)
        theirs = theirs.reindex(index=index, columns=columns)
        difference = ours.sub(theirs)
        relative = difference.div(theirs).mul(100)
        return difference, relative.where(theirs != 0)

    def info_to_csv(self, file_path: os.PathLike | str, sphinx_math: bool = False) -> None:
        """Writes the declaration of the variables as a table."""
        import pandas as pd

        table = pd.DataFrame.from_dict(self.info, orient="index")
        if "sectors" in table:
            table["sectors"] = [", ".join(map(str, entry)) for entry in table["sectors"]]
        if "history" in table:
            table["history"] = table["history"].fillna(0).astype(int)
        if sphinx_math and "notation" in table:
            table["notation"] = [f":math:`{text}`" for text in table["notation"]]
        table.columns = [str(column).title() for column in table.columns]
        with _files.writing(file_path) as scratch:
            table.to_csv(scratch)

    # All files hold the declaration and the results, and read back what was written.

    def to_json(self, file_path: os.PathLike | str) -> None:
        """Writes one file; one that was there stays whole if that fails. So do all the others.

        Raises:
            TypeError: entries of `info` that no file can hold, or complex results.
        """
        _files.write_json(file_path, self.document())

    @classmethod
    def from_json(cls, file_path: os.PathLike | str, parameters: Parameters | None = None) -> Self:
        """Variables and results from a file that `to_json` wrote, here or in the published package.

        Raises:
            ValueError: what is no such file. The message names it.
        """
        with _files.reading(file_path):
            given = cls.arguments(_files.read_json(file_path))
            return cls(**given, parameters=parameters)

    def to_csv(self, file_path: os.PathLike | str) -> None:
        """Writes a table: a row per time, a column per variable or element: `Y`, `W[S1]`, `M[0,1]`.

        In front of it is a line `# {...}` with the declarations, so that
        `pandas.read_csv(path, skiprows=1, index_col=0)` reads the table.
        """
        self._write_table(file_path, "csv")

    @classmethod
    def from_csv(cls, file_path: os.PathLike | str, parameters: Parameters | None = None) -> Self:
        """Variables and results from a file that `to_csv` wrote; errors as from `from_json`."""
        return cls._read_table(file_path, "csv", parameters)

    def to_excel(self, file_path: os.PathLike | str) -> None:
        """Writes the table of `to_csv` as the sheet `Variables`. Needs openpyxl."""
        self._write_table(file_path, "excel")

    @classmethod
    def from_excel(cls, file_path: os.PathLike | str, parameters: Parameters | None = None) -> Self:
        """Variables and results from a workbook that `to_excel` wrote; errors as from `from_json`."""
        return cls._read_table(file_path, "excel", parameters)

    def to_parquet(self, file_path: os.PathLike | str) -> None:
        """Writes the table of `to_csv`, declarations in its metadata. Needs pyarrow."""
        self._write_table(file_path, "parquet")

    @classmethod
    def from_parquet(
        cls, file_path: os.PathLike | str, parameters: Parameters | None = None
    ) -> Self:
        """Variables and results from a file that `to_parquet` wrote; errors as from `from_json`."""
        return cls._read_table(file_path, "parquet", parameters)

    def _write_table(self, path: os.PathLike | str, form: str) -> None:
        import pandas as pd

        series = self.gather_timeseries()
        rows = max(map(len, series.values()), default=0)
        columns: dict[str, Any] = {"time": np.arange(rows)}
        details = {}
        for name, values in series.items():
            shape, what = list(values.shape), f"variable {name!r}"
            array = _files.numeric(values, what).reshape(len(values), -1)
            # The rest of a shorter one is not read back: "shape" has its number of rows.
            filler = np.nan if array.dtype.kind == "f" else 0
            array = np.pad(array, ((0, rows - len(array)), (0, 0)), constant_values=filler)
            info = self._info_document(name)
            names = _files.element_names(name, shape[1:], info.get("sectors") or ())
            _files.add_columns(columns, names, array)
            details[name] = {"info": info, "shape": shape, "dtype": str(values.dtype)}
        _files.write_table(path, form, pd.DataFrame(columns), KIND, {KIND: details})

    @classmethod
    def _read_table(cls, path: os.PathLike | str, form: str, parameters: Parameters | None) -> Self:
        with _files.reading(path):
            table, details = _files.read_table(path, form, KIND)
            content = {}
            for name, entry in _files.entry(details, KIND).items():
                what = f"variable {name!r}"
                entry = _files.as_mapping(entry, what)
                shape = _files.as_shape(entry.get("shape"), what)
                dtype = _files.as_dtype(entry.get("dtype"), what)
                if not shape:
                    raise ValueError(f"{what}: its shape must begin with its number of rows.")
                labels = _files.entry(entry, "info").get("sectors")
                labels = labels if isinstance(labels, list) else ()
                names = _files.element_names(name, shape[1:], labels)
                cells = _files.take_columns(table, names).iloc[: shape[0]].to_numpy()
                if len(cells) < shape[0]:
                    raise ValueError(f"{what} has {len(cells)} rows, {shape[0]} are declared.")
                values = _files.column_tensor(cells, dtype, what).reshape(shape)
                content[name] = {"info": entry["info"], "timeseries": values}
            return cls(**cls.arguments(content), parameters=parameters)

    def document(self) -> dict[str, Any]:
        """Declaration and results as one JSON document."""
        content: dict[str, Any] = {_files.STAMP: _files.stamp(KIND)}
        for name, path in self.gather_timeseries().items():
            if path.is_complex():
                raise TypeError(f"variable {name!r}: a file cannot hold complex numbers.")
            content[name] = {
                "info": self._info_document(name),
                "timeseries": path.tolist(),
                "dtype": str(path.dtype),
            }
        return content

    def _info_document(self, name: str) -> dict[str, Any]:
        found = {}
        for key, value in self.info.get(name, {}).items():
            # Accounting roles are tuples always, and lists in the files of the published package.
            value = _as_lists(value) if key == "sfc" else value
            found[key] = _files.encode(value, f"variable {name!r}: {key!r}")
        return found

    @staticmethod
    def arguments(content: Mapping[str, Any]) -> dict[str, Any]:
        """The constructor's arguments from such a document."""
        info, timeseries = {}, {}
        for name, entry in content.items():
            if name == _files.STAMP and "info" not in entry:
                _files.check_stamp(entry, KIND)
                continue
            what = f"variable {name!r}"
            entry = _files.as_mapping(entry, what)
            info[name] = _checked(_files.decode(_files.entry(entry, "info")), what)
            path = entry.get("timeseries")
            if not isinstance(path, torch.Tensor):
                path = _files.as_tensor(path, entry.get("dtype"), f"{what}: 'timeseries'")
            if path.dim() == 0:
                raise ValueError(f"{what}: 'timeseries' must have a row per time.")
            timeseries[name] = path
        return {"variable_info": info, "timeseries": timeseries}


def _checked(info: dict[str, Any], what: str) -> dict[str, Any]:
    """The entries of one variable in a file, where the core relies on them."""
    history, sectors = info.get("history", 0), info.get("sectors") or []
    if not isinstance(history, int) or history < 0:
        raise ValueError(f"{what}: 'history' must be a whole number, not {history!r}.")
    if not isinstance(sectors, list | tuple) or not all(isinstance(s, str | int) for s in sectors):
        raise ValueError(f"{what}: 'sectors' must be a list of names or sizes, not {sectors!r}.")
    if "sfc" in info:
        if not isinstance(info["sfc"], list):
            raise ValueError(f"{what}: 'sfc' must be a list of roles, not {info['sfc']!r}.")
        info["sfc"] = [_accounts.as_tuples(role) for role in info["sfc"]]
    return info


def _as_lists(role: Any) -> Any:
    return [_as_lists(part) for part in role] if isinstance(role, list | tuple) else role


def detached(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors, or lists of tensors, without their graph; what cannot be read any more is left out."""
    found = {}
    for name, value in tensors.items():
        # A run inside torch.vmap leaves tensors that are dead once it is over.
        with contextlib.suppress(RuntimeError):
            is_list = isinstance(value, list)
            found[name] = [v.detach() for v in value] if is_list else value.detach()
    return found


def _frame(path: torch.Tensor, labels: list) -> pd.DataFrame:
    """Columns: the labels where they are as many as the columns, numbers otherwise."""
    import pandas as pd

    flat = _files.numeric(path.reshape(len(path), -1), "results")
    matching = labels if len(labels) == flat.shape[1] else range(flat.shape[1])
    return pd.DataFrame(flat, columns=list(matching))
