"""Files: written whole or not at all, read as data only, errors that name the file.

A file holds numbers, text and their types, never code: what a reader makes is looked up here, in
the class that reads, or in the register of models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ._checks import BoundaryError
from ._dtype import DTYPES
from .constraints import ConstraintError

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
"""Of all the formats. Files without a version, such as the published package's, are read as well."""
STAMP = "FileFormat"
DETAILS = "Details"
"""The sheet of a workbook that says what its table is of."""
_ARRAY_DTYPES = {
    f"{kind}{bits}"
    for kind, sizes in {
        "int": (8, 16, 32, 64),
        "uint": (8, 16, 32, 64),
        "float": (16, 32, 64),
    }.items()
    for bits in sizes
} | {"bool"}
_CELL_LENGTH = 32_000
"""Characters that go into one cell of a workbook; Excel takes 32,767."""
_BOM = b"\xef\xbb\xbf"
"""What spreadsheets put in front of text in UTF-8."""
WHOLE = 10**15
"""Whole numbers below it are numbers in a workbook."""
_SHEET = 1_048_576, 16_384
"""Rows and columns of a sheet."""


# Whole files ----------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(path: os.PathLike | str) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once it is written.

    An interrupted or failed write leaves what was there. The folder must exist.
    """
    from macrostat_jax._store import replacing  # here, because it brings jax along

    target = Path(path).resolve()  # of a link, what it points to is replaced
    if not target.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(target.parent)!r} to write {path} to.")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder.")
    with replacing(target) as scratch:
        yield scratch


@contextlib.contextmanager
def reading(path: os.PathLike | str) -> Iterator[None]:
    """Names the file in what goes wrong with its content.

    `KeyError`, `RuntimeError` and the kinds of `ValueError` stay what they are; what else wrong
    content leads to is a `ValueError`.
    """
    try:
        yield
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply.") from error
    except (KeyError, RuntimeError, ValueError) as error:
        kinds = (KeyError, BoundaryError, ConstraintError, RuntimeError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        text = error.args[0] if kind is KeyError and error.args else error
        raise kind(f"{path}: {text}") from error
    except (TypeError, AttributeError, IndexError, OverflowError, MemoryError) as error:
        # From a model that is given settings of a wrong type, say a text for a number of sectors.
        raise ValueError(f"{path}: its content cannot be used: {error}") from error


def stamp(kind: str) -> dict[str, Any]:
    return {"Kind": kind, "Version": VERSION}


def check_stamp(found: Any, kind: str) -> None:
    """Raises `ValueError` for files of another kind or of a later version; none is fine."""
    if found is None:
        return
    if not isinstance(found, Mapping) or not isinstance(found.get("Version"), int):
        raise ValueError(f"{STAMP!r} must have a 'Kind' and a 'Version', but is {found!r}.")
    if found["Version"] > VERSION:
        raise ValueError(
            f"the file has version {found['Version']}, this macrostat reads up to {VERSION}: "
            f"install a later one."
        )
    if found.get("Kind") != kind:
        raise ValueError(f"the file holds {found.get('Kind')}, not {kind}.")


# JSON -----------------------------------------------------------------------------------------


def write_json(path: os.PathLike | str, content: Mapping[str, Any]) -> None:
    text = json.dumps(content)
    with writing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def read_json(path: os.PathLike | str) -> dict[str, Any]:
    """The object that a JSON file holds; to be called within `reading`."""
    return parse_json(Path(path).read_bytes())


def parse_json(data: bytes | str) -> dict[str, Any]:
    try:
        content = json.loads(data, object_pairs_hook=_without_repetition)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"this is no JSON, or not all of it: {error}") from error
    return as_mapping(content, "the content")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the entry {next(k for k in keys if keys.count(k) > 1)!r} is repeated.")
    return found


def entry(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The object under `key`."""
    if key not in content:
        raise ValueError(f"the entry {key!r} is missing.")
    return as_mapping(content[key], repr(key))


def as_mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object {{name: ...}}, not {_short(value)}.")
    return value


def as_number(value: Any, what: str, is_text: bool = True) -> float | int:
    """A number, or the text of one as tables hold it."""
    if isinstance(value, str) and is_text:
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{what} must be a number, not {_short(value)}.")
    return value


def as_tensor(values: Any, dtype: Any, what: str) -> torch.Tensor:
    """Nested lists as a tensor; `dtype` is the name of one, or None for the default."""
    dtype = torch.get_default_dtype() if dtype is None else as_dtype(dtype, what)
    try:
        tensor = torch.tensor(values, dtype=dtype, device="cpu")
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{what} must be nested lists of numbers: {error}") from error
    if not tensor.is_floating_point() and tensor.tolist() != values:
        raise ValueError(f"{what} must be whole numbers, or truth values, of {dtype}.")
    return tensor


