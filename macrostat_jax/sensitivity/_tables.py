"""Tables of indices: as text, and as data frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._outputs import elements

if TYPE_CHECKING:
    import pandas as pd


def tidy(names: Sequence[str], columns: dict[str, dict[str, np.ndarray]]) -> pd.DataFrame:
    """Rows (output, element, parameter), a column for each of `columns`, which hold (d, *shape)."""
    import pandas as pd

    frames = {}
    for label, array in next(iter(columns.values())).items():
        shape = array.shape[1:]
        slots = [name[len(label) :].strip("[]") for name in elements(label, shape)]
        index = pd.MultiIndex.from_product([slots, names], names=["element", "parameter"])
        data = {
            name: table[label].reshape(len(names), -1).T.reshape(-1)
            for name, table in columns.items()
        }
        frames[label] = pd.DataFrame(data, index=index)
    return pd.concat(frames, names=["output"])


def with_error(value: Any, error: Any) -> str:
    """`0.312 ± 0.021`: with the half-width of the 95 % interval."""
    return "-" if not math.isfinite(value) else f"{value:.3f} ± {1.96 * error:.3f}"


def figures(value: Any) -> str:
    return "-" if not math.isfinite(value) else f"{value:.4g}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A heading and rows: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    found = []
    for number, row in enumerate(rows):
        first = ("" if number == 0 else "  ") + row[0]
        cells = [cell.rjust(width + 3) for cell, width in zip(row[1:], widths[1:], strict=True)]
        found.append(first.ljust(widths[0] + 2) + "".join(cells))
    return found


def number(value: Any) -> float | None:
    """A float, as JSON has it: None for what is not finite."""
    return float(value) if math.isfinite(value) else None
