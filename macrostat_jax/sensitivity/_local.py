"""Elasticities: what one percent more of each parameter does, to first order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import diff
from .._inputs import prepare
from .._model import Model
from .._simulate import simulate
from ..diff import Jacobian
from . import _outputs, _tables
from ._outputs import Of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SHOWN = 4
"""How many elements of an output the table shows: evenly spaced, the last one included."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Elasticities:
    """Elasticities at a point. Made by `elasticities`.

    Attributes:
        jacobian: the derivatives that they come from.
        levels: output -> its value, of its shape.
        values: output -> input -> array (*shape of the output, *shape of the input): the percentage by
            which the output is higher where the input is one percent higher. NaN where the output is
            zero, of which there is no percentage.
    """

    jacobian: Jacobian
    levels: dict[str, Any]
    values: dict[str, dict[str, Any]]

    def __getitem__(self, item: str | tuple[str, str]) -> Any:
        """`E["national_income", "tax_rate"]`, or `E["tax_rate"]` where there is one output."""
        return self._as_jacobian()[item]

    def to_pandas(self) -> pd.DataFrame:
        """Rows (output, time or element), columns the inputs."""
        return self._as_jacobian().to_pandas()

    def to_dict(self) -> dict[str, Any]:
        """Output -> input -> elasticities, of what JSON can hold."""
        table = self.to_pandas()
        return {
            "method": "local",
            "outputs": {
                label: {
                    name: [_tables.number(x) for x in table.loc[label][name]]
                    for name in table.columns
                }
                for label in self.values
            },
        }

    def plot(self, output: str | None = None) -> Figure:
        """`plot.elasticities`: bars, the largest on top; of a path, also lines over time."""
        from ..plot import elasticities

        return elasticities(self, output)

    def _as_jacobian(self) -> Jacobian:
        return dataclasses.replace(self.jacobian, values=self.values)

    def __str__(self) -> str:
        lines = [
            f"Elasticities of {self.jacobian.model.name}",
            "  The percentage by which an output is higher where a parameter is 1 % higher.",
        ]
        for label in self.values:
            lines += ["", *self._block(label)]
        return "\n".join(lines)

    __repr__ = __str__

    def _block(self, label: str) -> list[str]:
        table = self.to_pandas().loc[label].to_numpy()
        levels = np.asarray(self.levels[label]).reshape(-1)
        if not np.any(levels):
            return [f"{label}: it is zero, and has no elasticities."]
        last = len(levels) - 1
        at = sorted({round(last * (i + 1) / SHOWN) for i in range(SHOWN)}) if last else [0]
        size = np.nanmax(np.where(np.isfinite(table[at]), np.abs(table[at]), 0.0), axis=0)
        names = self.jacobian.columns()
        rows = [["level", *(_tables.figures(levels[i]) for i in at)]]
        for column in np.argsort(-size, kind="stable"):
            rows.append([names[column], *(_tables.figures(table[i, column]) for i in at)])
        places = _outputs.elements("", np.shape(self.levels[label]))
        heads = [places[i].strip("[]") or "elasticity" for i in at]
        path = label in self.jacobian.model.State.fields
        if path and not self.jacobian.model.State.fields[label].shape:
            heads = [f"period {head}" for head in heads]
        found = _tables.aligned([[label, *heads], *rows])
        if zeros := int((levels == 0).sum()):
            found.append(f"  none where it is zero: in {zeros} of {len(levels)} elements")
        return found


def elasticities(
    model: Model, of: Of = None, *, wrt: Any = "params", params: Any = None, **options: Any
) -> Elasticities:
    """The elasticity of outputs with respect to parameters, from exact derivatives.

    Args:
        model: the model.
        of: the outputs: a variable, several, None for all, or a function of the path to a pytree of
            arrays.
        wrt: the inputs, as for `diff.jacobian`; default: all parameters.
        params: where; default: the model's. options: scenario, shocks, initial, periods, key, noise, and
            mode, as for `diff.jacobian`.

    Returns:
        `Elasticities`, e = dy/dp * p/y, of the inputs' signs: of one that is zero it is zero.

    Raises:
        ValueError: a batch; and as `diff.jacobian`.
    """
    inputs = {key: value for key, value in options.items() if key not in ("mode", "strategy")}
    where = ("scenario", "shocks", "initial", "periods", "key", "noise")
    if unknown := set(inputs).difference(where):
        raise TypeError(f"elasticities takes {', '.join(where)} and mode, not {sorted(unknown)}.")
    _, plan = prepare(model, params, **inputs)
    if plan.batch is not None:
        raise ValueError(f"{model.name}: elasticities are at one point, not at a batch of them.")
    jacobian = diff.jacobian(model, of, wrt=wrt, params=params, **options)
    path = simulate(model, params, **inputs)
    found = _labelled(_outputs.keeper(model, of)(path))
    levels = {label: found[label] for label in jacobian.values}
    values = {
        label: {
            one: _scaled(np.asarray(d), np.asarray(jacobian.at[one]), levels[label])
            for one, d in columns.items()
        }
        for label, columns in jacobian.values.items()
    }
    return Elasticities(jacobian, levels, values)


def _labelled(values: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree by the labels that `diff.jacobian` gives them."""
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or "output": np.asarray(leaf, float)
        for path, leaf in jax.tree_util.tree_leaves_with_path(values)
    }


def _scaled(derivative: np.ndarray, at: np.ndarray, level: np.ndarray) -> np.ndarray:
    level = level.reshape((*level.shape, *(1,) * at.ndim))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(level == 0, np.nan, derivative * at / level))