def as_dtype(name: Any, what: str) -> torch.dtype:
    found = DTYPES.get(name) if isinstance(name, str) else None
    if found is None or found.is_complex:
        raise ValueError(f"{what}: {_short(name)} is no dtype of numbers.")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:80]}..."


_RELAXATIONS = ("Exact", "StraightThrough", "GumbelSoftmax")
"""How a model makes its discrete choices: the values of its option `relaxation`."""


def encode(value: Any, what: str) -> Any:
    """`value` in what JSON knows, so that `decode` gives it back with its type.

    NumPy's numbers become Python's.

    Raises:
        TypeError: a value of a kind that no file can hold.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return {"$str": value} if value.startswith("torch.") else value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, torch.device):
        return {"$device": str(value)}
    if isinstance(value, torch.Tensor) and not value.is_complex():
        return {"$tensor": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.ndarray) and str(value.dtype) in _ARRAY_DTYPES:
        return {"$array": value.tolist(), "dtype": str(value.dtype)}
    if type(value).__name__ in _RELAXATIONS and dataclasses.is_dataclass(value):
        return {"$relaxation": type(value).__name__, **vars(value)}
    if isinstance(value, list):
        return [encode(part, what) for part in value]
    if isinstance(value, tuple | set):
        parts = [encode(part, what) for part in value]
        return {"$tuple" if isinstance(value, tuple) else "$set": parts}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: encode(part, what) for key, part in value.items()}
        pairs = [[encode(key, what), encode(part, what)] for key, part in value.items()]
        return {"$items": pairs}
    raise TypeError(
        f"{what}: a file cannot hold {_short(value)}, of type {type(value).__name__}. It can hold "
        f"numbers, texts, truth values, dtypes, devices, arrays, tensors, and lists, tuples, sets "
        f"and dicts of these."
    )


def decode(value: Any) -> Any:
    """The inverse of `encode`. In files without a version, only dtypes have a spelling of their own."""
    if isinstance(value, str):
        return DTYPES.get(value, value)
    if isinstance(value, list):
        return [decode(part) for part in value]
    if not isinstance(value, dict):
        return value
    tag = next((key for key in value if key.startswith("$")), None)
    if tag is None:
        return {key: decode(part) for key, part in value.items()}
    content = value[tag]
    if tag == "$str" and isinstance(content, str):
        return content
    if tag == "$device" and isinstance(content, str):
        return torch.device(content)
    if tag == "$tensor":
        return as_tensor(content, value.get("dtype"), "a tensor")
    if tag == "$array" and str(value.get("dtype")) in _ARRAY_DTYPES:
        return np.array(content, dtype=value["dtype"])
    if tag in ("$tuple", "$set") and isinstance(content, list):
        return (tuple if tag == "$tuple" else set)(map(decode, content))
    if tag == "$items" and isinstance(content, list):
        return {decode(key): decode(part) for key, part in content}
    if tag == "$relaxation" and content in _RELAXATIONS:
        from macrostat_jax import stochastic

        options = {key: part for key, part in value.items() if key != tag}
        with contextlib.suppress(TypeError):  # options of another kind
            return getattr(stochastic, content)(**options)
    raise ValueError(f"{_short(value)} is no value that macrostat writes.")


# Tables ---------------------------------------------------------------------------------------


def text_cell(text: str) -> str:
    """A text as a table's cell: itself, or in JSON's quotes where a table could not hold it."""
    plain = text.isprintable() and text == text.strip() and not text.startswith('"')
    return text if plain and text else json.dumps(text)


def from_text_cell(cell: Any) -> str:
    text = "" if cell is None else str(cell)
    if text.startswith('"'):
        found = json.loads(text)
        if isinstance(found, str):
            return found
    return text


def element_names(name: str, shape: Sequence[int], labels: Sequence[Any] = ()) -> list[str]:
    """The columns of a variable or series: `G`, or `W[S1]`, `W[0]`, `M[0,1]`, one per element."""
    name = text_cell(name)
    if math.prod(shape) == 1:
        return [name]
    if len(shape) == 1 and len(set(map(str, labels))) == shape[0]:
        return [text_cell(f"{name}[{label}]") for label in labels]
    return [f"{name}[{','.join(map(str, place))}]" for place in np.ndindex(*shape)]


def add_columns(columns: dict[str, Any], names: Sequence[str], values: np.ndarray) -> None:
    """Puts the columns of a matrix under those names, none of which may be there."""
    for i, name in enumerate(names):
        if name in columns:
            raise ValueError(f"Two columns of the table would be named {name!r}: rename one.")
        columns[name] = values[:, i]


def as_shape(value: Any, what: str) -> list[int]:
    if not isinstance(value, list) or not all(type(n) is int and n >= 0 for n in value):
        raise ValueError(f"{what}: a shape must be a list of whole numbers, not {_short(value)}.")
    return value


def numeric(tensor: torch.Tensor, what: str) -> np.ndarray:
    """An array of the same numbers; half precision, which tables lack, in single precision."""
    if tensor.is_complex():
        raise TypeError(f"{what}: a file cannot hold complex numbers.")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return tensor.numpy()


def column_tensor(cells: Sequence[Any] | np.ndarray, dtype: torch.dtype, what: str) -> torch.Tensor:
    """The cells of a table as a tensor: numbers, truth values, or their texts."""
    array = cells if isinstance(cells, np.ndarray) else np.array(cells, dtype=object)
    if array.dtype.kind in "biuf" and (dtype.is_floating_point or array.dtype.kind != "f"):
        return torch.from_numpy(np.array(array)).to(dtype)
    numbers = [_number_of(cell, what) for cell in array.reshape(-1)]
    return as_tensor(numbers, str(dtype), what).reshape(array.shape)


def _number_of(cell: Any, what: str) -> Any:
    if cell is None or cell == "":
        raise ValueError(f"{what}: a cell is empty.")
    if isinstance(cell, bool) or cell in ("True", "False"):
        return cell in (True, "True")
    return as_number(cell, what)


def write_table(
    path: os.PathLike | str, form: str, table: pd.DataFrame, kind: str, details: Mapping[str, Any]
) -> None:
    """Writes columns of numbers, and what they are.

    CSV: a first line `# {json}`, then the table. Excel: two sheets. Parquet: one table, the rest
    in its metadata (pandas' `attrs`).

    Args:
        form: "csv", "excel" or "parquet".
        kind: what the file holds.
        details: of what JSON can hold.
    """
    import pandas as pd

    details = {STAMP: stamp(kind), **details}
    if form == "parquet":
        write_parquet(path, table, details)
    elif form == "excel":
        columns = [shortest(table[name].to_numpy()).tolist() for name in table]
        rows = [list(table.columns), *map(list, zip(*columns, strict=True))]
        texts = {key: json.dumps(part) for key, part in details.items()}
        pieces = {
            key: [text[i : i + _CELL_LENGTH] for i in range(0, len(text), _CELL_LENGTH)]
            for key, text in texts.items()
        }
        write_sheets(path, {kind: rows, DETAILS: [[key, *cells] for key, cells in pieces.items()]})
    else:
        plain = pd.DataFrame({name: shortest(table[name].to_numpy()) for name in table})
        with writing(path) as scratch, scratch.open("w", encoding="utf-8", newline="") as file:
            file.write(f"# {json.dumps(details)}\n")
            plain.to_csv(file, index=False, lineterminator="\n", na_rep="nan")


def read_table(
    path: os.PathLike | str, form: str, kind: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Columns and details of a file that `write_table` wrote; to be called within `reading`."""
    import pandas as pd

    if form == "parquet":
        table, details = read_parquet(path)
    elif form == "excel":
        sheets = read_sheets(path)
        for name in (kind, DETAILS):
            if name not in sheets:
                raise ValueError(f"the sheet {name!r} is missing. There are: {', '.join(sheets)}.")
        header, *rows = sheets[kind] or [[]]
        table = pd.DataFrame(rows, columns=pd.Index(header, dtype=object), dtype=object)
        details = {}
        for key, *pieces in sheets[DETAILS]:
            text = "".join(str(piece) for piece in pieces if piece is not None)
            details[str(key)] = parse_json(f'{{"x": {text}}}')["x"]
    else:
        data = Path(path).read_bytes().removeprefix(_BOM)
        first, _, rest = data.partition(b"\n")
        if not first.startswith(b"# {"):
            raise ValueError("its first line must be '# {...}', as macrostat writes it.")
        details = parse_json(first[2:])
        table = csv_table(rest)
    if details.get(STAMP) is None:
        raise ValueError(f"{STAMP!r} is missing: this was not written by macrostat.")
    check_stamp(details[STAMP], kind)
    return table, details


def take_columns(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Those columns; one that is missing is a `ValueError`."""
    known = set(table.columns)
    for name in names:
        if name not in known:
            raise ValueError(f"the column {name!r} is missing.")
    return table.loc[:, list(names)]


def shortest(values: np.ndarray) -> np.ndarray:
    """Single precision as the shortest decimals that are rounded back to it."""
    if values.dtype != np.float32:
        return values
    short = values.astype(str).astype(float)
    same = (short.astype(np.float32) == values) | np.isnan(values)
    return np.where(same, short, values.astype(float))


def csv_table(data: bytes) -> pd.DataFrame:
    """A table of text cells; every row must have as many as the first one, which names them."""
    import pandas as pd

    data = data.removeprefix(_BOM)
    cells = pd.read_csv(io.BytesIO(data), header=None, dtype=str, keep_default_na=False)
    if short := [i for i, is_short in enumerate(cells.isna().any(axis=1)) if is_short]:
        raise ValueError(f"row {short[0]} has fewer cells than the table has columns.")
    header, *rows = cells.to_numpy().tolist()
    return pd.DataFrame(rows, columns=pd.Index(header, dtype=object), dtype=object)


def write_parquet(path: os.PathLike | str, table: pd.DataFrame, details: dict[str, Any]) -> None:
    with _needs("pyarrow", "parquet"):
        import pyarrow  # noqa: F401  # pyright: ignore[reportMissingImports]
    table = table.copy(deep=False)
    table.attrs = {**details}
    with writing(path) as scratch:
        table.to_parquet(scratch, engine="pyarrow", index=False)


def read_parquet(path: os.PathLike | str) -> tuple[pd.DataFrame, dict[str, Any]]:
    import pandas as pd

    with _needs("pyarrow", "parquet"):
        import pyarrow  # noqa: F401  # pyright: ignore[reportMissingImports]
    data = Path(path).read_bytes()
    with _library("Parquet file"):
        table = pd.read_parquet(io.BytesIO(data), engine="pyarrow")
    return table, as_mapping(dict(table.attrs), "the metadata")


def write_sheets(path: os.PathLike | str, sheets: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    """A workbook of rows of cells: numbers, texts, truth values, None."""
    with _needs("openpyxl", "excel"):
        import openpyxl  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
        from openpyxl.cell import (  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
            WriteOnlyCell,
        )
    book = openpyxl.Workbook(write_only=True)

    def in_sheet(sheet: Any, value: Any) -> Any:
        value = _as_cell(value)
        if not isinstance(value, str):
            return value
        if len(value) > _CELL_LENGTH:
            raise ValueError(f"{path}: Excel takes no cell of {len(value)} characters.")
        cell = WriteOnlyCell(sheet, value)
        cell.data_type = "s"  # a text that begins with = is no formula
        return cell

    for name, rows in sheets.items():
        size = len(rows), max(map(len, rows), default=0)
        if size[0] > _SHEET[0] or size[1] > _SHEET[1]:
            raise ValueError(
                f"{path}: Excel takes sheets of {_SHEET[0]} rows and {_SHEET[1]} columns, and "
                f"{name!r} has {size[0]} and {size[1]}: write Parquet or CSV."
            )
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append([in_sheet(sheet, value) for value in row])
    with writing(path) as scratch:
        book.save(scratch)


def _as_cell(value: Any) -> Any:
    """A number as a number where the 16 digits of a workbook hold it, and as text elsewhere."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < WHOLE else str(value)
    if not math.isfinite(value) or (value == 0 and math.copysign(1, value) < 0):
        return repr(value)
    digits = f"{value:.16g}"
    as_whole = abs(value) >= WHOLE and "e" not in digits  # it would be read as an int
    return value if float(digits) == value and not as_whole else repr(value)


def any_cell(row: Sequence[Any]) -> bool:
    return any(cell is not None for cell in row)


def read_sheets(path: os.PathLike | str) -> dict[str, list[list[Any]]]:
    """Sheets as rows of cells, all of one length, without empty rows; to be called within `reading`."""
    with _needs("openpyxl", "excel"):
        import openpyxl  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
    data = io.BytesIO(Path(path).read_bytes())
    found = {}
    with _library("Excel workbook"):
        book = openpyxl.load_workbook(data, read_only=True, data_only=True, keep_links=False)
        try:
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # a file may claim any
                rows = [list(row) for row in sheet.iter_rows(values_only=True) if any_cell(row)]
                width = max(map(len, rows), default=0)
                found[sheet.title] = [row + [None] * (width - len(row)) for row in rows]
        finally:
            book.close()
    return found


@contextlib.contextmanager
def _needs(library: str, extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"This needs {library}: pip install 'macrostat-jax[{extra}]', or pip install {library}."
        ) from error


@contextlib.contextmanager
def _library(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # broken content leads these readers into errors of any kind
        raise ValueError(f"this is no {what}, or a broken one: {error}") from error
