"""The gradient of an expected loss, estimated from many runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from .. import _compile
from .._inputs import Inputs, prepare
from .._model import Model
from ..diff._target import Target, Wrt, resolve_of, resolve_wrt, with_initial
from . import _estimators
from ._estimators import ESTIMATORS, Task
from ._runs import check_bounds, move_sizes, run_keys, runs_at_once


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The gradient of an expected loss: `print` it, or read its parts.

    Attributes:
        estimator, options: which one, and with what options.
        runs: how many runs, each of them a sample. `simulations`: how many paths these took.
        value, value_error: the mean loss (*out) and its standard error. With
            `smoothed_perturbation` and `finite_differences` it is that around the parameters.
        mean: label -> the estimate, shape (*out, *in): that of the loss, then that of the input.
        standard_error: label -> its standard error, from the spread between the runs.
        samples: label -> what each run contributed, (runs, *out, *in); None if not asked for.
    """

    model: Model
    estimator: str
    options: dict[str, Any]
    runs: int
    simulations: int
    value: np.ndarray
    value_error: np.ndarray
    mean: dict[str, np.ndarray]
    standard_error: dict[str, np.ndarray]
    samples: dict[str, np.ndarray] | None = None

    def __getitem__(self, name: str) -> np.ndarray:
        """The estimate for one input, by either of its names."""
        return self.mean[name if name in self.mean else resolve_wrt(self.model, name)[0].label]

    @property
    def bias(self) -> str:
        """Of what size the estimator's bias is, and where it comes from."""
        text = ESTIMATORS[self.estimator].bias
        relaxation = self.model.options.get("relaxation")
        if self.estimator == "pathwise" and relaxation is not None:
            text += f"; {self.model.name} makes its choices by {relaxation}"
        return text

    @property
    def variance(self) -> str:
        """What the estimator's variance depends on."""
        return ESTIMATORS[self.estimator].variance

    @property
    def name(self) -> str:
        """The estimator with its options, for a table or a legend."""
        options = [f"{key} {value}" for key, value in self.options.items() if value is not True]
        return ", ".join([self.estimator.replace("_", " "), *options])

    def __str__(self) -> str:
        lines = [
            f"{self.model.name}: gradient of the expected loss by {self.name}; {self.runs:,} runs, "
            f"{self.simulations:,} simulations",
            f"  {'':<32}{'estimate':>14}{'standard error':>16}{'of one run':>14}",
            _row("expected loss", self.value, self.value_error, self.runs),
        ]
        for label, mean in self.mean.items():
            lines.append(_row(label, mean, self.standard_error[label], self.runs))
        if any(np.ndim(value) for value in (self.value, *self.mean.values())):
            lines.append("  Arrays are shown by their last element.")
        return "\n".join([*lines, f"  Bias: {self.bias}.", f"  Variance: {self.variance}."])

    __repr__ = __str__


def _row(label: str, mean: Any, error: Any, runs: int) -> str:
    shape = f" {list(np.shape(mean))}" if np.ndim(mean) else ""
    mean, error = (float(np.reshape(x, -1)[-1]) for x in (mean, error))
    return f"  {label + shape:<32}{mean:>14.6g}{error:>16.2g}{error * math.sqrt(runs):>14.3g}"


