"""A Jacobian with its labels: by output, input and time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._model import Model
from .._record import Axis
from ._target import PATHS, Input, field_of, resolve_wrt

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["values", "at", "errors", "kinks", "floors"],
    meta_fields=["model", "inputs", "mode", "strategy"],
)
@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Jacobian:
    """Derivatives of labelled outputs with respect to labelled inputs. Made by `diff.jacobian`.

    Attributes:
        model: the model.
        inputs: the inputs, in order.
        values: output label -> input label -> array (*shape of the output, *shape of the input), after
            the batch axis where a batch was differentiated. An output that is a variable has the shape
            (T, *shape).
        mode: how it was computed.
        at: input label -> the value at which it was differentiated.
        errors: error estimates in the layout of `values`, where there are any (finite differences).
        kinks: likewise, how far the derivatives to the left and to the right are apart.
        floors: likewise, derivatives so small that they do not matter and cannot be told from rounding.
        strategy: the `Strategy` by which it was computed, and why, where one was asked for.
    """

    model: Model
    inputs: tuple[Input, ...]
    values: dict[str, dict[str, Any]]
    mode: str
    at: dict[str, Any]
    errors: dict[str, dict[str, Any]] | None = None
    kinks: dict[str, dict[str, Any]] | None = None
    floors: dict[str, dict[str, Any]] | None = None
    strategy: Any = None

    def __getitem__(self, item: str | tuple[str, str]) -> Any:
        """`J["national_income", "tax_rate"]`, or `J["tax_rate"]` where there is one output.

        Raises:
            KeyError: with the list of what there is.
        """
        if isinstance(item, str):
            if len(self.values) != 1:
                raise KeyError(
                    f"Name the output too, J[output, {item!r}]: there are {', '.join(self.values)}."
                )
            item = (next(iter(self.values)), item)
        output, name = item
        if output not in self.values:
            output = self._output(output)
        label = resolve_wrt(self.model, name)[0].label
        if label not in self.values[output]:
            raise KeyError(f"{name!r} was not differentiated: {', '.join(self.values[output])}.")
        return self.values[output][label]

    def _output(self, name: str) -> str:
        for key, field in self.model.State.fields.items():
            if field.name == name and key in self.values:
                return key
        raise KeyError(f"{name!r} is not an output: {', '.join(self.values)}.")

    def matrix(self) -> np.ndarray:
        """All entries as one matrix (output elements, input elements), in the order of the labels."""
        blocks = []
        for columns in self.values.values():
            rows = [self._flat(columns[one.label], one) for one in self.inputs]
            blocks.append(np.concatenate([r.reshape(-1, r.shape[-1]) for r in rows], axis=1))
        return np.concatenate(blocks, axis=0)

    def columns(self) -> list[str]:
        """The label of every input element: `tax_rate`, `labour_productivity[S1]`, ..."""
        return [name for one in self.inputs for name in self._slots(one)]

    def to_xarray(self) -> xr.Dataset:
        """One variable per output, with dimensions (time, axes of the variable, input)."""
        import xarray as xr

        arrays = {}
        for output, columns in self.values.items():
            flat = [self._flat(columns[one.label], one) for one in self.inputs]
            data = np.concatenate(flat, axis=-1)
            dims = [*self._output_dims(output, data.ndim - 1), "input"]
            arrays[output] = xr.DataArray(data, dims=dims)
        dataset = xr.Dataset(arrays, coords={"input": self.columns()})
        for output in self.values:
            for axis in self._axes(output):
                if axis.labels and axis.name in dataset.dims:
                    dataset = dataset.assign_coords({axis.name: list(axis.labels)})
        return dataset.assign_attrs(model=self.model.name, mode=self.mode)

    def to_pandas(self) -> pd.DataFrame:
        """Rows (output, time or element), columns the inputs."""
        import pandas as pd

        frames = {}
        for output, columns in self.values.items():
            flat = [self._flat(columns[one.label], one) for one in self.inputs]
            data = np.concatenate(flat, axis=-1)
            frames[output] = pd.DataFrame(data.reshape(-1, data.shape[-1]), columns=self.columns())
        return pd.concat(frames, names=["output", "element"])

    def __repr__(self) -> str:
        matrix = self.matrix()
        head = f"Jacobian of {self.model.name} ({self.mode} mode), {matrix.shape[0]} x {matrix.shape[1]}"
        lines = [head]
        for output, columns in self.values.items():
            lines.append(f"  {output}")
            for one in self.inputs[:12]:
                value = np.asarray(columns[one.label])
                shown = f"{value:.6g}" if value.ndim == 0 else _ends(value)
                lines.append(f"    d/d {one.label:<36} {shown}")
            if len(self.inputs) > 12:
                lines.append(f"    ... and {len(self.inputs) - 12} more inputs")
        return "\n".join(lines)

    def _size(self, one: Input) -> int:
        return len(self._slots(one))

    def _slots(self, one: Input) -> list[str]:
        field = field_of(self.model, one)
        if one.group in PATHS:
            sample = next(iter(self.values.values()))[one.label]
            periods = np.shape(sample)[np.ndim(sample) - len(field.shape) - 1]
            axes: tuple[Axis, ...] = (Axis("time", size=periods), *field.axes)
        else:
            axes = field.axes
        names = [""]
        for axis in axes:
            names = [f"{name},{slot}" if name else slot for name in names for slot in axis.slots]
        return [f"{one.label}[{name}]" if name else one.label for name in names]

    def _flat(self, value: Any, one: Input) -> np.ndarray:
        """The input's axes as one last axis."""
        field = field_of(self.model, one)
        rank = len(field.shape) + (one.group in PATHS)
        value = np.asarray(value)
        return value.reshape(*value.shape[: value.ndim - rank], -1)

    def _axes(self, output: str) -> tuple[Axis, ...]:
        field = self.model.State.fields.get(output)
        return field.axes if field else ()

    def _output_dims(self, output: str, rank: int) -> list[str]:
        axes = distinct(axis.name for axis in self._axes(output))
        known = ["time", *axes] if output in self.model.State.fields else []
        if rank == len(known) + 1 and known:
            return ["batch", *known]
        return known if rank == len(known) else [f"{output}_{i}" for i in range(rank)]


def distinct(names: Iterable[str]) -> list[str]:
    """Names of dimensions, a repeated one numbered: an input-output table has industry and industry_2."""
    found: list[str] = []
    for name in names:
        seen = sum(other == name or other.startswith(f"{name}_") for other in found)
        found.append(f"{name}_{seen + 1}" if name in found else name)
    return found


def _ends(value: np.ndarray) -> str:
    flat = value.reshape(-1)
    shown = ", ".join(f"{x:.5g}" for x in flat[:3])
    return f"[{shown}, ..., {flat[-1]:.5g}]  shape {value.shape}" if flat.size > 4 else f"{flat}"
