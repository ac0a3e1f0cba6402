"""How far can the pathwise derivatives of a random model be trusted? Runs one by one, and on average."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .._inputs import prepare
from .._model import Model
from ..diff._target import Target, Wrt, resolve_of, resolve_wrt, with_initial
from ._estimators import Task, ingredients
from ._events import Event, find_events, input_labels
from ._gradient import check_wrt, in_chunks, moments
from ._relaxations import StraightThrough
from ._runs import move_sizes, run_keys, runs_at_once

UNDECIDED = 0.2
"""A bias of this share of the gradient must show, at three standard errors; else nothing is decided."""


@dataclasses.dataclass(frozen=True)
class Bias:
    """The pathwise derivative of one input element against differences, on average over the runs.

    Attributes:
        pathwise, pathwise_error, difference, difference_error: means and standard errors.
        gap, gap_error: of their difference run by run, which have their random numbers in common.
        truncation: what extrapolating the differences to a step of 0 changed, at most their own bias.
        verdict: `"unbiased"` (the gap is within three standard errors and the truncation), `"biased"`,
            or `"undecided"`: within them, and they are more than a fifth of the gradient.
    """

    pathwise: float
    pathwise_error: float
    difference: float
    difference_error: float
    gap: float
    gap_error: float
    truncation: float

    @property
    def verdict(self) -> str:
        allowed = 3 * self.gap_error + self.truncation
        if abs(self.gap) > allowed:
            return "biased"
        size = max(abs(self.pathwise), abs(self.difference))
        return "undecided" if allowed > UNDECIDED * size else "unbiased"


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of `check`: print it, or read its parts.

    Attributes:
        passed: runs repeat bit by bit, and wherever a run is smooth its derivative is that of the
            differences. It says nothing of the average: that is `bias`.
        deterministic: the same keys gave the same numbers again.
        runs: how many. smooth: input element -> in how many runs no event lies within the step.
        events: the first event of each run that is not smooth.
        wrong: (run, input element, derivative, difference) where a smooth run's derivative is wrong.
        bias: input element -> `Bias`.
        step, bias_step: the steps of the differences, as shares of each parameter.
    """

    model: Model
    deterministic: bool
    runs: int
    smooth: dict[str, int]
    events: tuple[Event, ...]
    wrong: tuple[tuple[int, str, float, float], ...]
    bias: dict[str, Bias]
    step: float
    bias_step: float

    @property
    def passed(self) -> bool:
        return self.deterministic and not self.wrong

    def __str__(self) -> str:
        lines = [
            f"{self.model.name}: pathwise derivatives of the loss in {self.runs:,} runs; every difference "
            "with the run's own random numbers (common random numbers)",
            "",
            f"  Run by run, at a step of {self.step:g} of each input:",
            f"    {'input':<32}{'smooth runs':>12}{'right there':>13}{'with events':>13}",
        ]
        for label, smooth in self.smooth.items():
            wrong = sum(one[1] == label for one in self.wrong)
            lines.append(
                f"    {label:<32}{smooth:>12,}{smooth - wrong:>13,}{self.runs - smooth:>13,}"
            )
        lines += [f"      {event}" for event in self.events[:3]]
        if len(self.events) > 3:
            lines.append(f"      ... and {len(self.events) - 3:,} more, in events")
        lines += ["", f"  On average, by differences at a step of {self.bias_step:g}:"]
        lines.append(f"    {'input':<32}{'pathwise':>20}{'differences':>20}{'gap':>20}")
        for label, one in self.bias.items():
            pairs = (
                (one.pathwise, one.pathwise_error),
                (one.difference, one.difference_error),
                (one.gap, one.gap_error),
            )
            cells = "".join(f"{mean:>10.4g} ± {error:<7.2g}" for mean, error in pairs)
            lines.append(f"    {label:<32}{cells}  {one.verdict}")
        return "\n".join([*lines, "", *self._verdict()])

    __repr__ = __str__

    def _verdict(self) -> list[str]:
        if not self.deterministic:
            return [
                "  NOT PASSED: two runs with the same key differ: the step is not a function of its "
                "arguments."
            ]
        lines = []
        if self.wrong:
            run, label, ours, difference = self.wrong[0]
            lines.append(
                f"  NOT PASSED: in {len(self.wrong)} cases no variable jumps, and the derivative is not that "
                f"of the differences. Run {run}, {label}: {ours:.6g}, by differences {difference:.6g}."
            )
            relaxation = self.model.options.get("relaxation")
            lines.append(
                "  Choices by straight-through derivatives are so on purpose; else a derivative is wrong, "
                "or the loss itself jumps."
                if isinstance(relaxation, StraightThrough) or getattr(relaxation, "hard", False)
                else "  A derivative is wrong, or the loss itself jumps."
            )
        else:
            lines.append("  PASSED: wherever a run is smooth, its derivative is right.")
        biased = [label for label, one in self.bias.items() if one.verdict == "biased"]
        if biased:
            lines.append(
                f"  For the expected loss the pathwise derivative is biased by {', '.join(biased)}: it "
                "leaves out what events contribute. See the other estimators of stochastic.gradient."
            )
        return lines


