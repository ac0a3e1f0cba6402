"""Parameters as JSON, CSV, Excel and Parquet files. All read back exactly what was written."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import _files

if TYPE_CHECKING:
    import pandas as pd

KIND = "Parameters"
COLUMNS = {
    "notation": "Notation",
    "unit": "Unit",
    "value": "Value",
    "lower bound": "Lower Bound",
    "upper bound": "Upper Bound",
}
DATA_COLUMNS = {
    "notation": "Notation",
    "unit": "Unit",
    "lower_bound": "Lower Bound",
    "upper_bound": "Upper Bound",
}
TYPE = "ParameterType"
NUMBERS = ("value", "lower bound", "upper bound", "lower_bound", "upper_bound")
SPHINX = ":math:`", "`"
_LITERAL = 100_000
"""Characters of a cell that are read as Python's spelling of a list at most."""


# JSON -----------------------------------------------------------------------------------------


def document(values: Mapping, hyper: Mapping, data: Mapping) -> dict[str, Any]:
    """Parameters as one JSON document."""
    content = {
        _files.STAMP: _files.stamp(KIND),
        "Parameters": {
            name: _files.encode(info, f"parameter {name!r}") for name, info in values.items()
        },
        "HyperParameters": {
            name: _files.encode(value, f"hyperparameter {name!r}") for name, value in hyper.items()
        },
    }
    if data:
        content["DataParameters"] = {
            name: {
                **{k: _files.encode(v, f"data parameter {name!r}") for k, v in info.items()},
                "value": _files.numeric(info["value"], f"data parameter {name!r}").tolist(),
                "dtype": str(info["value"].dtype),
            }
            for name, info in data.items()
        }
    return content


def arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments from such a document."""
    _files.check_stamp(content.get(_files.STAMP), KIND)
    found: dict[str, Any] = {
        "parameters": {
            name: _entry(info, f"parameter {name!r}")
            for name, info in _files.entry(content, "Parameters").items()
        },
        "hyperparameters": {
            name: _files.decode(value)
            for name, value in _files.entry(content, "HyperParameters").items()
        },
    }
    if "DataParameters" in content:
        found["data_parameters"] = {}
        for name, info in _files.entry(content, "DataParameters").items():
            what = f"data parameter {name!r}"
            info = dict(_files.as_mapping(info, what))
            if "value" not in info:
                raise ValueError(f"{what} has no value.")
            tensor = _files.as_tensor(info.pop("value"), info.pop("dtype", None), what)
            found["data_parameters"][name] = {**_entry(info, what), "value": tensor}
    return found


def _entry(info: Any, what: str) -> dict[str, Any]:
    """The entries of one parameter: bounds and value are numbers, notation and unit texts."""
    found = _files.decode(info if isinstance(info, dict) else {"value": info})
    for key, value in found.items():
        if key in NUMBERS and (value is not None or key == "value"):
            _files.as_number(value, f"{what}: {key!r}", is_text=False)
        elif key in ("notation", "unit") and not isinstance(value, str):
            raise ValueError(f"{what}: {key!r} must be a text, not {value!r}.")
    return found


# Tables ---------------------------------------------------------------------------------------


def data_folder(path: os.PathLike | str) -> Path:
    return Path(path).parent / f"{Path(path).stem}_data"


def data_file(path: os.PathLike | str, name: str) -> Path:
    """The table of one data parameter, which is never outside of the folder."""
    if not re.fullmatch(r"\w[\w .-]*", name):
        raise ValueError(f"data parameter {name!r}: no file can have that name: use JSON.")
    return data_folder(path) / f"{name}.csv"


def frame(values: Mapping, hyper: Mapping, sphinx_math: bool) -> pd.DataFrame:
    """Parameters and hyperparameters as the table that `to_csv` returns."""
    import pandas as pd

    extras = sorted({key for info in values.values() for key in info} - set(COLUMNS))
    parameters = pd.DataFrame.from_dict(dict(values), orient="index")
    parameters = parameters.reindex(columns=[*COLUMNS, *extras]).rename(columns=COLUMNS)
    parameters = parameters.sort_index().astype(object)
    if sphinx_math:
        parameters["Notation"] = [
            text.join(SPHINX) if isinstance(text, str) else text for text in parameters["Notation"]
        ]
    parameters.insert(len(COLUMNS), TYPE, "Parameter")
    settings = pd.DataFrame(
        {"Value": pd.Series({key: hyper[key] for key in sorted(hyper)}, dtype=object)}
    )
    settings = settings.assign(**{TYPE: "HyperParameter"}).reindex(columns=parameters.columns)
    return pd.concat([parameters, settings.astype(object)])


def rows(
    values: Mapping, hyper: Mapping, data: Mapping, layouts: Mapping[str, Any], sphinx_math: bool
) -> list[list[Any]]:
    """The table as cells: numbers and texts, the column's names first.

    Args:
        layouts: data parameter -> what its cell says of where and how its numbers are.
    """
    columns = [*COLUMNS.values(), TYPE]
    infos = [*values.values(), *data.values()]
    extras = sorted({key for info in infos for key in info} - {*COLUMNS, *DATA_COLUMNS})

    def row(name: str, kind: str, cells: Mapping[str, Any], info: Mapping[str, Any]) -> list[Any]:
        rest = [_cell(info[key], f"{name!r}: {key!r}") if key in info else "" for key in extras]
        return [
            _files.text_cell(name),
            *(cells.get(column, "") for column in columns[:-1]),
            kind,
            *rest,
        ]

    def cells(info: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
        found = {column: info[key] for key, column in names.items() if info.get(key) is not None}
        for column in ("Unit", "Notation"):
            if column in found:
                found[column] = _files.text_cell(found[column])
        if "Notation" in found:
            text = found["Notation"]
            if sphinx_math:
                found["Notation"] = text.join(SPHINX)
            elif text.startswith(SPHINX[0]):
                found["Notation"] = json.dumps(text)
        return found

    table = [["", *columns, *(_files.text_cell(key) for key in extras)]]
    for name in sorted(values):
        table.append(row(name, "Parameter", cells(values[name], COLUMNS), values[name]))
    for name in sorted(data):
        content = {**cells(data[name], DATA_COLUMNS), "Value": json.dumps(layouts[name])}
        table.append(row(name, "DataParameter", content, data[name]))
    for name in sorted(hyper):
        value = _cell(hyper[name], f"hyperparameter {name!r}")
        table.append(row(name, "HyperParameter", {"Value": value}, {}))
    # With the number of rows, so that a file which lost some is not taken for a whole one.
    stamp = {**_files.stamp(KIND), "Rows": len(table) - 1}
    table.insert(1, row(_files.STAMP, _files.STAMP, {"Value": json.dumps(stamp)}, {}))
    return table


def from_rows(table: Iterable[list[Any]]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The constructor's arguments, and the data parameters: name -> (layout, other entries)."""
    header, *rest = [list(row) for row in table] or [[]]
    header = [_files.from_text_cell(cell) for cell in header]
    if len(set(header)) < len(header):
        raise ValueError("two columns have the same name.")
    for column in (*COLUMNS.values(), TYPE):
        if column not in header:
            raise ValueError(f"the column {column!r} is missing.")
    extras = [key for key in header[1:] if key and key not in (*COLUMNS.values(), TYPE)]
    parameters, hyper, data = {}, {}, {}
    found = {"Parameter": parameters, "HyperParameter": hyper, "DataParameter": data}
    for cells in rest:
        row = dict(zip(header[1:], cells[1:], strict=True))
        name, kind = _files.from_text_cell(cells[0]), row[TYPE]
        if kind == _files.STAMP:
            stamp = _files.parse_json(str(row["Value"]))
            _files.check_stamp(stamp, KIND)
            if stamp.get("Rows") != len(rest) - 1:
                raise ValueError(
                    f"there are {len(rest) - 1} rows, and there should be {stamp.get('Rows')}. If "
                    f"they were changed on purpose, remove the row {_files.STAMP!r}."
                )
            continue
        if kind not in found:
            raise ValueError(f"{name!r} has the unknown ParameterType {kind!r}.")
        if name in found[kind]:
            raise ValueError(f"{kind} {name!r} is repeated.")
        if kind == "HyperParameter":
            hyper[name] = _decoded(row["Value"])
            continue
        is_data = kind == "DataParameter"
        info: dict[str, Any] = {}
        for key, column in (DATA_COLUMNS if is_data else COLUMNS).items():
            cell, what = row[column], f"{kind} {name!r}: {column!r}"
            if key in NUMBERS:
                if cell not in ("", None) or key == "value":
                    info[key] = _files.as_number(cell, what)
            elif cell not in ("", None):
                text = _files.from_text_cell(cell)
                if key == "notation" and str(cell).startswith(SPHINX[0]):
                    text = text.removeprefix(SPHINX[0]).removesuffix(SPHINX[1])
                    text = _files.from_text_cell(text)
                info[key] = text
        info |= {key: _decoded(row[key]) for key in extras if row[key] not in ("", None)}
        if is_data:
            data[name] = {
                "layout": _files.parse_json(str(row["Value"])),
                "info": info,
            }
        else:
            parameters[name] = info
    return {"parameters": parameters, "hyperparameters": hyper}, data


