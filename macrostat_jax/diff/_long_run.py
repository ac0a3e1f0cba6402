"""Long-run multipliers: how a steady state moves with the parameters and with exogenous levels.

At rest x = f(x, θ), so dx/dθ solves (I - df/dx) dx/dθ = df/dθ: one step is differentiated, not the
many that lead there. The derivative is exact at the exact steady state; at the one that was found it
is off by about as much as one more Newton step would change it, which is its error bound.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from .._implicit import derivative
from .._model import Model
from .._rest import Rest, Step, independent_combinations, rest, slots
from ._target import Input, Of, Wrt, field_of, resolve_of, resolve_wrt

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

SHOWN = 4
"""How many variables a printed table has room for."""


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class LongRun:
    """Derivatives of a steady state, labelled. Made by `long_run`; print it for a table.

    Attributes:
        model: the model.
        outputs: the variables, by their fields' names.
        inputs: the parameters and exogenous series, in order.
        matrix: (R, C), a row per element of the outputs, a column per element of the inputs: the unit
            of the variable per unit of the input.
        errors: (R, C), bounds of the errors of `matrix`: from the residual of the steady state, and from
            rounding. Infinite where Newton's method does not contract there.
        rows, columns: the labels, `wealth` or `output[S1]`.
        levels, at: the steady state's values (R,) and the inputs' (C,).
        state: the steady state, a `State`.
        residual: the most that a period changes a variable, relative to it where that exceeds 1.
        spectral_radius: the largest modulus among the eigenvalues of the step's Jacobian, but for the
            unit ones of what it conserves; 1 or more: the economy does not return.
        conserved: what the step conserves, in words: there is a continuum of steady states, of which
            this is the one that the run leads to.
        undefined: the inputs of which any change leaves no steady state; their columns are NaN.
    """

    model: Model
    outputs: tuple[str, ...]
    inputs: tuple[Input, ...]
    matrix: np.ndarray
    errors: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    levels: np.ndarray
    at: np.ndarray
    state: Any
    residual: float
    spectral_radius: float
    conserved: tuple[str, ...]
    undefined: tuple[str, ...] = ()

    def __getitem__(self, item: str | tuple[str, str]) -> Any:
        """`M["national_income", "tax_rate"]`: (*shape of the variable, *shape of the input); or
        `M["tax_rate"]` where there is one variable.

        Raises:
            KeyError: with the list of what there is.
        """
        if isinstance(item, str):
            if len(self.outputs) != 1:
                raise KeyError(
                    f"Say of which variable: M[variable, {item!r}]; there are {', '.join(self.outputs)}."
                )
            item = (self.outputs[0], item)
        output, name = self.model.State.key_of(item[0]), resolve_wrt(self.model, item[1])[0]
        if output not in self.outputs or name not in self.inputs:
            there = ", ".join([*self.outputs, *(one.label for one in self.inputs)])
            raise KeyError(f"{item} was not differentiated: there are {there}.")
        field, by = self.model.State.fields[output], field_of(self.model, name)
        rows = [self.rows.index(label) for label in slots(field)]
        columns = [self.columns.index(label) for label in slots(by, name.label)]
        return self.matrix[np.ix_(rows, columns)].reshape((*field.shape, *by.shape))[()]

    @property
    def stable(self) -> bool:
        """Does the economy return to this steady state after a small disturbance?"""
        return self.spectral_radius < 1

    def elasticities(self) -> pd.DataFrame:
        """By how many percent each variable changes where an input rises by one percent: d ln x / d ln θ.

        Rows the variables, columns the inputs; NaN where a variable is zero.
        """
        import pandas as pd

        return pd.DataFrame(self._elasticities(), list(self.rows), list(self.columns)).rename_axis(
            index="variable", columns="input"
        )

    def to_pandas(self) -> pd.DataFrame:
        """The derivatives: rows the variables, columns the inputs."""
        import pandas as pd

        frame = pd.DataFrame(self.matrix, list(self.rows), list(self.columns))
        return frame.rename_axis(index="variable", columns="input")

    def to_xarray(self) -> xr.Dataset:
        """`derivative`, `error` and `elasticity` (variable, input), `level` (variable), `at` (input)."""
        import xarray as xr

        both = ("variable", "input")
        return xr.Dataset(
            {
                "derivative": (both, self.matrix),
                "error": (both, self.errors),
                "elasticity": (both, self._elasticities()),
                "level": ("variable", self.levels),
                "at": ("input", self.at),
            },
            coords={"variable": list(self.rows), "input": list(self.columns)},
            attrs={
                "model": self.model.name,
                "residual": self.residual,
                "spectral_radius": self.spectral_radius,
            },
        )

    def _elasticities(self) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.matrix * self.at / self.levels[:, None]
        return np.where(self.levels[:, None] == 0, np.nan, found)

    def __str__(self) -> str:
        many = len(self.rows) - SHOWN
        shown = range(min(SHOWN, len(self.rows)))
        wide = max(len(label) for label in (*self.columns, "steady state")) + 2
        widths = {i: max(len(self.rows[i]) + 2, 14) for i in shown}
        lines = [
            f"Long-run multipliers of {self.model.name}: {len(self.rows)} variables by "
            f"{len(self.columns)} inputs",
            *(f"  {line}" for line in self._about()),
            "",
            " " * wide + "".join(f"{self.rows[i]:>{widths[i]}}" for i in shown),
            f"{'steady state':<{wide}}"
            + "".join(f"{self.levels[i]:>{widths[i]}.6g}" for i in shown),
        ]
        for j, label in enumerate(self.columns):
            # What is less than its own error is zero as far as anyone knows.
            known = np.where(np.abs(self.matrix[:, j]) <= self.errors[:, j], 0.0, self.matrix[:, j])
            cells = "".join(f"{known[i]:>{widths[i]}.6g}" for i in shown)
            lines.append(f"{label:<{wide}}{cells}")
        if many > 0:
            lines.append(f"... and {many} more variables: to_pandas() has them all")
        return "\n".join(lines)

    __repr__ = __str__

    def _about(self) -> list[str]:
        finite = self.errors[np.isfinite(self.errors)]
        size = np.max(np.abs(self.matrix), where=np.isfinite(self.matrix), initial=0.0)
        error = np.max(finite, initial=0.0) / (size or 1.0)
        if finite.size < self.errors[np.isfinite(self.matrix)].size:
            error = np.inf
        kind = "returns to it" if self.stable else "does not return to it: UNSTABLE"
        lines = [
            f"A period changes it by {self.residual:.0e} of its size at most; errors of the derivatives: "
            f"at most {error:.0e} of the largest.",
            f"The economy {kind} (spectral radius {self.spectral_radius:.4g}).",
        ]
        if self.conserved:
            lines.append(f"The step conserves {'; '.join(self.conserved)}.")
        if self.undefined:
            lines.append(
                f"No steady state with any other value of {', '.join(self.undefined)}: NaN."
            )
        return lines


def long_run(
    model: Model,
    of: Of = None,
    *,
    wrt: Wrt = ("params", "scenario"),
    params: Any = None,
    scenario: Any = None,
    state: Any = None,
) -> LongRun:
    """Long-run multipliers: derivatives of a steady state by parameters and exogenous levels.

    Where the step conserves something (there is then a continuum of steady states), the derivatives are
    those of the steady state to which the run from the model's initial state leads.

    Args:
        model: the model; not a random one.
        of: a variable's name, several, or None for all.
        wrt: `"params"`, `"scenario"` (the constant level of every series), a single name
            (`"tax_rate"`, `"scenario.government_demand"`), or several of these.
        params: from `model.params(...)`; default: its defaults.
        scenario: one value per exogenous series, for instance a row `model.scenario(...)[-1]`.
        state: the steady state, where you have it from elsewhere (the end of a long run, say): what it
            lacks of being one is in `errors`. Default: `steady_state`.

    Returns:
        A `LongRun`: a labelled table with error bounds.

    Raises:
        KeyError: an unknown name. TypeError, ValueError: a function as `of`; initial states or noise in
            `wrt`; a state that is not at rest. RuntimeError: no steady state, with what Newton's method
            saw. Warns of an unstable steady state: comparative statics of a place where no run stays.
    """
    if callable(of):
        raise TypeError(
            "long_run takes names of variables; of functions, use jax.grad of steady_state."
        )
    inputs = steady_inputs(model, wrt)
    found = rest(model, inputs, params, scenario, state)
    slopes, errors, undefined = implicit(found)
    names = resolve_of(model, of)
    assert not callable(names)
    columns = input_labels(model, inputs)
    where = {label: i for i, label in enumerate(found.labels)}
    rows = [label for key in names for label in slots(model.State.fields[key])]
    if missing := [label for label in rows if label not in where]:
        raise ValueError(f"{model.name}: {', '.join(missing[:4])} is infinite at rest.")
    chosen = [where[label] for label in rows]
    from ._stability import eigen

    radius = eigen(found).radius
    if not radius < 1:
        warnings.warn(
            f"{model.name}: this steady state is unstable (spectral radius {radius:.6g}): the multipliers "
            "compare states of rest to which no run returns.",
            RuntimeWarning,
            stacklevel=2,
        )
    return LongRun(
        model,
        tuple(names),
        inputs,
        slopes[chosen],
        errors[chosen],
        tuple(rows),
        tuple(columns),
        found.x[chosen],
        values_of(found, inputs),
        found.state,
        float(np.max(found.change)),
        radius,
        independent_combinations(found.conserved, found.labels),
        tuple(label for label, bad in zip(columns, undefined, strict=True) if bad),
    )


def steady_inputs(model: Model, wrt: Wrt) -> tuple[Input, ...]:
    """What a steady state can be differentiated by; a model without exogenous series has parameters only."""
    if not model.Scenario.fields and wrt == ("params", "scenario"):
        wrt = "params"
    inputs = resolve_wrt(model, wrt)
    for one in inputs:
        if one.group not in ("params", "scenario"):
            raise ValueError(
                f"{model.name}: a steady state is differentiated by parameters and exogenous levels, not "
                f"by {one.label!r}."
            )
    return inputs


def input_labels(model: Model, inputs: tuple[Input, ...]) -> list[str]:
    return [label for one in inputs for label in slots(field_of(model, one), one.label)]


def values_of(found: Rest, inputs: tuple[Input, ...]) -> np.ndarray:
    """The inputs' values as one vector, in the order of their labels."""
    given = {"params": found.params, "scenario": found.row}
    leaves = [np.asarray(getattr(given[one.group], one.key), float) for one in inputs]
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def implicit(found: Rest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The derivatives of the steady state (n, m), bounds of their errors, and the inputs (m,) for which
    there are none.

    Along what is conserved, w'x, the equation x = f(x, θ) says nothing: there x moves as the run does,
    by D = d(w'x) / dθ. With W = ww' both are one regular system, (A - I - W) dx = -B - wD.
    """
    kept, n, m = found.conserved, found.x.size, found.step.by_inputs.shape[1]
    if not found.determined:
        nowhere = np.full((n, m), np.nan)
        return nowhere, nowhere.copy(), np.ones(m, bool)
    by_inputs = found.conserved_by_inputs() if kept.shape[1] else np.zeros((0, m))

    def system(x: np.ndarray, step: Step) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        by_state = step.by_state - np.eye(n) - kept @ kept.T
        return step.after - x, by_state, step.by_inputs + kept @ by_inputs

    here = system(found.x, found.step)
    slopes, errors = derivative(lambda x: system(x, found.at(x)), found.x, found.eps, here)
    # Along the run that settles what is conserved, rounding gathers in proportion to its largest part.
    gathered = np.max(np.abs(by_inputs), axis=1, initial=0.0)
    errors += 64 * found.eps * (np.abs(np.linalg.inv(here[1]) @ kept) @ gathered)[:, None]
    # It moves with the run only where the inputs leave it alone; else there is no rest beside this one.
    drift = np.abs(kept.T @ found.step.by_inputs)
    largest = np.max(np.abs(found.step.by_inputs), axis=0, initial=1.0)
    undefined = np.any(drift > found.eps**0.5 * largest, axis=0)
    slopes[:, undefined] = errors[:, undefined] = np.nan
    return slopes, errors, undefined
