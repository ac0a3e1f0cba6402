"""What a diagnosis found, as a table, as JSON and as a picture."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from .._model import Model
from ._source import Place

VERDICTS = (
    "non-deterministic",
    "non-finite",
    "wrong",
    "jump",
    "kink",
    "ill-scaled",
    "flat",
    "smooth",
)
FAULTS = frozenset(VERDICTS) - {"flat", "smooth"}
SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Cause:
    """The operation at which a derivative goes wrong.

    Attributes:
        operation: as the user wrote it, as far as can be told: `where`, `maximum`, `gt (>)`, `div (/)`.
        place: the line of the model's file; None where the trace does not say.
        period: the first one, counted from 0; None in what comes before the first or in the loss.
        variable: the variable that shows it first; empty where none does.
        phase: `"start"` (parameters and initial state), `"period"` or `"loss"`.
    """

    operation: str
    place: Place | None
    period: int | None = None
    variable: str = ""
    phase: str = "period"

    @property
    def when(self) -> str:
        if self.phase == "start":
            return "before the first period"
        if self.phase == "loss":
            return "in the function of the path"
        return "" if self.period is None else f"period {self.period}"

    def __str__(self) -> str:
        parts = [self.when, self.variable, self.operation]
        text = ", ".join(part for part in parts if part)
        if self.place is None:
            return text
        within = f" (in {self.place.within})" if self.place.within else ""
        return f"{text}{within}, {Path(self.place.file).name}:{self.place.line}"

    def to_dict(self) -> dict[str, Any]:
        place = self.place
        return {
            "operation": self.operation,
            "phase": self.phase,
            "period": self.period,
            "variable": self.variable,
            "file": place.file if place else None,
            "line": place.line if place else None,
            "column": place.column if place else None,
            "code": place.text if place else None,
            "within": place.within if place else None,
        }


@dataclasses.dataclass(frozen=True)
class Finding:
    """The verdict on one parameter (or scenario series, initial value, ...), element by element or whole.

    Attributes:
        name: `tax_rate`, `labour_productivity[2]`, or the field where its elements move together.
        verdict: one of `VERDICTS`.
        value: at which it was looked at; None for a field as a whole.
        derivative, numerical, error: automatic derivative, finite difference and its error bar, of
            the output `output`, in which they differ most (by the parameter itself; of a field, by the
            share by which it moves).
        distance: how far the kink or jump is, as a share of the value (absolute at 0); signed, 0 at the
            point itself; None where there is none.
        size: how far the output jumps, or by how much its derivative changes there.
        cause: the operation and its line.
        others: further operations that switch at the same place.
        why: the verdict in words.
        remedy: what to do about it.
    """

    name: str
    verdict: str
    value: float | None = None
    derivative: float = math.nan
    numerical: float = math.nan
    error: float = math.nan
    output: str = ""
    distance: float | None = None
    size: float | None = None
    cause: Cause | None = None
    others: tuple[Cause, ...] = ()
    why: str = ""
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        data = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("cause", "others")
        }
        data["cause"] = None if self.cause is None else self.cause.to_dict()
        data["others"] = [cause.to_dict() for cause in self.others]
        return {key: _plain(value) for key, value in data.items()}


@dataclasses.dataclass(frozen=True)
class Test:
    """A check of the whole: `value` should not exceed `limit`."""

    name: str
    value: float
    limit: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.value <= self.limit)  # NaN is no pass


@dataclasses.dataclass(frozen=True)
class Alternative:
    """What rounding the switches off does: `model.configure(sharpness=...)` against the exact path."""

    sharpness: float
    distance: float
    """The largest distance of a variable from its exact path, as a share of its size."""
    variable: str
    period: int


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """The outcome of `diagnose`: print it, or read its parts.

    Attributes:
        findings: one per parameter, in the declared order.
        tests: of the whole: random directions, adjoint identity, batch against single run, float32, ...
        alternatives: what smooth switches do to the path, where asked for.
        notes: what else there is to know.
        steps, ladders: relative steps (S,), and by name the mean slopes (S, ) of the telling output from
            0 to each step: what `plot` draws.
        random_numbers: how a random model was run.
    """

    model: Model
    outputs: tuple[str, ...]
    findings: tuple[Finding, ...]
    tests: tuple[Test, ...]
    alternatives: tuple[Alternative, ...]
    notes: tuple[str, ...]
    steps: np.ndarray
    ladders: dict[str, np.ndarray]
    random_numbers: str = ""

    def __getitem__(self, name: str) -> Finding:
        """The finding on a parameter, by its own or its public name.

        Raises:
            KeyError: with the list of what there is.
        """
        names = {finding.name: finding for finding in self.findings}
        if name not in names:
            for record in (self.model.Params, self.model.Scenario, self.model.State):
                for key, field in record.fields.items():
                    if field.name == name and key in names:
                        return names[key]
            raise KeyError(f"{name!r} was not looked at: {', '.join(names)}.")
        return names[name]

    @property
    def passed(self) -> bool:
        """No fault in any parameter, and all tests passed. A parameter without effect is no fault."""
        return not self.faults and all(test.passed for test in self.tests)

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are neither smooth nor flat, and thresholds that are crossed within the steps
        looked at, the worst first."""
        found = [f for f in self.findings if f.verdict in FAULTS or f.distance is not None]
        return tuple(sorted(found, key=lambda finding: VERDICTS.index(finding.verdict)))

    def verdict(self, name: str) -> str:
        return self[name].verdict

    def summary(self) -> str:
        """A table of all parameters, and a paragraph about each that is not smooth."""
        first = f"{self.model.name}: {self.model.title}".rstrip(": ")
        lines = [
            first,
            f"  {len(self.findings)} inputs, {len(self.outputs)} outputs; steps from "
            f"{self.steps.max():.1g} to {np.min(self.steps[self.steps > 0]):.1g} of each value, to both sides",
        ]
        if self.random_numbers:
            lines.append(f"  {self.random_numbers}")
        header = (
            f"  {'input':<34}{'value':>11}{'derivative':>13}{'difference':>13}{'+-':>9}  verdict"
        )
        lines += ["", header]
        # All that is not smooth is shown, whatever the length of the list.
        shown = list(self.findings)
        if len(shown) > SHOWN:
            shown = [f for f in shown if f.verdict != "smooth"]
        for one in shown:
            value = f"{one.value:>11.5g}" if one.value is not None else f"{'':>11}"
            numbers = (
                f"{_number(one.derivative, 13)}{_number(one.numerical, 13)}{_number(one.error, 9)}"
            )
            lines.append(f"  {one.name:<34}{value}{numbers}  {one.verdict}")
        if len(shown) < len(self.findings):
            lines.append(f"  ... and {len(self.findings) - len(shown)} that are smooth")
        for names, one in _grouped(self.findings):
            lines += ["", *_paragraph(names, one)]
        if self.tests:
            lines.append("")
        for test in self.tests:
            mark = "ok" if test.passed else "NOT PASSED"
            note = f"  ({test.note})" if test.note else ""
            lines.append(f"  {test.name:<58}{test.value:>9.1e} of {test.limit:.0e}  {mark}{note}")
        for one in self.alternatives:
            lines.append(
                f"  sharpness={one.sharpness:g}: at most {one.distance:.1e} of its size from the exact path "
                f"({one.variable}, period {one.period})"
            )
        lines += [f"  Note: {note}" for note in self.notes]
        count = len(self.faults)
        flat = sum(finding.verdict == "flat" for finding in self.findings)
        ending = f"{len(self.findings) - flat} inputs are smooth, {flat} flat"
        if not self.passed:
            ending = (
                f"{count} of {len(self.findings)} inputs are at fault" if count else "see the tests"
            )
        lines += ["", f"  {'PASSED' if self.passed else 'NOT PASSED'}: {ending}."]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return self.summary()

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain numbers (None where one is not finite) and text."""
        return {
            "model": self.model.name,
            "passed": self.passed,
            "outputs": list(self.outputs),
            "random_numbers": self.random_numbers,
            "findings": [finding.to_dict() for finding in self.findings],
            "tests": [
                {**{k: _plain(v) for k, v in dataclasses.asdict(t).items()}, "passed": t.passed}
                for t in self.tests
            ],
            "alternatives": [dataclasses.asdict(one) for one in self.alternatives],
            "notes": list(self.notes),
            "steps": _plain(self.steps),
            "ladders": {name: _plain(values) for name, values in self.ladders.items()},
        }

    def to_json(self, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def plot(self, *names: str) -> Any:
        """The step ladders of some parameters (default: those at fault, else all), a matplotlib figure.

        Each curve is the slope from the point itself to a step: to both sides it comes to rest at the
        derivative where the parameter is smooth, at two different ones at a kink, and grows as 1 / step
        at a jump.
        """
        import matplotlib.pyplot as plt

        chosen = [self[name].name for name in names] or [f.name for f in self.faults]
        chosen = (chosen or [f.name for f in self.findings])[:12]
        columns = min(3, max(1, len(chosen)))
        rows = math.ceil(len(chosen) / columns) or 1
        figure, axes = plt.subplots(
            rows, columns, figsize=(4 * columns, 2.8 * rows), squeeze=False, layout="constrained"
        )
        for axis in axes.flat[len(chosen) :]:
            axis.set_visible(False)
        for axis, name in zip(axes.flat, chosen, strict=False):
            found, slopes = self[name], self.ladders[name]
            for side, label in ((1, "upwards"), (-1, "downwards")):
                at = self.steps * side > 0
                axis.plot(np.abs(self.steps[at]), slopes[at], "o-", markersize=3, label=label)
            if math.isfinite(found.derivative):
                axis.axhline(
                    found.derivative,
                    color="black",
                    linewidth=0.8,
                    linestyle="--",
                    label="derivative",
                )
            axis.set_xscale("log")
            axis.set_title(f"{name}: {found.verdict}", fontsize=9)
            axis.set_xlabel("step, as a share of the value", fontsize=8)
            axis.set_ylabel(f"slope of {found.output}", fontsize=8)
            axis.tick_params(labelsize=7)
        axes.flat[0].legend(fontsize=7)
        return figure


def _grouped(findings: tuple[Finding, ...]) -> list[tuple[list[str], Finding]]:
    """What is not smooth; of which the same is said, together."""
    found: dict[Any, tuple[list[str], Finding]] = {}
    for one in findings:
        if one.verdict != "smooth":
            key = (one.verdict, one.why, str(one.cause), tuple(map(str, one.others)))
            found.setdefault(key, ([], one))[0].append(one.name)
    return list(found.values())


def _paragraph(names: list[str], one: Finding) -> list[str]:
    """What is wrong, where, and what to do."""
    text = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    lines = [f"  {text}: {one.verdict}. {one.why}".rstrip()]
    if one.cause is not None:
        lines.append(f"    {one.cause}")
        if one.cause.place is not None and one.cause.place.text:
            lines.append(f"      {one.cause.place.text}")
    for other in one.others[:3]:
        lines.append(f"    also: {other}")
    if len(one.others) > 3:
        lines.append(f"    and {len(one.others) - 3} more")
    if one.remedy:
        lines.append(f"    {one.remedy}")
    return lines


def _number(value: float, width: int) -> str:
    if not math.isfinite(value):
        return f"{'-' if width == 9 or math.isnan(value) else value:>{width}}"
    return f"{value:>{width}.0e}" if width == 9 else f"{value:>{width}.5g}"


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(x) for x in value.tolist()]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
