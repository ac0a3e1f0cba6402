"""Estimators of a gradient measured against the exact one: their bias and their variance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._model import Model
from ..diff._target import Wrt
from ._estimators import ESTIMATORS, ingredients
from ._gradient import Estimate, gradient, moments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 50
"""How many single runs a picture shows."""

Chosen = str | tuple[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Measured:
    """One estimator's bias and spread: label -> arrays (*out, *in).

    Attributes:
        estimate: with the first runs as its `samples`.
        bias: the estimate less the reference; `bias_error` its standard error, that of the reference
            included.
        deviation: the standard deviation of a single run; `deviation_error` its standard error.
    """

    estimate: Estimate
    bias: dict[str, np.ndarray]
    bias_error: dict[str, np.ndarray]
    deviation: dict[str, np.ndarray]
    deviation_error: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        return self.estimate.name


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The outcome of `compare`: `print` it, or draw it with `plot`.

    Attributes:
        reference, reference_error: label -> the gradient that counts as right, and its standard error
            (zeros where it is exact); `reference_kind` says which it is.
        measured: one entry for each estimator.
        missing: estimator -> why it does not apply.
    """

    model: Model
    reference: dict[str, np.ndarray]
    reference_error: dict[str, np.ndarray]
    reference_kind: str
    measured: tuple[Measured, ...]
    missing: dict[str, str]

    def __getitem__(self, name: str) -> Measured:
        """The estimator of that name, as the table prints it: `"gumbel softmax, temperature 0.5"`."""
        for one in self.measured:
            if name in (one.name, one.estimate.estimator):
                return one
        raise KeyError(f"{name!r} is not in {[one.name for one in self.measured]}.")

    def rows(self) -> list[dict[str, Any]]:
        """A row for each estimator and element of the inputs; of a loss that is an array, its last
        element. Numbers, for a table of your own."""
        found = []
        for one in self.measured:
            for label, reference in self.reference.items():
                out = np.ndim(one.estimate.value)
                parts = {
                    "exact": reference,
                    "estimate": one.estimate.mean[label],
                    "bias": one.bias[label],
                    "bias_error": one.bias_error[label],
                    "deviation": one.deviation[label],
                    "deviation_error": one.deviation_error[label],
                }
                last = {
                    key: np.reshape(value, (-1, *np.shape(value)[out:]))[-1].reshape(-1)
                    for key, value in parts.items()
                }
                for i in range(len(last["exact"])):
                    input_name = label if np.ndim(reference) == out else f"{label}[{i}]"
                    numbers = {key: float(value[i]) for key, value in last.items()}
                    found.append({"estimator": one.name, "input": input_name, **numbers})
        return found

    def __str__(self) -> str:
        lines = [
            f"{self.model.name}: gradient of the expected loss, against {self.reference_kind}",
            f"  {'':<40}{'estimate':>12}{'bias':>22}{'deviation of one run':>26}",
        ]
        rows = self.rows()
        for name in dict.fromkeys(row["input"] for row in rows):
            these = [row for row in rows if row["input"] == name]
            lines.append(f"  d/d {name:<36}{these[0]['exact']:>12.6g}")
            lines += [
                f"    {row['estimator']:<38}{row['estimate']:>12.6g}{row['bias']:>11.3g} ± "
                f"{row['bias_error']:<8.2g}{row['deviation']:>15.3g} ± {row['deviation_error']:<8.2g}"
                f"{_verdict(row)}".rstrip()
                for row in these
            ]
        if self.measured and np.ndim(self.measured[0].estimate.value):
            lines.append("  The loss is an array: its last element is shown.")
        lines += [f"  Not measured: {reason}" for reason in self.missing.values()]
        return "\n".join(lines)

    __repr__ = __str__

    def plot(self, wrt: str | None = None) -> Figure:
        """A picture of the estimates, of their bias and of their spread.

        For a loss that is a path: single runs, their mean and the truth over time, and below them the
        bias and the deviation. For one that is a number: estimates with two standard errors beside the
        truth, and the deviation of a single run.

        Args:
            wrt: which input, a scalar one; default: the first.
        """
        from ._pictures import draw

        return draw(self, wrt)


def _verdict(row: dict[str, Any]) -> str:
    return " biased" if abs(row["bias"]) > 3 * row["bias_error"] else ""