def _layout(info: Mapping[str, Any], **where: Any) -> dict[str, Any]:
    return {"shape": list(info["value"].shape), "dtype": str(info["value"].dtype), **where}


def _data_rows(name: str, tensor: torch.Tensor) -> pd.DataFrame:
    """One row per element of the first dimension."""
    import pandas as pd

    array = _files.numeric(tensor, f"data parameter {name!r}")
    size = (len(array), math.prod(array.shape[1:])) if array.ndim else (1, 1)
    return pd.DataFrame(_files.shortest(array.reshape(size)))


def _from_data_rows(name: str, cells: list[list[Any]], layout: Mapping[str, Any]) -> torch.Tensor:
    what = f"data parameter {name!r}"
    sizes = _files.as_shape(layout.get("shape"), what)
    flat = [cell for row in cells for cell in row]
    if len(flat) != math.prod(sizes):
        raise ValueError(f"{what} has {len(flat)} numbers, its shape {sizes} asks for others.")
    dtype = _files.as_dtype(layout.get("dtype"), what)
    return _files.column_tensor(flat, dtype, what).reshape(sizes)


def write_csv(
    path: os.PathLike | str, values: Mapping, hyper: Mapping, data: Mapping, sphinx_math: bool
) -> pd.DataFrame:
    """Writes the data's tables first: a failure leaves the main table as it was."""
    layouts = {name: _layout(info) for name, info in data.items()}
    files = {data_file(path, name): _data_rows(name, i["value"]) for name, i in data.items()}
    written = _text_table(rows(values, hyper, data, layouts, sphinx_math))
    for file, table in files.items():
        file.parent.mkdir(exist_ok=True)
        with _files.writing(file) as scratch:
            table.to_csv(scratch, na_rep="nan")
    with _files.writing(path) as scratch:
        written.to_csv(scratch, index=False)
    return frame(values, hyper, sphinx_math)


def read_csv(path: os.PathLike | str) -> dict[str, Any]:
    table = _files.csv_table(Path(path).read_bytes())
    found, data = from_rows([list(table.columns), *table.to_numpy().tolist()])
    if data:
        found["data_parameters"] = {}
    for name, content in data.items():
        cells = _files.csv_table(data_file(path, name).read_bytes()).iloc[:, 1:].to_numpy()
        tensor = _from_data_rows(name, cells.tolist(), content["layout"])
        found["data_parameters"][name] = {**content["info"], "value": tensor}
    return found


def write_excel(path: os.PathLike | str, values: Mapping, hyper: Mapping, data: Mapping) -> None:
    """A sheet of parameters, and one for each data parameter."""
    sheets = {name: _sheet_name(name, i) for i, name in enumerate(data)}
    layouts = {name: _layout(info, sheet=sheets[name]) for name, info in data.items()}
    content: dict[str, Any] = {KIND: rows(values, hyper, data, layouts, False)}
    for name, info in data.items():
        content[sheets[name]] = _data_rows(name, info["value"]).to_numpy().tolist()
    _files.write_sheets(path, content)


