"""Parameters as JSON and CSV files. Both read back exactly what was written; neither runs code."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "notation": "Notation",
    "unit": "Unit",
    "value": "Value",
    "lower bound": "Lower Bound",
    "upper bound": "Upper Bound",
}
SPHINX = ":math:`", "`"


def jsonable(value: Any) -> Any:
    """`value` in types that JSON has; a dtype becomes its name."""
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    return value


def from_jsonable(value: Any) -> Any:
    """The inverse for hyperparameters: the name of a dtype becomes the dtype."""
    if isinstance(value, str) and value.startswith("torch."):
        found = getattr(torch, value.removeprefix("torch."), None)
        return found if isinstance(found, torch.dtype) else value
    return value


def document(values: Mapping, hyper: Mapping, data: Mapping) -> dict[str, Any]:
    """Parameters as one JSON document."""
    content = {"Parameters": jsonable(values), "HyperParameters": jsonable(hyper)}
    if data:
        content["DataParameters"] = {
            name: {**jsonable(info), "dtype": str(info["value"].dtype)}
            for name, info in data.items()
        }
    return content


def arguments(content: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor's arguments from such a document."""
    found: dict[str, Any] = {
        "parameters": content["Parameters"],
        "hyperparameters": {k: from_jsonable(v) for k, v in content["HyperParameters"].items()},
    }
    if "DataParameters" in content:
        found["data_parameters"] = {}
        for name, entry in content["DataParameters"].items():
            info = dict(entry)
            dtype = from_jsonable(info.pop("dtype", None)) or torch.get_default_dtype()
            info["value"] = torch.tensor(info["value"], dtype=dtype)
            found["data_parameters"][name] = info
    return found


def write_json(path: os.PathLike | str, values: Mapping, hyper: Mapping, data: Mapping) -> None:
    text = json.dumps(document(values, hyper, data))
    Path(path).write_text(text, encoding="utf-8")


def read_json(path: os.PathLike | str) -> dict[str, Any]:
    return arguments(json.loads(Path(path).read_text(encoding="utf-8")))


def data_folder(path: os.PathLike | str) -> Path:
    return Path(path).parent / f"{Path(path).stem}_data"


def write_csv(
    path: os.PathLike | str, values: Mapping, hyper: Mapping, data: Mapping, sphinx_math: bool
) -> pd.DataFrame:
    import pandas as pd

    parameters = pd.DataFrame.from_dict(dict(values), orient="index")
    parameters = parameters.reindex(columns=list(COLUMNS)).rename(columns=COLUMNS).sort_index()
    if sphinx_math:
        parameters["Notation"] = [text.join(SPHINX) for text in parameters["Notation"]]
    parameters = parameters.astype(object).assign(ParameterType="Parameter")
    settings = pd.DataFrame(
        {"Value": pd.Series({key: hyper[key] for key in sorted(hyper)}, dtype=object)}
    ).assign(ParameterType="HyperParameter")
    table = pd.concat([parameters, settings.reindex(columns=parameters.columns).astype(object)])
    written = table.copy()
    written["Value"] = [
        _encoded(value) if kind == "HyperParameter" else value
        for value, kind in zip(table["Value"], table["ParameterType"], strict=True)
    ]
    written.to_csv(path)
    if data:
        folder = data_folder(path)
        folder.mkdir(parents=True, exist_ok=True)
        for name, info in data.items():
            tensor = info["value"].detach().cpu()
            frame = pd.DataFrame(tensor.reshape(-1) if tensor.dim() < 2 else tensor)
            frame.to_csv(folder / f"{name}.csv")
    return table


def read_csv(path: os.PathLike | str) -> dict[str, Any]:
    import pandas as pd

    table = pd.read_csv(path, index_col=0, dtype=str, keep_default_na=False)
    parameters, hyper = {}, {}
    for name, row in table.to_dict(orient="index").items():
        if row["ParameterType"] == "HyperParameter":
            hyper[name] = _decoded(row["Value"])
        elif row["ParameterType"] == "Parameter":
            entry = {key: row[column] for key, column in COLUMNS.items()}
            for key in ("value", "lower bound", "upper bound"):
                entry[key] = _as_number(entry[key])
            entry["notation"] = entry["notation"].removeprefix(SPHINX[0]).removesuffix(SPHINX[1])
            parameters[name] = entry
        else:
            raise ValueError(
                f"{path}: {name!r} has the unknown ParameterType {row['ParameterType']!r}."
            )
    return {"parameters": parameters, "hyperparameters": hyper}


def _as_number(text: str) -> float | int:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _encoded(value: Any) -> str:
    """A cell's text: a plain string where it is read back as one, JSON otherwise."""
    value = jsonable(value)
    if isinstance(value, str) and (value.startswith("torch.") or _decoded(value) == value):
        return value
    return json.dumps(value)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        # Tables of the published package hold Python's own spelling of lists and truth values.
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return from_jsonable(text)