def compare(
    model: Model,
    loss: str | Callable[[Any], Any],
    *,
    exact: Any = None,
    estimators: Sequence[Chosen] | None = None,
    temperatures: Sequence[float] = (0.1, 0.5, 1.0),
    wrt: Wrt = "params",
    key: Any = None,
    runs: int = 1000,
    reference_runs: int | None = None,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
) -> Comparison:
    """Measures the bias and the variance of gradient estimators, with the standard errors of both.

        print(stochastic.compare(RandomWalk, "position", exact=2 * steps, key=jax.random.key(0)))

    Args:
        loss, wrt, key, runs, params, ...: as in `gradient`. All estimators have the same keys.
        exact: the exact gradient: an array (*out, *in), or label -> array where there are several
            inputs, or a function of the parameters that gives one of these. Without it the reference is
            found by brute force: central differences under common random numbers at a step of a tenth of
            each parameter and at half of it, extrapolated to a step of 0 by Richardson's rule, over
            `reference_runs` other runs (default: 10 times `runs`).
        estimators: names, or pairs (name, options); default: all that apply, and `compare` says why
            the others do not.
        temperatures: of `gumbel_softmax`, where its options do not say one.

    Returns:
        A `Comparison`.

    Raises:
        As `gradient`. ValueError: an exact gradient of another shape.
    """
    inputs: dict[str, Any] = dict(
        wrt=wrt, params=params, scenario=scenario, shocks=shocks, initial=initial, periods=periods
    )
    tasks, missing = _tasks(model, estimators, temperatures)
    measured, reference, error, kind = [], None, None, "the exact gradient"
    if exact is None:
        reference, error, kind = _brute_force(model, loss, key, reference_runs or 10 * runs, inputs)
    for name, options in tasks:
        found = gradient(model, loss, name, key=key, runs=runs, samples=True, **inputs, **options)
        if reference is None:
            reference = _given(exact, model.params() if params is None else params, found)
            error = {label: np.zeros_like(value) for label, value in reference.items()}
        measured.append(_measure(found, reference, error or {}))
    return Comparison(model, reference or {}, error or {}, kind, tuple(measured), missing)


def _tasks(
    model: Model, estimators: Sequence[Chosen] | None, temperatures: Sequence[float]
) -> tuple[list[tuple[str, dict[str, Any]]], dict[str, str]]:
    tasks: list[tuple[str, dict[str, Any]]] = []
    missing: dict[str, str] = {}
    for chosen in ESTIMATORS if estimators is None else estimators:
        name, options = (chosen, {}) if isinstance(chosen, str) else chosen
        if estimators is None:
            try:
                ingredients(model, name)
            except TypeError as reason:
                missing[name] = str(reason)
                continue
        if name == "gumbel_softmax" and "temperature" not in options:
            tasks += [(name, {"temperature": t, **options}) for t in temperatures]
        else:
            tasks.append((name, dict(options)))
    if not tasks:
        raise TypeError(next(iter(missing.values()), "Name at least one estimator."))
    return tasks, missing


def _brute_force(model: Model, loss: Any, key: Any, runs: int, inputs: dict[str, Any]) -> Any:
    first = model.check_key(key)
    first = first if np.ndim(first) == 0 else first[0]
    apart = jax.random.fold_in(first, 2**32 - 2)  # other runs than those of the estimates
    far, near = (
        gradient(
            model,
            loss,
            "finite_differences",
            key=apart,
            runs=runs,
            samples=True,
            step=step,
            **inputs,
        ).samples
        for step in (0.1, 0.05)
    )
    assert far is not None and near is not None
    found = {label: moments((4 * near[label] - far[label]) / 3) for label in near}
    reference = {label: mean for label, (mean, _) in found.items()}
    errors = {label: error for label, (_, error) in found.items()}
    return reference, errors, f"differences over {runs:,} runs, extrapolated to a step of 0"


def _given(exact: Any, params: Any, found: Estimate) -> dict[str, np.ndarray]:
    value = exact(params) if callable(exact) else exact
    if not isinstance(value, Mapping):
        if len(found.mean) > 1:
            raise ValueError(
                f"There are several inputs: exact must be a mapping from {', '.join(found.mean)}."
            )
        value = {next(iter(found.mean)): value}
    result = {}
    for label, mean in found.mean.items():
        if label not in value:
            raise ValueError(f"exact says nothing of {label!r}.")
        result[label] = np.asarray(value[label], float)
        if result[label].shape != mean.shape:
            raise ValueError(
                f"The gradient by {label!r} has the shape {mean.shape}, exact {result[label].shape}."
            )
    return result


def _measure(
    found: Estimate, reference: dict[str, np.ndarray], reference_error: dict[str, np.ndarray]
) -> Measured:
    assert found.samples is not None
    bias = {label: found.mean[label] - reference[label] for label in found.mean}
    bias_error = {
        label: np.hypot(found.standard_error[label], reference_error[label]) for label in bias
    }
    deviation = {k: error * math.sqrt(found.runs) for k, error in found.standard_error.items()}
    deviation_error = {}
    for label, samples in found.samples.items():
        # The variance's own variance is (m4 - variance^2) / n; the deviation is its square root.
        fourth = np.mean((samples - found.mean[label]) ** 4, axis=0)
        variance = deviation[label] ** 2
        spread = np.sqrt(np.maximum(fourth - variance**2, 0) / found.runs)
        deviation_error[label] = spread / np.where(variance > 0, 2 * deviation[label], 1)
    shown = dataclasses.replace(
        found, samples={k: samples[:SHOWN].copy() for k, samples in found.samples.items()}
    )
    return Measured(shown, bias, bias_error, deviation, deviation_error)
