"""What is kept of runs, by name: the usual outcomes, columns, datasets, statistics."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._record import Record
from . import _places

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

WHATS: dict[str, Callable[[Any], Any]] = {
    "last": lambda path: path[-1],
    "first": lambda path: path[0],
    "mean": lambda path: path.mean(axis=0),
    "std": lambda path: path.std(axis=0),
    "min": lambda path: path.min(axis=0),
    "max": lambda path: path.max(axis=0),
    "path": lambda path: path,
}


@dataclasses.dataclass(frozen=True, init=False)
class Outcomes:
    """What to keep of a run: numbers by name, for `sweep(keep=Outcomes("national_income:mean"))`.

    Args:
        names: a variable, by either of its names, and after a colon what of it: `last` (the default),
            `first`, `mean`, `std` (over the periods of a run), `min`, `max`, `path`, or a period:
            `"wealth:40"`. Other processes need nothing to make sense of it.

    Raises:
        ValueError: no names, the same twice, or one of another form. TypeError: a name that is no string.
            When a sweep begins: KeyError, a variable that the model does not have; ValueError, a
            period that the run does not have.
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        if not names:
            raise ValueError("Outcomes takes at least one name.")
        for name in names:
            if not isinstance(name, str):
                raise TypeError(f"The name of an outcome is a string, not {name!r}.")
            variable, what = _split(name)
            if not variable or not (what in WHATS or re.fullmatch(r"-?\d+", what)):
                raise ValueError(
                    f"{name!r} is no outcome: a variable and, after a colon, one of "
                    f"{', '.join(WHATS)} or a period."
                )
        if len(set(names)) < len(names):
            raise ValueError(f"An outcome is kept once, not as in {names}.")
        object.__setattr__(self, "names", names)

    def __call__(self, path: Any) -> dict[str, Any]:
        # A plain dict would come back in alphabetical order.
        return OrderedDict((name, _taken(path, *_split(name))) for name in self.names)


def _split(name: str) -> tuple[str, str]:
    variable, colon, what = name.partition(":")
    return variable, what if colon else "last"


def _taken(path: Any, variable: str, what: str) -> Any:
    values = jnp.asarray(path[variable])
    if what in WHATS:
        return WHATS[what](values)
    period = int(what)
    if not -len(values) <= period < len(values):
        raise ValueError(
            f"{variable}:{what}: a run has {len(values)} periods, 0 to {len(values) - 1}."
        )
    return values[period]


QUANTILES = (0.05, 0.5, 0.95)


class Kept(NamedTuple):
    """One array that was kept, with its name and the names of its dimensions."""

    name: str
    array: Any
    dims: tuple[str, ...]
    attributes: dict[str, str]


def arrays(values: Any, axis: int) -> list[Kept]:
    """The arrays of what was kept, or of their shapes, in order. Of a record, dimensions are declared.

    Raises:
        ValueError: two of them have one name.
    """
    found: dict[str, Kept] = {}
    for one in _arrays(values, axis):
        if one.name in found:
            raise ValueError(
                f"keep returns two arrays of the name {one.name!r}: rename one of them."
            )
        found[one.name] = one
    return list(found.values())


def _arrays(values: Any, axis: int) -> Iterator[Kept]:
    fields = _fields(values)
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(values):
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
        field = fields.get(name)
        dims = [f"{name}_{i}" for i in range(leaf.ndim - 1)]
        attributes = {}
        if field is not None and len(field.axes) <= leaf.ndim - 1:
            lead = leaf.ndim - 1 - len(field.axes)
            dims = [*(["time"] if lead == 1 else dims[:lead]), *(one.name for one in field.axes)]
            attributes = {"symbol": field.symbol, "unit": field.unit, "equation": field.equation}
        dims.insert(axis, "run")
        for i, (dim, size) in enumerate(zip(dims, leaf.shape, strict=True)):
            # A dimension has one size in a dataset, and occurs once in an array.
            if dim in dims[:i] or sizes.setdefault(dim, size) != size:
                dims[i] = f"{name}_{i}"
        yield Kept(name, leaf, tuple(dims), attributes)


def _fields(values: Any) -> dict[str, Any]:
    """Name of a leaf -> its declaration, where a record was kept."""
    found: dict[str, Any] = {}
    is_record = lambda x: isinstance(x, Record)  # noqa: E731
    for path, record in jax.tree_util.tree_leaves_with_path(values, is_leaf=is_record):
        if isinstance(record, Record):
            prefix = jax.tree_util.keystr(path, simple=True, separator=".")
            lead = f"{prefix}." if prefix else ""
            found |= {f"{lead}{key}": field for key, field in record.fields.items()}
    return found


