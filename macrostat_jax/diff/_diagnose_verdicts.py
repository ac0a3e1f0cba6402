"""What a diagnosis says: a verdict on every input, and tests of the model as a whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from .. import _constraints
from .._simulate import simulate
from . import _diagnose_causes as causes
from . import _diagnose_ladder as ladder
from . import _trace_flow as flow
from ._diagnose_ladder import Event
from ._diagnose_measure import RANDOM, WEIGHTS, Direction, Measured
from ._diagnose_report import Cause, Finding, Test
from ._diagnose_runs import cast_floats, distance_text
from ._judge import IMMATERIAL, INCONCLUSIVE
from ._trace_flow import Mark

APART = 1e-7
"""Relative: how far forward and reverse mode may be apart by rounding alone."""


class Verdicts(Measured):
    """Says what the measurements mean."""

    def findings(self) -> list[Finding]:
        self.measure()
        if self.repeated is not None:
            return [self._non_deterministic(one) for one in self.directions]
        return [self._finding(j) for j in range(len(self.directions))]

    def _finding(self, j: int) -> Finding:
        one = self.directions[j]
        steps, values = self._usable(j)
        event = self.events.get(j)
        self._remember(j, one, event)
        numbers = self._numbers(j, steps, values, event)
        base = Finding(one.name, "smooth", one.value, **numbers["shown"])
        undefined = self._undefined(j, values, base)
        if undefined is not None:
            return undefined
        flat = self._flat(j, values, base, event, numbers["zero"])
        if flat is not None:
            return flat
        narrowed = self.narrowed.get(one.label)
        if event is not None and (self.switching[j] or narrowed is None):
            return self._broken(j, base, event)
        if self.gaps[j] > APART:
            return self._apart(one, base)
        if numbers["excess"] > 1 or (self.forward is None and self.reverse is None):
            return self._wrong(one, base)
        if narrowed is not None:
            why = "It passes through a narrower float, whose rounding differences see and derivatives do not."
            remedy = "Keep the precision of what comes in (x.dtype) instead of naming one."
            return dataclasses.replace(
                base, verdict="ill-scaled", why=why, cause=causes.of_mark(narrowed), remedy=remedy
            )
        if numbers["unsure"]:
            why = "The finite difference's error bar is above 1 % of the derivative: rounding hides it."
            return dataclasses.replace(base, verdict="ill-scaled", why=why)
        return base

    def _remember(self, j: int, one: Direction, event: Event | None) -> None:
        """The ladder as slopes from 0, of the output that shows most."""
        slopes = (self.values[j] - self.base) / self.steps[:, None]
        middle = len(self.steps) // 2
        shown = event.output if event else self._telling(j)
        slopes[middle] = np.nan
        self.ladders[one.name] = slopes[:, shown] / one.scale

    def _telling(self, j: int) -> int:
        size = np.where(self.size > 0, self.size, 1.0)
        change = np.nanmax(np.abs(self.values[j] - self.base), axis=0, initial=0.0)
        return int(np.argmax(change / size))

    def _numbers(
        self, j: int, steps: np.ndarray, values: np.ndarray, event: Event | None
    ) -> dict[str, Any]:
        """Automatic derivatives against extrapolated differences."""
        one = self.directions[j] if j < len(self.directions) else None
        within = event.distance if event else np.inf
        middle = int(np.flatnonzero(steps == 0)[0])
        if min(middle, len(steps) - 1 - middle) < len(self.steps) // 2:  # one side is out of bounds
            whole = np.full((len(self.steps), values.shape[1]), np.nan)
            whole[np.isin(self.steps, steps)] = values
            values = whole
        auto, size = self._automatic(j)
        found = []
        # Twice: where the function bends within the longer steps, the shorter ones know better.
        for longest in (within, min(within, ladder.SHORT)):
            slope, error = ladder.slope_at_zero(self.steps, values, self.noise, longest)
            if (
                self.forward is None and self.reverse is not None
            ):  # only sums are known: compare sums
                error = np.abs(self.weights) @ error
                slope = np.where(self.weights == 0, 0.0, self.weights * slope).sum(axis=1)
            larger = np.maximum(np.abs(auto), np.abs(slope))
            allowed = self.rtol * larger + 2 * error + IMMATERIAL * size
            off = np.abs(auto - slope)
            excess = np.where(np.isfinite(off), off / np.where(allowed > 0, allowed, 1.0), 0.0)
            unsure = error > np.maximum(INCONCLUSIVE * larger, 1e-6 * size)
            found.append((excess, unsure, slope, error))
        long, short = found
        agrees = short[0] < long[0]
        excess, unsure = np.minimum(long[0], short[0]), long[1] & short[1]
        slope, error = (np.where(agrees, short[i], long[i]) for i in (2, 3))
        scale = one.scale if one else 1.0
        worst = int(np.argmax(excess)) if excess.max(initial=0.0) > 1 else None
        if worst is None:
            relative = np.where(np.isfinite(auto), np.abs(auto), 0.0) / np.where(size > 0, size, 1)
            worst = event.output if event and event.output < auto.size else int(np.argmax(relative))
        names = self.case.outputs if self.forward is not None or self.reverse is None else None
        shown = {
            "derivative": float(auto[worst] / scale),
            "numerical": float(slope[worst] / scale),
            "error": float(error[worst] / scale),
            "output": names[worst] if names else f"weighted sum {worst}",
        }
        return {
            "shown": shown,
            "excess": float(excess.max(initial=0.0)) if event is None else 0.0,
            "unsure": bool((unsure & np.isfinite(error)).any()) and event is None,
            "zero": bool(np.all(auto == 0)),
        }

    def _automatic(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """The automatic derivatives along a direction, and the scales of what they are of."""
        if self.forward is not None:
            return self.forward[j], self.size
        if self.reverse is not None:
            return self.reverse @ self.vectors[j], np.ones(WEIGHTS)
        return np.full(self.size.shape, np.nan), self.size

    def _undefined(self, j: int, values: np.ndarray, base: Finding) -> Finding | None:
        one = self.directions[j]
        why, value = "", True
        point = self.case.x
        distance = None
        if not np.isfinite(self.base).all():
            why = "The run itself is not finite."
        elif not np.isfinite(values).all():
            steps, _ = self._usable(j)
            bad = steps[~np.isfinite(values).all(axis=1)]
            distance = float(bad[np.argmin(np.abs(bad))])
            point = self.case.x + distance * one.vector
            why = f"The run is not finite {_share(distance, one)}."
        elif self.forward is not None and not np.isfinite(self.forward[j]).all():
            why, value = "The run is finite, its derivative in forward mode is not.", False
        elif self.reverse is not None and not np.isfinite(self.reverse[:, one.vector != 0]).all():
            why, value = "The run is finite, its derivative in reverse mode is not.", False
        if not why:
            return None
        found = self._birth(point, value)
        return dataclasses.replace(
            base,
            verdict="non-finite",
            why=why,
            distance=distance,
            cause=found[0] if found else None,
            others=found[1:],
            remedy=_remedy(found[0]) if found else "",
        )

    def _birth(self, point: np.ndarray, value: bool) -> tuple[Cause, ...]:
        """Where what is not finite begins; asked once for each point."""
        known = self.__dict__.setdefault("_births", {})
        at = (point.tobytes(), value)
        if at not in known:
            known[at] = causes.of_undefined(self.case, point, value=value)
        return known[at]

    def _flat(
        self, j: int, values: np.ndarray, base: Finding, event: Event | None, zero: bool
    ) -> Finding | None:
        one = self.directions[j]
        still = bool(np.all(np.abs(values - self.base) <= self.noise))
        flat = dataclasses.replace(base, verdict="flat")
        if self._derived(one.name, one.label):
            return dataclasses.replace(
                flat,
                why="It is derived from other parameters by a constraint: its own value is not used.",
            )
        if one.label not in self.open:
            if not still:
                return None
            return dataclasses.replace(flat, why="Dead: nothing that is computed depends on it.")
        mark = self.open[one.label]
        if mark is not None and mark.operation not in (*flow.CALLBACKS, "stop_gradient"):
            why = "Only what is compared or rounded depends on it: its derivative is zero where there is one."
            found = dataclasses.replace(flat, why=why, cause=causes.of_mark(mark))
            if event is not None:
                switching = self.switching[j]
                found = dataclasses.replace(
                    found,
                    why=f"{why} {_where(event, one)}",
                    distance=_signed(event),
                    size=event.size,
                    cause=switching[0] if switching else found.cause,
                    others=switching[1:],
                )
            return dataclasses.replace(found, remedy=_remedy(found.cause))
        if zero and still and mark is None:
            return dataclasses.replace(
                flat,
                why="It is read, but has no effect here: multiplied by zero, or in a branch that is not taken.",
            )
        return None

    def _derived(self, name: str, label: str) -> bool:
        derived = {constraint.derived for constraint in self.model.constraints}
        return name in derived or (
            label in derived and _constraints.split(name)[0] in self.model.Params.fields
        )

    def _broken(self, j: int, base: Finding, event: Event) -> Finding:
        one, found = self.directions[j], self.switching[j]
        cause = found[0] if found else None
        missing = "" if cause else " No switch of the traced program changes there."
        return dataclasses.replace(
            base,
            verdict=event.kind,
            distance=_signed(event),
            size=event.size if event.kind == "jump" else event.size / one.scale,
            output=self.case.outputs[event.output],
            why=_where(event, one) + missing,
            cause=cause,
            others=found[1:],
            remedy=_remedy(cause),
        )

    def _wrong(self, one: Direction, base: Finding) -> Finding:
        host, stop = self.hosted.get(one.label), self.stopped.get(one.label)
        if host is not None:
            why = "It passes through a call of the host, of which JAX has no derivative."
            found: tuple[Cause, ...] = (causes.of_mark(host),)
        else:
            why = "The function is smooth, and its automatic derivative is another one."
            if not hasattr(self, "_rules"):
                self._rules = causes.of_rules(self.case)
            found = self._rules
            if not found and stop is not None:
                found = (causes.of_mark(stop),)
            if not found:
                why += " No hand-written rule and no stop_gradient explains it."
        cause = found[0] if found else None
        return dataclasses.replace(
            base, verdict="wrong", why=why, cause=cause, others=found[1:], remedy=_remedy(cause)
        )

    def _apart(self, one: Direction, base: Finding) -> Finding:
        mark = self._routes(flow.chooses, clean_wins=False).get(one.label)
        cause = causes.of_mark(mark) if mark else None
        why = "Forward and reverse mode give different derivatives"
        why += "." if cause is None else "; of what it passes through, this is known to do that."
        remedy = (
            "" if cause is None else "Pick the element by jnp.argmin or argmax, and take that one."
        )
        return dataclasses.replace(base, verdict="wrong", why=why, cause=cause, remedy=remedy)

    def _non_deterministic(self, one: Direction) -> Finding:
        mark = self.repeated
        self.ladders[one.name] = np.full(len(self.steps), np.nan)
        return Finding(
            one.name,
            "non-deterministic",
            one.value,
            why="The same call gives other numbers: the step is no function of its arguments.",
            cause=causes.of_mark(mark) if isinstance(mark, Mark) else None,
            remedy="Take random numbers from the model's Noise, and state from the prior state.",
        )

    # -- of the whole ---------------------------------------------------------------------------------

    def tests(self, found: list[Finding], second_order: bool) -> list[Test]:
        """Checks of the model as a whole; those that any fault fails only where there is none."""
        if not np.isfinite(self.base).all():
            return []
        tests = []
        size = np.maximum(self.size, 1e-3 * self.size.max(initial=0.0))
        size = np.where(size > 0, size, 1.0)
        single = np.where(self.lasting, 0.0, self.case.single())
        apart = float(np.max(np.abs(single - self.base) / size, initial=0.0))
        tests.append(Test("one run against the same run in a batch", apart, 1e-10))
        healthy = all(one.verdict in ("smooth", "flat") for one in found)
        if self.forward is not None and self.reverse is not None:
            gap = float(self.gaps.max(initial=0.0))
            tests.append(Test("<J v, w> = <v, J' w>, forward against reverse", gap, APART))
        if healthy and (self.forward is not None or self.reverse is not None):
            flips = [j for j in range(len(self.directions)) if j in self.events]
            for k in range(RANDOM if not flips else 0):
                j = len(self.directions) + k
                if np.isfinite(self.values[j]).all():
                    excess = self._numbers(j, self.steps, self.values[j], None)["excess"]
                    note = "1 is the error bar"
                    tests.append(
                        Test(f"all inputs at once, random direction {k + 1}", excess, 1.0, note)
                    )
        if second_order and healthy and self.reverse is not None:
            tests.append(self._second_order())
        return tests

    def _second_order(self) -> Test:
        """The gradient's derivative along a random direction against differences of the gradient."""
        weights, direction = self.weights[:1], self.vectors[len(self.directions)]
        exact = self.case.curvature(weights[0], direction)

        def slope(h: float) -> np.ndarray:
            up, down = (
                self.case.reverse(weights, self.case.x + s * h * direction)[0] for s in (1, -1)
            )
            return (up - down) / (2 * h)

        long, short = slope(2e-4), slope(1e-4)
        scale = np.abs(self.case.x) + (self.case.x == 0)
        differences = (4 * short - long) / 3
        largest = max(float(np.max(np.abs(exact * scale))), 1e-6)
        gap = float(np.max(np.abs((exact - differences) * scale))) / largest
        return Test("second derivatives, along a random direction", gap, 1e-5)

    def opinion(self) -> list[Test]:
        """Dual numbers in NumPy against forward mode, in a random direction."""
        from ..engines import UnsupportedOperation

        text = "dual numbers in NumPy, in a random direction"
        if self.forward is None:
            self.notes.append(f"{text}: there is no forward mode to compare them with")
            return []
        at, case, inputs = len(self.directions), self.case, self.case.inputs
        if inputs.key is not None:
            if self.model.Noise is None:
                self.notes.append(f"{text}: only JAX can draw what the model draws from its key")
                return []
            periods = case.target.plan.periods
            noise = self.model.noise(inputs.key, periods=periods, dtype=np.float64)
            case = dataclasses.replace(case, inputs=inputs._replace(key=None, noise=noise))
        try:
            exact = case.by_dual_numbers(case.program(), self.vectors[at])
        except UnsupportedOperation as error:
            self.notes.append(f"{text}: {error}")
            return []
        size = np.maximum(np.abs(self.forward[at]), np.where(self.size > 0, self.size, 1.0))
        with np.errstate(invalid="ignore"):
            apart = np.abs(np.where(self.lasting, 0.0, exact) - self.forward[at]) / size
        return [Test(text, float(np.max(apart, initial=0.0)), 1e-10)]

    def float32_note(self) -> list[str]:
        """How far a run in float32 is from the same in float64."""
        plan, inputs = self.case.target.plan, self.case.inputs
        if self.repeated is not None:
            return []
        if inputs.key is not None and self.model.Noise is None:
            return ["float32 was not compared: its draws from the key are other draws"]
        noise = inputs.noise
        if inputs.key is not None and noise is None:
            noise = self.model.noise(inputs.key, periods=plan.periods, dtype=np.float64)
        arguments: dict[str, Any] = dict(
            params=inputs.params,
            scenario=inputs.scenario,
            shocks=inputs.shocks,
            initial=inputs.initial,
            noise=noise,
            periods=plan.periods,
        )
        try:
            exact = self.case.path()
            with jax.enable_x64(False):
                narrow = {
                    k: cast_floats(v, np.float32) if k != "periods" else v
                    for k, v in arguments.items()
                }
                rough = simulate(self.model, **narrow)
        except (RuntimeError, TypeError, ValueError) as error:
            return [f"float32: {str(error).partition(chr(10))[0]}"]
        return [
            distance_text(
                exact, rough, "float32: at most {:.0e} of its size from float64 ({}, period {})"
            )
        ]