def gradient(
    model: Model,
    loss: str | Callable[[Any], Any],
    estimator: str = "pathwise",
    *,
    wrt: Wrt = "params",
    key: Any = None,
    runs: int = 1000,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    samples: bool = False,
    chunk: int | None = None,
    **options: Any,
) -> Estimate:
    """Estimates the derivative of a random model's expected loss, with its standard error.

        stochastic.gradient(model, loss, "score_function", key=jax.random.key(0), runs=10_000)

    Run i has the key `fold_in(key, i)`, whatever the estimator: estimates with one key share their
    random numbers. The runs are one compiled batch, in chunks that bound its memory.

    Args:
        loss: a function from the path of states to one real number, or to an array of them; or the name
            of a variable, whose path is then the array. It compiles once per function object.
        estimator: a name in `stochastic.ESTIMATORS`:
            `"pathwise"`: as the model is configured;
            `"straight_through"`; `"gumbel_softmax"` (options `temperature=0.5`, `hard=True`): of models
            whose choices go through their option `relaxation`;
            `"score_function"` (option `baseline=True`): of models with a `log_density`;
            `"smoothed_perturbation"` (option `sigma=0.05`) and `"finite_differences"` (option
            `step=0.05`): of every model. Both are a share of each parameter's size, and an absolute
            number where it is zero; or a mapping of such numbers, input -> number, for some inputs.
        wrt: as in `diff.jacobian`; not the noise, over which the expectation is taken.
        key: `jax.random.key(seed)`, or one for each run.
        runs: how many, at least 2.
        params, scenario, shocks, initial, periods: as in `simulate`; one set of them, not a batch.
        samples: keep what each run contributed.
        chunk: how many runs are computed at once; default: as many as fit in some 256 MB.

    Returns:
        An `Estimate`.

    Raises:
        TypeError: the model lacks what the estimator needs; an unknown option; a loss that is no real
            number or array; no key. ValueError: an unknown estimator, an option out of its range, a
            parameter that would leave its bounds.
    """
    chosen = checked_options(estimator, options)
    _estimators.ingredients(model, estimator)
    variant = _estimators.relaxed(model, estimator, chosen)
    keys = run_keys(model, key, runs)
    inputs, plan = prepare(variant, params, scenario, shocks, initial, periods, keys[0], False)
    if plan.batch is not None:
        raise ValueError(f"{model.name}: give one set of parameters and paths, not a batch.")
    resolved = resolve_wrt(variant, wrt)
    check_wrt(variant, estimator, resolved, inputs)
    inputs = with_initial(plan, inputs, resolved)
    task, size = _task(
        Target(plan, resolve_of(variant, loss, whole=True), resolved), estimator, inputs
    )
    scales: dict[str, Any] = {}
    if estimator in ("smoothed_perturbation", "finite_differences"):
        step = chosen["sigma" if "sigma" in chosen else "step"]
        scales = move_sizes(task.target, inputs, step, "step" if "step" in chosen else "")
    members = {"smoothed_perturbation": 2, "finite_differences": 2 * size}.get(estimator, 1)
    derivatives = (size if task.forward else 2) + 1
    copies = members if scales else derivatives
    if chunk is None:
        chunk = runs_at_once(task.target, inputs, copies)
    parts = in_chunks(task, inputs._replace(key=None), keys, scales, min(max(chunk, 1), len(keys)))
    if "sigma" in chosen:
        check_bounds(task.target, parts[2], "sigma")
    slopes = parts[1]
    if estimator == "score_function":
        slopes = {k: weighted(parts[0], v, task, chosen["baseline"]) for k, v in slopes.items()}
    slopes = {one.label: slopes[one.label] for one in resolved}
    value, value_error = moments(parts[0])
    found = {label: moments(value) for label, value in slopes.items()}
    return Estimate(
        model,
        estimator,
        chosen,
        len(keys),
        members * len(keys),
        value,
        value_error,
        {label: mean for label, (mean, _) in found.items()},
        {label: error for label, (_, error) in found.items()},
        slopes if samples else None,
    )


def checked_options(estimator: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of an estimator, with its defaults."""
    if estimator not in ESTIMATORS:
        there = ", ".join(ESTIMATORS)
        raise ValueError(f"There is no estimator {estimator!r}. There are: {there}.")
    known = ESTIMATORS[estimator].options
    for name in options:
        if name not in known:
            raise TypeError(
                f"The estimator {estimator} has no option {name!r}. It has: "
                f"{', '.join(known) or 'none'}."
            )
    chosen = {**known, **options}
    for name in chosen.keys() & {"sigma", "step", "temperature"}:
        given = chosen[name]
        for value in given.values() if isinstance(given, Mapping) else (given,):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive and finite, not {value}.")
    return chosen


def check_wrt(model: Model, estimator: str, wrt: Any, inputs: Inputs) -> None:
    groups = {one.group for one in wrt}
    if "noise" in groups:
        raise ValueError(
            f"{model.name}: the expectation is over the noise: differentiate by params, scenario or "
            "initial."
        )
    if estimator == "score_function" and model.random_start and inputs.initial is None:
        raise TypeError(
            f"{model.name} draws its initial state, whose density log_density does not have: pass "
            "initial=... for the estimator score_function."
        )


def _task(target: Target, estimator: str, inputs: Inputs) -> tuple[Task, int]:
    """The task, and the number of elements differentiated by."""
    task = Task(target, estimator)
    x = target.split(inputs)
    shape = jax.eval_shape(task.loss, inputs, x)  # raises where the loss is no array
    size = sum(math.prod(np.shape(leaf)) for leaf in x.values())
    forward = math.prod(shape.shape) >= size and shape.shape != ()
    cumulative = not callable(target.of)
    return task._replace(forward=forward, cumulative=cumulative), size


def in_chunks(task: Task, inputs: Inputs, keys: Any, scales: Any, chunk: int) -> Any:
    """What every run contributes, (runs, ...). All chunks have one size, and so one program."""
    parts = []
    for at in range(0, len(keys), chunk):
        these = np.arange(at, at + chunk) % len(keys)
        part = _compile.call(_estimators.batch, task, inputs, keys[these], scales)
        left = len(keys) - at
        parts.append(jax.tree.map(lambda leaf, left=left: np.asarray(leaf)[:left], part))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def weighted(value: np.ndarray, scores: np.ndarray, task: Task, baseline: bool) -> np.ndarray:
    """(L - b) times the score: (R, *out) and (R, *in), or (R, T, *in), give (R, *out, *in)."""
    runs = len(value)
    if baseline:  # the mean of the others: independent of the run itself, so that no bias arises
        value = value - (value.sum(axis=0) - value) / (runs - 1)
    if not task.cumulative:
        lead = value.reshape(*value.shape, *[1] * (scores.ndim - 1))
        return lead * scores.reshape(runs, *[1] * (value.ndim - 1), *scores.shape[1:])
    lead = value.reshape(*value.shape, *[1] * (scores.ndim - 2))
    middle = [1] * (value.ndim - 2)
    return lead * scores.reshape(*scores.shape[:2], *middle, *scores.shape[2:])


def moments(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the runs, and its standard error."""
    return samples.mean(axis=0), samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
