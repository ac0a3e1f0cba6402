"""What a diagnosis measures: values along a ladder of steps, derivatives, and where switches flip."""

from __future__ import annotations

import dataclasses

import numpy as np

from .._model import Model
from . import _diagnose_causes as causes
from . import _diagnose_ladder as ladder
from . import _trace_flow as flow
from ._diagnose_ladder import Event
from ._diagnose_runs import MOST_ROWS, Case
from ._target import field_of
from ._trace_flow import Mark

MOST_ELEMENTS = 128
RANDOM, WEIGHTS, BRACKETS = 2, 3, 2
SEED = 20240229


@dataclasses.dataclass
class Direction:
    """One way in which inputs move: an element by itself, or a field as a whole."""

    name: str
    label: str
    vector: np.ndarray
    value: float | None
    scale: float
    bounds: tuple[np.ndarray, np.ndarray]


class Measured:
    """What a diagnosis measures, in steps each of which needs what the one before has found."""

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

    def _directions(self) -> list[Direction]:
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
                        Direction(name, one.label, vector, self.case.x[i], scale[i], edges)
                    )
            elif leaf.size:
                vector = np.zeros(n)
                signs = self.rng.choice([-1.0, 1.0], leaf.size)
                vector[where] = scale[where] * self.rng.uniform(0.3, 1.0, leaf.size) * signs
                found.append(Direction(one.label, one.label, vector, None, 1.0, (low, high)))
            at += leaf.size
        return found

    def measure(self) -> None:
        self._climb()
        if self.repeated is None:
            self._differentiate()
            self._locate()

    # -- values ---------------------------------------------------------------------------------------

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
