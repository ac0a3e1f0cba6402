"""Is a model differentiable, in which parameters, and if not: in which line?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .. import _constraints
from .._model import Model
from .._simulate import simulate
from . import _diagnose_causes as causes
from . import _diagnose_ladder as ladder
from . import _trace_flow as flow
from ._check import averages
from ._derivatives import _target
from ._diagnose_ladder import Event
from ._diagnose_report import Alternative, Cause, Diagnosis, Finding, Test
from ._diagnose_runs import MOST_ROWS, Case
from ._judge import IMMATERIAL, INCONCLUSIVE
from ._target import Of, Wrt, field_of
from ._trace_flow import Mark

MOST_ELEMENTS = 128
APART = 1e-7
"""Relative: how far forward and reverse mode may be apart by rounding alone."""
RANDOM, WEIGHTS, BRACKETS = 2, 3, 2
SEED = 20240229


def diagnose(
    model: Model,
    loss: Of | Callable[[Any], Any] = None,
    wrt: Wrt = "params",
    *,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
    elements: bool | None = None,
    reach: float = ladder.LONGEST,
    rtol: float = 1e-5,
    sharpness: Sequence[float] = (),
    second_order: bool = False,
) -> Diagnosis:
    """A verdict on every parameter, and the line of the model's file where what is wrong begins.

    - **smooth**: the automatic derivative is that of the function, all over the steps looked at.
    - **kink**, **jump**: within `reach` the derivative, or the value, changes at once. Told by
      enlarging the place, without any derivative. Named are the first period, the variable and the
      operation whose branch changes.
    - **flat**: no derivative but zero: the parameter is not read, is derived by a constraint, or only
      decides a comparison (which is named).
    - **non-finite**: a value or a derivative is NaN or infinite; named is where it arises.
    - **wrong**: the function is smooth and its derivative another one: a hand-written rule, a
      `stop_gradient`, a call of the host.
    - **ill-scaled**: finite differences cannot decide, or a cast to a narrower float is on the way.
    - **non-deterministic**: the same call gives other numbers.

    All of it is computed in float64, whatever JAX's default. A random model runs with the same `key` (or
    `noise`) everywhere: common random numbers.

    Args:
        model: the model.
        loss: what is differentiated: as `of` in `jacobian`; the default is the mean over time of every
            variable. A function compiles once per function object.
        wrt, params, scenario, shocks, initial, periods, key, noise: as in `jacobian`.
        elements: a verdict for every element of an array, or for arrays as wholes, which then move
            along one random direction. Default: elements, up to 128 of them.
        reach: the longest step, as a share of each value (of 1, where that is 0).
        rtol: the relative tolerance of derivatives, beyond the error bars of the differences.
        sharpness: for models with that option: how far from its exact path each value takes it.
        second_order: also compare second derivatives with differences of the gradient.

    Returns:
        A `Diagnosis`; `print(diagnose(model))` shows it.

    Raises:
        TypeError: no model, or a random one without a key. ValueError: a reach or sharpness that makes no
            sense. As `jacobian` otherwise.
    """
    if not (np.isfinite(reach) and 0 < reach <= 0.1):
        raise ValueError(f"reach must be a share greater than 0 and at most 0.1, not {reach}.")
    if sharpness and "sharpness" not in getattr(model, "options", {}):
        raise ValueError(f"{model.name} has no option 'sharpness' to smooth its switches with.")
    quiet = np.errstate(
        invalid="ignore", divide="ignore", over="ignore"
    )  # NaN is what is looked for
    with jax.enable_x64(True), quiet:
        target, inputs = _target(
            model,
            averages if loss is None else loss,
            wrt,
            "reverse",
            _cast(params, np.float64),
            _cast(scenario, np.float64),
            _cast(shocks, np.float64),
            _cast(initial, np.float64),
            periods,
            key,
            _cast(noise, np.float64),
            False,
        )
        if target.plan.batch is not None:
            raise ValueError("A diagnosis takes one run, not a batch of parameters.")
        work = _Diagnosing(model, Case.of(target, inputs), elements, reach, rtol)
        found = work.findings()
        tests = [] if work.repeated else work.tests(found, second_order)
        notes = [*work.notes, *work.float32_note()]
        alternatives = [_alternative(model, inputs, target.plan.periods, s) for s in sharpness]
    if model.options.get("sharpness", 0) is None and not sharpness:
        notes.append(
            f"{model.name}.configure(sharpness=...) rounds its switches off; "
            "diagnose(..., sharpness=(...)) says how far from the exact path."
        )
    random = ""
    if model.random or model.random_start:
        what = "noise" if noise is not None else "key"
        random = f"common random numbers: the same {what} in every run"
    return Diagnosis(
        model,
        work.case.outputs,
        tuple(found),
        tuple(tests),
        tuple(alternatives),
        tuple(notes),
        work.steps,
        work.ladders,
        random,
    )


@dataclasses.dataclass
class _Direction:
    """One way in which inputs move: an element by itself, or a field as a whole."""

    name: str
    label: str
    vector: np.ndarray
    value: float | None
    scale: float
    bounds: tuple[np.ndarray, np.ndarray]


class _Diagnosing:
    """The steps of a diagnosis, each of which needs what the one before has found."""

    def __init__(
        self, model: Model, case: Case, elements: bool | None, reach: float, rtol: float
    ) -> None:
        self.model, self.case, self.rtol = model, case, rtol
        self.rng = np.random.default_rng(SEED)
        self.by_element = case.x.size <= MOST_ELEMENTS if elements is None else elements
        self.directions = self._directions()
        self.steps = ladder.signed_steps(reach)
        self.ladders: dict[str, np.ndarray] = {}
        self.notes: list[str] = []
        self.repeated: Mark | str | None = None
        """What makes two equal calls differ."""

    def _directions(self) -> list[_Direction]:
        found, at, n = [], 0, self.case.x.size
        scale = np.where(self.case.x == 0, 1.0, np.abs(self.case.x))
        for one in self.case.target.wrt:
            leaf = self.case.leaves()[one.label]
            field = field_of(self.model, one)
            low, high = (np.full(leaf.size, float(edge)) for edge in field.bounds)
            where = np.arange(at, at + leaf.size)
            if self.by_element or leaf.size == 1:
                for i, index in zip(where, np.ndindex(leaf.shape), strict=True):
                    vector = np.zeros(n)
                    vector[i] = scale[i]
                    text = ",".join(map(str, index))
                    name = f"{one.label}[{text}]" if text else one.label
                    edges = (low[i - at : i - at + 1], high[i - at : i - at + 1])
                    found.append(
                        _Direction(name, one.label, vector, self.case.x[i], scale[i], edges)
                    )
            elif leaf.size:
                vector = np.zeros(n)
                signs = self.rng.choice([-1.0, 1.0], leaf.size)
                vector[where] = scale[where] * self.rng.uniform(0.3, 1.0, leaf.size) * signs
                found.append(_Direction(one.label, one.label, vector, None, 1.0, (low, high)))
            at += leaf.size
        return found

    # -- values ---------------------------------------------------------------------------------------

    def findings(self) -> list[Finding]:
        self._climb()
        if self.repeated is not None:
            return [self._non_deterministic(one) for one in self.directions]
        self._differentiate()
        self._locate()
        return [self._finding(j) for j in range(len(self.directions))]

    def _climb(self) -> None:
        """Evaluates the ladder of every direction, all in one batch, and what rounding does."""
        m, s = len(self.directions), len(self.steps)
        vectors = [one.vector for one in self.directions]
        n = self.case.x.size
        scale = np.where(self.case.x == 0, 1.0, np.abs(self.case.x))
        for _ in range(RANDOM):
            vectors.append(scale * self.rng.choice([-1.0, 1.0], n) * self.rng.uniform(0.3, 1, n))
        self.vectors = np.array(vectors)
        steps = self.steps[self.steps != 0]
        points = [self.case.x[None]]
        points += [self.case.x + steps[:, None] * vector for vector in self.vectors]
        jitter = ladder.NOISE_STEP * np.arange(1, ladder.NOISE_ROWS + 1)
        points.append(self.case.x + jitter[:, None] * self.vectors[-1])
        everything = np.concatenate(points)
        mark = self._retraced()
        if host := self._callback():
            self.case = dataclasses.replace(self.case, sequential=True)
        rows = self.case.values(everything)
        again = self.case.values(everything[:MOST_ROWS])  # a batch of the same size as the first
        if mark or not np.array_equal(rows[: len(again)], again, equal_nan=True):
            self.repeated = mark or host or "two equal runs differ"
            return
        # A capacity that nothing limits is infinite in every run: no step moves it.
        self.lasting = np.isinf(rows[0]) & np.all(rows == rows[0], axis=0)
        rows = np.where(self.lasting, 0.0, rows)
        self.base, moved, close = rows[0], rows[1 : -len(jitter)], rows[-len(jitter) :]
        moved = moved.reshape(m + RANDOM, s - 1, -1)
        half = (s - 1) // 2
        base = np.broadcast_to(self.base, (m + RANDOM, 1, self.base.size))
        self.values = np.concatenate([moved[:, :half], base, moved[:, half:]], axis=1)
        finite = np.where(np.isfinite(rows), np.abs(rows), 0.0)
        self.size = finite.max(axis=0)
        noise = ladder.noise_of(close)
        self.noise = np.where(np.isfinite(noise), noise, 2 * np.finfo(float).eps * self.size)
        # What no step moves beyond its rounding is the difference of things as large as the rest.
        still = np.ptp(np.where(np.isfinite(rows), rows, 0.0), axis=0) <= 10 * self.noise
        self.size = np.where(still, self.size.max(initial=0.0), self.size)

    def _retraced(self) -> Mark | None:
        """The first operation that another trace of the same model has not: a step that reads a clock, a
        counter or a random number of Python's."""
        self.program = self.case.program()
        one, two = (flow.operations(p) for p in (self.program, self.case.program()))
        for (text, mark), (other, _) in zip(one, two, strict=False):
            if text != other:
                return mark
        return None if len(one) == len(two) else one[-1][1] if one else None

    def _routes(self, marker: flow.Marker, *, clean_wins: bool) -> dict[str, Mark | None]:
        """Input -> None, or what marks it, over all outputs; an input that reaches none is missing."""
        labels = list(self.case.leaves())
        found: dict[str, Mark | None] = {}
        for out in flow.routes(self.program, labels, marker, clean_wins=clean_wins):
            for name, mark in out.items():
                better = mark is None if clean_wins else mark is not None
                if name not in found or better:
                    found[name] = mark if name not in found or better else found[name]
        return found

    def _callback(self) -> Mark | None:
        calls = [m for _, m in flow.operations(self.program) if m.operation in flow.CALLBACKS]
        return calls[0] if calls else None

    # -- derivatives ----------------------------------------------------------------------------------

    def _differentiate(self) -> None:
        """Forward along every direction, and reverse for a few random weights of the outputs."""
        self.open = self._routes(flow.blocks, clean_wins=True)
        self.hosted = self._routes(flow.calls_host, clean_wins=False)
        self.stopped = self._routes(flow.stops, clean_wins=False)
        self.narrowed = self._routes(flow.narrows, clean_wins=False)
        hosted = {name for name, mark in self.hosted.items() if mark is not None}
        size = np.where(self.size > 0, self.size, 1.0)
        normal = self.rng.standard_normal((WEIGHTS, self.size.size))
        self.weights = np.where(self.lasting | ~np.isfinite(self.base), 0.0, normal / size)
        self.forward = self._forward(hosted)
        self.reverse = self._reverse(hosted)
        self.gaps = np.zeros(len(self.vectors))
        if self.forward is not None and self.reverse is not None:
            # <J v, w> and <v, J' w> of every direction and weight: 0 where undefined, which is said elsewhere.
            left = self.weights @ np.where(self.weights.any(axis=0), self.forward, 0.0).T
            right = self.reverse @ self.vectors.T
            terms = np.abs(self.weights) @ np.abs(self.forward).T
            terms += np.abs(self.reverse) @ np.abs(self.vectors).T
            # Outputs weigh one over their sizes: less than 1e-3 is next to rounding.
            gaps = (np.abs(left - right) / np.maximum(terms, 1e-3)).max(axis=0)
            self.gaps = np.where(np.isfinite(gaps), gaps, 0.0)
        if self.forward is None and self.reverse is not None:
            self.notes.append(
                "there is no forward mode through a custom_vjp rule: derivatives are reverse mode's, of "
                f"{WEIGHTS} random weighted sums of the outputs"
            )
        if self.reverse is None and self.forward is not None:
            self.notes.append("there is no reverse mode through a loop of unknown length")

    def _forward(self, without: set[str]) -> np.ndarray | None:
        case, left = self.case.without(without)
        try:
            slopes = case.forward(self.vectors[:, left]) if left.any() else None
        except (TypeError, ValueError, NotImplementedError):
            return None
        return None if slopes is None else np.where(self.lasting, 0.0, slopes)

    def _reverse(self, without: set[str]) -> np.ndarray | None:
        case, left = self.case.without(without)
        found = np.zeros((WEIGHTS, self.case.x.size))
        try:
            if left.any():
                found[:, left] = case.reverse(self.weights)
        except (TypeError, ValueError, NotImplementedError):
            return None
        return found if left.any() else None

    # -- kinks and jumps ------------------------------------------------------------------------------

    def _usable(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a ladder without those outside of the bounds that are not finite."""
        steps, values = self.steps, self.values[j]
        fine = np.isfinite(values).all(axis=1)
        if fine.all():
            return steps, values
        inside = fine | np.array([self._within_bounds(j, s) for s in steps])
        return (steps[inside], values[inside]) if not inside.all() else (steps, values)

    def _within_bounds(self, j: int, s: float) -> bool:
        one = self.directions[j]
        moved = one.vector != 0
        at = (self.case.x + s * one.vector)[moved]
        low, high = one.bounds
        return bool(np.all(at >= low) and np.all(at <= high))

    def _locate(self) -> None:
        """Finds the kinks and jumps: brackets from the ladder, enlarged in batches."""
        brackets, owners = [], []
        for j in range(len(self.directions)):
            steps, values = self._usable(j)
            if len(steps) < 5 or not np.isfinite(values).all() or np.ptp(values, axis=0).max() == 0:
                continue
            seen = ladder.suspects(steps, values, self.noise, self.size)
            for low, high in seen[:BRACKETS]:
                brackets.append((j, low, high))
                owners.append(j)

        def evaluate(which: list[int], grids: np.ndarray) -> np.ndarray:
            points = self.case.x + grids[..., None] * self.vectors[which][:, None]
            rows = np.where(
                self.lasting, 0.0, self.case.values(points.reshape(-1, self.case.x.size))
            )
            return rows.reshape(*grids.shape, -1)

        moved = np.nan_to_num(np.abs(self.values - self.base), posinf=0.0).max(axis=(0, 1))
        found = (
            ladder.enlarge(brackets, evaluate, self.noise, self.size, moved / self.steps.max())
            if brackets
            else []
        )
        self.events: dict[int, Event] = {}
        for j, event in zip(owners, found, strict=True):
            if event and (j not in self.events or event.distance < self.events[j].distance):
                self.events[j] = event
        located = list(self.events.items())
        named = (
            causes.of_events(self.case, self.model, [(self.vectors[j], e) for j, e in located])
            if located
            else []
        )
        self.switching = {j: cause for (j, _), cause in zip(located, named, strict=True)}

    # -- verdicts -------------------------------------------------------------------------------------

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

    def _remember(self, j: int, one: _Direction, event: Event | None) -> None:
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

    def _wrong(self, one: _Direction, base: Finding) -> Finding:
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

    def _apart(self, one: _Direction, base: Finding) -> Finding:
        mark = self._routes(flow.chooses, clean_wins=False).get(one.label)
        cause = causes.of_mark(mark) if mark else None
        why = "Forward and reverse mode give different derivatives"
        why += "." if cause is None else "; of what it passes through, this is known to do that."
        remedy = (
            "" if cause is None else "Pick the element by jnp.argmin or argmax, and take that one."
        )
        return dataclasses.replace(base, verdict="wrong", why=why, cause=cause, remedy=remedy)

    def _non_deterministic(self, one: _Direction) -> Finding:
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
                    k: _cast(v, np.float32) if k != "periods" else v for k, v in arguments.items()
                }
                rough = simulate(self.model, **narrow)
        except (RuntimeError, TypeError, ValueError) as error:
            return [f"float32: {str(error).partition(chr(10))[0]}"]
        return [
            _apart(exact, rough, "float32: at most {:.0e} of its size from float64 ({}, period {})")
        ]


def _share(s: float, one: _Direction) -> str:
    if s == 0:
        return "at the point itself"
    if one.value == 0 or one.value is None:
        return f"at a step of {s:+.2g}"
    return f"at {one.value * (1 + s * np.sign(one.value)):.6g} ({s * np.sign(one.value):+.2g} of its value)"


def _signed(event: Event) -> float:
    return (
        0.0 if event.distance == 0 else float(np.copysign(event.distance, event.low + event.high))
    )


def _where(event: Event, one: _Direction) -> str:
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


def _cast(tree: Any, dtype: Any) -> Any:
    """The same with floats of `dtype`; for float32 as arrays of JAX, which decide the dtype of a run."""

    def cast(leaf: Any) -> Any:
        if isinstance(leaf, str):  # a scenario's name
            return leaf
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(
                "A diagnosis needs numbers: call it outside of jit and other transforms."
            )
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        return jnp.asarray(leaf, dtype) if dtype == np.float32 else np.asarray(leaf, dtype)

    return jax.tree.map(cast, tree)


def _apart(exact: Any, other: Any, text: str) -> str:
    return text.format(*_largest_distance(exact, other))


def _largest_distance(exact: Any, other: Any) -> tuple[float, str, int]:
    """The largest distance of two paths as a share of the variable's size: (share, variable, period)."""
    floats = {
        key: (np.asarray(getattr(exact, key), float), np.asarray(getattr(other, key), float))
        for key in exact.fields
        if jnp.issubdtype(getattr(exact, key).dtype, jnp.floating)
    }
    sizes = {
        k: np.max(np.abs(a), where=np.isfinite(a), initial=0.0) for k, (a, _) in floats.items()
    }
    # What is the small difference of large variables has their rounding.
    least = 1e-3 * max(sizes.values(), default=1.0)
    worst = (0.0, "", 0)
    for key, (a, b) in floats.items():
        with np.errstate(invalid="ignore"):
            gap = np.where(a == b, 0.0, np.abs(a - b)) / max(sizes[key], least, 1e-300)
        gap = np.where(np.isfinite(gap), gap, np.inf).reshape(gap.shape[0], -1).max(axis=1)
        if gap.max(initial=0.0) > worst[0]:
            worst = (float(gap.max()), key, int(np.argmax(gap)))
    return worst


def _alternative(model: Model, inputs: Any, periods: int, sharpness: float) -> Alternative:
    given = inputs._asdict()
    exact = simulate(model.configure(sharpness=None), periods=periods, **given)
    smooth = simulate(model.configure(sharpness=sharpness), periods=periods, **given)
    return Alternative(float(sharpness), *_largest_distance(exact, smooth))
