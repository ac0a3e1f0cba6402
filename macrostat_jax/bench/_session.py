"""The session of a run: the workers, their turns, and all that is known so far."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from ._backends import BACKENDS, REFERENCE
from ._cases import Case
from ._figures import calls_per_round, disagreement
from ._results import SINGLE, Row
from ._workers import Cannot, Gone, Worker

LEAST = 3
"""Rounds of calls so slow that the budget has no room for more."""
SLOW = 4
"""A row may take so many times its budget before its rounds are cut to the least."""
NEVER = "the run was stopped before it was measured"

Progress = Callable[[str], None]


class Session:
    """Everything that is known so far, and the workers of the present process."""

    def __init__(
        self,
        backends: tuple[str, ...],
        budget: float,
        rounds: int,
        limit: float,
        peer: str | None,
        tell: Progress,
    ) -> None:
        self.backends, self.budget, self.rounds = backends, budget, rounds
        self.limit, self.peer, self.tell = limit, peer, tell
        self.about: dict[str, dict[str, Any]] = {}
        self.rows: dict[tuple[Any, ...], Row] = {}
        self.workers: dict[str, Worker] = {}
        self.failed: dict[str, str] = {}
        """Backend -> why it does not start."""
        self.otherwise: dict[tuple[Any, ...], tuple[str, ...]] = {}
        """Model and size -> the variables that the published package computes otherwise."""
        self.spent: dict[tuple[Any, ...], float] = {}
        """Row -> the seconds that it has taken, over all processes."""
        self.place = ""

    def process(self, todo: Sequence[Case], number: int, of: int) -> Generator[Case, None, None]:
        """One process of every backend through all cases; yields each that is done."""
        text = f"process {number + 1} of {of}"
        try:
            for name in self.backends:
                self.tell(f"{text}: starting {name}")
                with contextlib.suppress(Cannot):  # its rows will say so
                    self._start(name)
            for at, case in enumerate(todo):
                self.place = f"{text}, {at + 1} of {len(todo)}: {case.label}"
                self._case(case, check=number == 0)
                yield case
        finally:
            for worker in self.workers.values():
                worker.close()
            self.workers = {}

    def _start(self, name: str) -> Worker:
        """The backend's worker, started if it is not there.

        Raises:
            Cannot: it does not start, now or before.
        """
        if name in self.failed:
            raise Cannot(self.failed[name])
        if name in self.workers:
            if self.workers[name].alive:
                return self.workers[name]
            self.workers.pop(name).close()
        try:
            worker = self.workers[name] = Worker(name, self.peer, self.limit)
            limits = worker.ask("limits")
        except Cannot as error:
            self.failed[name] = str(error)
            if name in self.workers:
                self.workers.pop(name).close()
            self.about.setdefault(name, {"reason": str(error)})
            raise
        known = self.about.setdefault(name, {**worker.about, "limits": {}})["limits"]
        for key, value in limits.items():
            known[key] = max(known.get(key, 0.0), value)
        return worker

    def _row(self, case: Case, backend: str) -> Row:
        given = case.to_dict()
        del given["without"]
        row = Row(backend=backend, **given)
        return self.rows.setdefault(row.key, row)

    def _ask(self, row: Row, do: str, **request: Any) -> dict[str, Any]:
        """A request of which the row bears the time."""
        start = time.perf_counter()
        try:
            return self.workers[row.backend].ask(do, **request)
        finally:
            took = time.perf_counter() - start
            self.spent[row.key] = self.spent.get(row.key, 0.0) + took

    def _slow(self, row: Row) -> bool:
        return self.spent.get(row.key, 0.0) > self.limit

    def _case(self, case: Case, check: bool) -> None:
        ready: dict[str, int] = {}
        for name in self.backends:
            row = self._row(case, name)
            if row.reason is not None:
                continue
            if row.seconds and self._slow(row):
                many = "one process" if len(row.seconds) == 1 else f"{len(row.seconds)} processes"
                self._note(row, f"{many} only, as it took over {self.limit:g} s (--limit)")
                continue
            self.tell(f"{self.place}, {name}")
            try:
                self._start(name)
                ready[name] = self._prepare(case, row)
            except Cannot as error:
                self._cannot(row, error)
                if name in self.workers:
                    self._drop(self.workers[name])
        self._rounds(case, ready)
        for name in ready:
            worker = self.workers.get(name)
            if worker is not None and worker.alive:
                with contextlib.suppress(Cannot):
                    self._row(case, name).memory.append(worker.ask("peak")["bytes"])
        if check:
            self._check(case, list(ready))
        for name in ready:
            if name in self.workers:
                self._drop(self.workers[name])

    def _prepare(self, case: Case, row: Row) -> int:
        """Traces, compiles and calls once; how many calls a round has room for."""
        asked = case.to_dict()
        if BACKENDS[row.backend].module is None:
            case = dataclasses.replace(case, without=self.otherwise.get(_place(case), ()))
            asked = case.to_dict() | _for_peer(case)
        found = self._ask(row, "prepare", case=asked)
        called = self._ask(row, "first")["seconds"]
        for key in ("dtype", "parameters", "outputs", "runs", "passes"):
            setattr(row, key, found.get(key, getattr(row, key)))
        for key in ("program_bytes", "operations", "traffic"):
            setattr(row, key, found.get(key))
        if "note" in found:
            self._note(row, found["note"])
        row.first.append(found["seconds"] + called)
        row.trace.append(found["trace"])
        row.compile.append(found["compile"])
        again = self._ask(row, "measure", calls=1)["seconds"][0]
        if row.backend == "torch-compile":  # it compiles in its first call
            row.compile[-1] = max(called - again, 0.0)
        return calls_per_round(again, self.budget, self.rounds)

    def _rounds(self, case: Case, ready: dict[str, int]) -> None:
        """The backends in turn, forward and backward, so that a disturbance meets all of them."""
        left = dict(ready)
        times: dict[str, list[float]] = {name: [] for name in ready}
        for turn in range(self.rounds):
            for name in list(left)[:: 1 if turn % 2 == 0 else -1]:
                row = self._row(case, name)
                try:
                    found = self._ask(
                        row, "measure", calls=left[name], limit=self.limit + 2 * self.budget
                    )
                except Cannot as error:
                    del left[name]
                    if begun := times.pop(name):
                        row.seconds.append(begun)
                    self._cannot(row, error)
                    continue
                times[name].append(float(np.median(found["seconds"])))
                slow = times[name][-1] * self.rounds > SLOW * self.budget
                if self._slow(row) or (slow and len(times[name]) >= LEAST):
                    del left[name]
        for name, found in times.items():
            if found:
                self._row(case, name).seconds.append(found)

    def _note(self, row: Row, text: str) -> None:
        if text not in (row.note or ""):
            row.note = f"{row.note}; {text}" if row.note else text

    def _cannot(self, row: Row, error: Cannot) -> None:
        """A reason; what was measured before stays, and the row notes it."""
        if row.seconds:
            self._note(row, f"not in every round: {error}")
        else:
            row.reason = str(error)
        if isinstance(error, Gone) and row.backend in self.workers:
            self.workers.pop(row.backend).close()

    def _drop(self, worker: Worker) -> None:
        try:
            worker.ask("drop")
        except Cannot:
            if self.workers.get(worker.name) is worker:
                self.workers.pop(worker.name).close()

    def _check(self, case: Case, names: list[str]) -> None:
        """How far each result is from the reference, and the reference from dual numbers or NumPy.

        What was measured and could not be compared has a note that says why.
        """
        found: dict[str, dict[str, np.ndarray]] = {}
        for name in names:
            row = self._row(case, name)
            try:
                if name not in self.workers:
                    raise Cannot("its process is gone")
                found[name] = self.workers[name].arrays("result")
            except Cannot as error:
                self._note(row, f"not compared: {error}")
        if not found:
            return
        own = case.scenario in ("simulate", "jvp", "jacobian-forward") and REFERENCE in found
        held = [name for name in found if not (own and name == REFERENCE)]
        try:
            right = found[REFERENCE] if own or not held else self._reference(case)
        except Cannot as error:
            for name in held:
                self._note(self._row(case, name), f"not compared: no reference: {error}")
            return
        for name in held:
            row, arrays, against = self._row(case, name), found[name], right
            row.against = "jax-cpu" if case.order == 0 else "forward mode"
            if BACKENDS[name].module is None:
                try:
                    against = self._common(row, case, arrays, right)
                except Cannot as error:
                    self._note(row, f"not compared: no reference: {error}")
                    continue
                arrays = {key: value for key, value in arrays.items() if key in against}
            row.agreement = disagreement(arrays, against)
        witness = next((n for n in ("dual", "numpy", "torch-eager") if n in found), None)
        if own and witness is not None:
            row = self._row(case, REFERENCE)
            row.against, row.agreement = witness, disagreement(found[REFERENCE], found[witness])

    def _common(
        self, row: Row, case: Case, found: dict[str, np.ndarray], right: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The part of the reference that the published package is held to: what it computes as we do.

        Its plain simulation shows which variables it leaves out, or never sets; the row says so.
        """
        place = _place(case)
        if case.scenario == "simulate":
            close = {
                key
                for key, value in right.items()
                if key in found and disagreement({key: found[key]}, {key: value}) <= SINGLE
            }
            self.otherwise[place] = tuple(key for key in right if key not in close)
        left = self.otherwise.get(place, ())
        if left:
            self._note(row, f"compared without {', '.join(left)}, which it computes otherwise")
        if left and case.scenario == "gradient":
            return self._reference(dataclasses.replace(case, without=left))
        return {key: value for key, value in right.items() if key not in left}

    def _reference(self, case: Case) -> dict[str, np.ndarray]:
        try:
            return self._start(REFERENCE).arrays("reference", case=case.to_dict())
        except Gone:
            self.workers.pop(REFERENCE).close()
            raise

    def finished(self, todo: Sequence[Case]) -> list[Row]:
        """All rows, with what follows from others: the plain simulation, the machine's limits."""
        rows = [
            dataclasses.replace(self._row(case, name)) for case in todo for name in self.backends
        ]
        for row in rows:
            if not row.measured and row.reason is None:
                row.reason = self.failed.get(row.backend, NEVER)
        plain = {
            (row.backend, row.model, row.periods, str(row.sizes)): row.median
            for row in rows
            if row.scenario == "simulate" and row.measured
        }
        best = _best(self.about)
        for row in rows:
            row.simulation = plain.get((row.backend, row.model, row.periods, str(row.sizes)))
            limits = best.get(self.about.get(row.backend, {}).get("device"))
            if (
                row.measured
                and limits
                and row.dtype == "float64"
                and row.operations is not None
                and row.traffic is not None
            ):
                row.limit = max(row.operations / limits["rate"], row.traffic / limits["bandwidth"])
        return rows


def _best(about: Mapping[str, Mapping[str, Any]]) -> dict[Any, dict[str, float]]:
    """Device -> the highest bandwidth and rate that any backend reached on it in float64."""
    found: dict[Any, dict[str, float]] = {}
    for name, one in about.items():
        if BACKENDS[name].dtype == "float64" and "limits" in one:
            limits = found.setdefault(one["device"], {})
            for key, value in one["limits"].items():
                limits[key] = max(limits.get(key, 0.0), value)
    return found


def _place(case: Case) -> tuple[Any, ...]:
    return case.model, case.periods, case.sizes


def _for_peer(case: Case) -> dict[str, Any]:
    """What the published package's worker cannot look up by itself: our names and shapes."""
    from .. import models as register

    model = register.get(case.model)
    if any(field.shape for field in model.Params.fields.values()) and case.order:
        raise Cannot("parameters that are arrays: the two packages order them differently")
    fields = model.State.fields
    return {
        "random": bool(model.random or model.random_start),
        "params": [field.name for field in model.Params.fields.values()],
        "variables": {
            fields[key].name: [key, list(fields[key].shape)]
            for key in model.real
            if key not in case.without
        },
    }