def _share(s: float, one: Direction) -> str:
    if s == 0:
        return "at the point itself"
    if one.value == 0 or one.value is None:
        return f"at a step of {s:+.2g}"
    return f"at {one.value * (1 + s * np.sign(one.value)):.6g} ({s * np.sign(one.value):+.2g} of its value)"


def _signed(event: Event) -> float:
    return (
        0.0 if event.distance == 0 else float(np.copysign(event.distance, event.low + event.high))
    )


def _where(event: Event, one: Direction) -> str:
    what = "jumps" if event.kind == "jump" else "has a kink"
    return f"The function {what} {_share(_signed(event), one)}."


_REMEDIES = {
    (
        "max",
        "maximum",
        "amax",
        "reduce_max",
        "argmax",
    ): "smooth.maximum(a, b, sharpness) rounds it off.",
    (
        "min",
        "minimum",
        "amin",
        "reduce_min",
        "argmin",
    ): "smooth.minimum(a, b, sharpness) rounds it off.",
    ("where", "select_n", "gt", "ge", "lt", "le", "eq", "ne", "cond"): (
        "smooth.where(x, a, b, sharpness), or smooth.mask for 0 and 1, rounds it off."
    ),
    ("clip", "clamp"): "smooth.minimum and smooth.maximum round it off.",
    ("abs",): "sqrt(x**2 + e**2) rounds it off, at most e above.",
    ("div",): "smooth.safe_divide(a, b, otherwise) guards it on both sides of the switch.",
    ("sqrt", "log", "pow", "rsqrt", "log1p", "integer_pow"): (
        "Guard its argument too: jnp.where(ok, f(jnp.where(ok, x, 1)), otherwise)."
    ),
    ("stop_gradient",): "Take it out, or say what the derivative should be.",
    (
        "custom_jvp_call",
        "custom_vjp_call",
    ): "Correct the rule; finite_differences(..., method='richardson').",
    ("pure_callback", "io_callback"): "Write it in JAX: a step is pure.",
    (
        "floor",
        "ceil",
        "round",
        "sign",
    ): "smooth.straight_through(exact, smooth) gives it a derivative.",
}


def _remedy(cause: Cause | None) -> str:
    if cause is None:
        return ""
    words = cause.operation.partition(" ")[0]
    return next((text for names, text in _REMEDIES.items() if words in names), "")