def check(
    model: Model,
    loss: Callable[[Any], Any],
    *,
    wrt: Wrt = "params",
    key: Any = None,
    runs: int = 200,
    step: float = 1e-4,
    bias_step: float = 0.05,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
) -> Check:
    """Checks the pathwise derivatives of a random model, noise and bias apart.

    Of every run: is it smooth within a small step, and is its derivative then the difference quotient,
    within that one's own error estimate? If not, which event makes it so? Over all runs: is the mean of
    the derivatives that of the differences at a larger step (extrapolated to a step of 0 by Richardson's
    rule)? All differences are between runs with the same key.

    Args:
        loss: from the path of states to one real number.
        wrt, key, runs, params, ...: as in `gradient`.
        step, bias_step: shares of each parameter's size; absolute where it is zero.
        rtol, atol: tolerances, to which each difference's own error estimate is added.

    Returns:
        A `Check`.

    Raises:
        As `gradient`.
    """
    ingredients(model, "pathwise")
    keys = run_keys(model, key, runs)
    given: dict[str, Any] = dict(
        params=params, scenario=scenario, shocks=shocks, initial=initial, periods=periods
    )
    inputs, plan = prepare(model, **given, key=keys[0])
    if plan.batch is not None:
        raise ValueError(f"{model.name}: give one set of parameters and paths, not a batch.")
    resolved = resolve_wrt(model, wrt)
    check_wrt(model, "pathwise", resolved, inputs)
    inputs = with_initial(plan, inputs, resolved)
    target = Target(plan, resolve_of(model, loss, whole=True), resolved)
    differences = Task(target, "finite_differences")
    elements = sum(np.size(leaf) for leaf in target.split(inputs).values())
    chunk = min(len(keys), runs_at_once(target, inputs, 5 * elements))
    keyless = inputs._replace(key=None)

    def run_all(task: Task, size: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """The loss of every run (R,), and its slopes by every element (R, n)."""
        scales = move_sizes(target, inputs, size, "step") if size else {}
        values, slopes = in_chunks(task, keyless, keys, scales, chunk)
        if values.ndim > 1:
            raise TypeError(f"The loss must be one real number, not {list(values.shape[1:])}.")
        flat = [slopes[one.label].reshape(len(keys), -1) for one in resolved]
        return values, np.concatenate(flat, axis=1)

    pathwise = run_all(Task(target, "pathwise"))
    again = run_all(Task(target, "pathwise"))
    near, nearer, far, half = (
        run_all(differences, size)[1] for size in (step, step / 2, bias_step, bias_step / 2)
    )
    scales = move_sizes(target, inputs, step, "step")
    events = find_events(target, keyless, keys, scales, chunk)
    values, slopes = pathwise
    labels = input_labels(target, inputs)
    moves = np.concatenate([scales[one.label].reshape(-1) for one in resolved])
    rounding = 8 * np.finfo(slopes.dtype).eps * np.abs(values)[:, None] / moves
    # A loss that does not depend on an input moves by its rounding: that is no gradient.
    far, half = (np.where(np.abs(d) * bias_step <= rounding * step, 0, d) for d in (far, half))
    estimate = 4 / 3 * np.abs(near - nearer) + rounding
    size = np.maximum(np.abs(slopes), np.abs(near))
    # Not <=: a NaN on either side is no agreement.
    off = ~(np.abs(slopes - near) <= atol + rtol * size + estimate)
    known = {(event.run, event.input) for event in events}
    wrong = tuple(
        (int(run), labels[i], float(slopes[run, i]), float(near[run, i]))
        for run, i in np.argwhere(off)
        if (int(run), labels[i]) not in known
    )
    deterministic = all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(pathwise, again, strict=True)
    )
    return Check(
        model,
        deterministic,
        len(keys),
        {label: len(keys) - sum(event.input == label for event in events) for label in labels},
        tuple(events),
        wrong,
        _biases(labels, slopes, far, half),
        step,
        bias_step,
    )


def _biases(
    labels: list[str], slopes: np.ndarray, far: np.ndarray, half: np.ndarray
) -> dict[str, Bias]:
    differences = (4 * half - far) / 3
    columns = [moments(x) for x in (slopes, differences, slopes - differences)]
    truncation = np.abs(np.mean(differences - half, axis=0))
    numbers = np.stack([*(part for pair in columns for part in pair), truncation])
    return {label: Bias(*map(float, numbers[:, i])) for i, label in enumerate(labels)}