def _sheet_name(name: str, number: int) -> str:
    """The data parameter's name where Excel takes it: it is short, and has no special characters."""
    usable = re.fullmatch(r"[A-Za-z]\w{0,29}", name, re.ASCII) and name.lower() != KIND.lower()
    return name if usable and not re.match("(?i)data_", name) else f"Data_{number}"


def read_excel(path: os.PathLike | str) -> dict[str, Any]:
    sheets = _files.read_sheets(path)
    if KIND not in sheets:
        raise ValueError(f"the sheet {KIND!r} is missing. There are: {', '.join(sheets)}.")
    found, data = from_rows(sheets[KIND])
    for info in [*found["parameters"].values(), *(content["info"] for content in data.values())]:
        # Excel does not tell 5 from 5.0, and parameters are real numbers.
        for key in NUMBERS:
            if isinstance(info.get(key), int) and abs(info[key]) < _files.WHOLE:
                info[key] = float(info[key])
    if data:
        found["data_parameters"] = {}
    for name, content in data.items():
        sheet = content["layout"].get("sheet")
        if sheet not in sheets:
            raise ValueError(f"data parameter {name!r}: the sheet {sheet!r} is missing.")
        tensor = _from_data_rows(name, sheets[sheet], content["layout"])
        found["data_parameters"][name] = {**content["info"], "value": tensor}
    return found


def write_parquet(path: os.PathLike | str, values: Mapping, hyper: Mapping, data: Mapping) -> None:
    """One table of texts: its cells are those of the CSV file, those of data hold all numbers."""
    what = "data parameter"
    layouts = {
        name: _layout(info, values=_files.numeric(info["value"], f"{what} {name!r}").tolist())
        for name, info in data.items()
    }
    table = _text_table(rows(values, hyper, data, layouts, False))
    table.columns = ["Name", *table.columns[1:]]
    _files.write_parquet(path, table, {_files.STAMP: _files.stamp(KIND)})


def read_parquet(path: os.PathLike | str) -> dict[str, Any]:
    table, details = _files.read_parquet(path)
    _files.check_stamp(details.get(_files.STAMP), KIND)
    found, data = from_rows([list(table.columns), *table.to_numpy().tolist()])
    if data:
        found["data_parameters"] = {}
    for name, content in data.items():
        layout, what = content["layout"], f"data parameter {name!r}"
        tensor = _files.as_tensor(layout.get("values"), layout.get("dtype"), what)
        shape = _files.as_shape(layout.get("shape"), what)
        if tensor.numel() != math.prod(shape):
            raise ValueError(f"{what} has {tensor.numel()} numbers, its shape is {shape}.")
        tensor = tensor.reshape(shape)
        found["data_parameters"][name] = {**content["info"], "value": tensor}
    return found


def _text_table(cells: list[list[Any]]) -> pd.DataFrame:
    import pandas as pd

    header, *rest = cells
    texts = [[cell if isinstance(cell, str) else _spelled(cell) for cell in row] for row in rest]
    return pd.DataFrame(texts, columns=pd.Index(header, dtype=object), dtype=object)


def _spelled(number: Any) -> str:
    return json.dumps(number) if isinstance(number, bool) else repr(number)


def _cell(value: Any, what: str) -> Any:
    """A hyperparameter's cell: a plain number or text where that is read back as it is, else JSON."""
    value = _files.encode(value, what)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value) and not value.is_integer():
        return float(value)
    if isinstance(value, str) and (value in _files.DTYPES or _is_plain(value)):
        return value
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    return bool(text) and text.isprintable() and _decoded(text) == text


def _decoded(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    try:
        content = json.loads(cell)
    except (ValueError, RecursionError):
        pass
    else:
        return _files.decode(content)
    try:
        # Tables of the published package hold Python's own spelling of lists and truth values.
        if len(cell) <= _LITERAL:
            return ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    return _files.decode(cell)