def columns(values: Any) -> dict[str, np.ndarray]:
    """A column (n,) for each number that was kept of a run; arrays have the runs first.

    Raises:
        ValueError: two of them have one name.
    """
    found: dict[str, np.ndarray] = {}
    for one in arrays(values, 0):
        flat = one.array.reshape(len(one.array), math.prod(one.array.shape[1:]))
        places = np.ndindex(one.array.shape[1:])
        names = (
            [_places.labelled(one.name, i) for i in places] if one.array.ndim > 1 else [one.name]
        )
        if both := found.keys() & set(names):
            raise ValueError(
                f"keep returns two numbers of the name {min(both)!r}: rename one of them."
            )
        found |= dict(zip(names, flat.T, strict=True))
    return found


def finite(values: Any, axis: int) -> np.ndarray:
    """Which runs (n,) have only finite values."""
    leaves = jax.tree.leaves(values)
    good = np.ones(leaves[0].shape[axis], bool)
    for leaf in leaves:
        if jnp.issubdtype(leaf.dtype, jnp.inexact):  # NumPy does not know of bfloat16
            others = tuple(i for i in range(leaf.ndim) if i != axis)
            good &= np.isfinite(leaf).all(axis=others)
    return good


def dataset(
    values: Any, axis: int, about: Mapping[str, np.ndarray], runs: np.ndarray, good: np.ndarray
) -> xr.Dataset:
    """What was kept as a dataset, with what tells the runs apart as coordinates of `run`."""
    import xarray as xr

    variables, coords = {}, {}
    for one in arrays(values, axis):
        variables[one.name] = xr.Variable(one.dims, np.asarray(one.array), one.attributes)
    for field in _fields(values).values():
        coords |= {one.name: list(one.labels) for one in field.axes if one.labels}
    coords |= {"run": runs, **{name: ("run", array) for name, array in about.items()}}
    coords["finite"] = ("run", good)
    used = {dim for one in variables.values() for dim in one.dims}
    coords = {k: v for k, v in coords.items() if isinstance(v, tuple) or k in used}
    return xr.Dataset(variables, coords=coords)


def check_names(names: list[str], about: list[str]) -> None:
    """Two columns of one name would be one.

    Raises:
        ValueError: what is kept has the name of a parameter, or of a column of our own.
    """
    if both := sorted(set(names) & {*about, "run", "finite"}):
        raise ValueError(
            f"keep returns {', '.join(both)}, and the table of the runs has columns of that name "
            "already: let keep return a dict with other names."
        )


def table(found: xr.Dataset, about: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """A dataset as a row per run: what tells it apart, then the variables `names`, with the runs first."""
    import pandas as pd

    known = {name: found[name].to_numpy() for name in about}
    values = columns(OrderedDict((name, found[name].to_numpy()) for name in names))
    run = pd.Index(found["run"].to_numpy(), name="run")
    return pd.DataFrame({**known, **values, "finite": found["finite"].to_numpy()}, index=run)


def statistics_table(columns: Mapping[str, np.ndarray], good: np.ndarray) -> pd.DataFrame:
    """Statistics of each column over the runs that are finite, and how many of both there are."""
    import pandas as pd

    rows = {name: statistics(np.asarray(array)[good], 0, name) for name, array in columns.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("kept")
    table.insert(0, "diverged", int((~good).sum()))
    table.insert(0, "runs", int(good.sum()))
    return table


def statistics_dataset(found: xr.Dataset) -> xr.Dataset:
    """Statistics over the finite runs of a dataset, along a new dimension `statistic`."""
    import xarray as xr

    good = np.asarray(found["finite"])
    variables = {}
    for name, array in found.data_vars.items():
        axis = array.dims.index("run")
        parts = statistics(np.compress(good, array.values, axis=axis), axis, str(name))
        dims = ("statistic", *(dim for dim in array.dims if dim != "run"))
        variables[name] = xr.Variable(dims, np.stack(list(parts.values())), array.attrs)
    labels = list(statistics(np.zeros(1), 0))
    coords = {k: v for k, v in found.coords.items() if "run" not in v.dims}
    about = {"runs": int(good.sum()), "diverged": int((~good).sum())}
    return xr.Dataset(variables, coords={"statistic": labels, **coords}, attrs=about)


def statistics(array: np.ndarray, axis: int, what: str = "") -> dict[str, Any]:
    """Mean, standard deviation (n - 1), extremes and quantiles; NaN where there are too few runs.

    Raises:
        TypeError: complex numbers, which have no order.
    """
    if np.iscomplexobj(array):
        raise TypeError(f"Statistics are of real numbers, and {what} is complex: keep its parts.")
    if array.dtype == bool:
        array = array.astype(float)
    names = ["mean", "std", "min", *(f"{q:.0%}" for q in QUANTILES), "max"]
    count = array.shape[axis]
    if count == 0:
        empty = np.full([n for i, n in enumerate(array.shape) if i != axis], np.nan)[()]
        return dict.fromkeys(names, empty)
    std = array.std(axis, ddof=1) if count > 1 else np.full_like(array.mean(axis), np.nan)[()]
    quantiles = np.quantile(array, QUANTILES, axis=axis)
    found = [array.mean(axis), std, array.min(axis), *quantiles, array.max(axis)]
    return dict(zip(names, found, strict=True))
