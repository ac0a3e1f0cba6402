"""The run: backends in turn, round after round, process after process."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._backends import BACKENDS, REFERENCE
from ._cases import SCENARIOS, Case, cases, check_counts, check_names
from ._figures import calls_per_round, disagreement
from ._results import SINGLE, Results, Row
from ._workers import Cannot, Gone, Worker

LEAST = 3
"""Rounds of calls so slow that the budget has no room for more."""
SLOW = 4
"""A row may take so many times its budget before its rounds are cut to the least."""

Progress = Callable[[str], None]


def run(
    models: Sequence[str],
    *,
    scenarios: Sequence[str] | None = None,
    backends: Sequence[str] | None = None,
    periods: Sequence[int] = (),
    batch: Sequence[int] = (1024,),
    sizes: Sequence[Mapping[str, int]] = (),
    budget: float = 0.5,
    rounds: int = 7,
    processes: int = 3,
    limit: float = 120.0,
    peer: str | None = None,
    seed: int = 0,
    command: str | None = None,
    progress: Progress | None = None,
) -> Results:
    """Times models on backends; every figure by interleaved repeats in several processes.

    Args:
        models: names of models of the register.
        scenarios: of `SCENARIOS`; default: all. `simulate` is always measured: others are compared
            with it.
        backends: of `BACKENDS`; default: all. What one cannot do is a row with the reason.
        periods: horizons; default: each model's own.
        batch: runs of a sweep.
        sizes: numbers of agents, each a mapping from axis to size as `Model.resize` takes; default:
            the model's own.
        budget: seconds of prepared calls for each figure and process.
        rounds: into which they are divided; the backends take turns from round to round.
        processes: how often all backends are started anew: timings differ between processes.
        limit: seconds after which a first or a prepared call is given up; the row says so.
        peer: the Python of an environment with the published torch package.
        seed: of random models' noise, the same for all backends.
        command: the command line, to be kept with the results.
        progress: called with a line of text before each case.

    Returns:
        The results: a row for every case and backend. Interrupted from the keyboard, those so far.

    Raises:
        KeyError: an unknown model or axis. ValueError: an unknown scenario or backend, with the list of
            what there is; sizes or settings out of range.
    """
    scenarios = check_names(
        "scenario", list(SCENARIOS if scenarios is None else scenarios), SCENARIOS
    )
    chosen = check_names("backend", list(BACKENDS if backends is None else backends), BACKENDS)
    periods, batch = check_counts("periods", periods), check_counts("batch", batch)
    check_counts("rounds and processes", (rounds, processes))
    if not (budget > 0 and limit > 0):
        raise ValueError(f"budget and limit are seconds above 0, not {budget!r} and {limit!r}.")
    if isinstance(models, str) or not models:
        raise ValueError("Name one or more models, as a list.")
    from .. import models as register

    todo: list[Case] = []
    for name in models:
        todo += cases(register.get(name), scenarios, periods, batch, sizes, seed)
    session = _Session(chosen, budget, rounds, limit, peer, progress or (lambda text: None))
    started = time.strftime("%Y-%m-%d")
    machine = machine_of()
    stopped = False
    try:
        for number in range(processes):
            session.process(todo, number, processes)
    except KeyboardInterrupt:
        stopped = True
        if not any(row.measured for row in session.rows.values()):
            raise
    settings = {
        "command": command,
        "date": started,
        "budget": budget,
        "rounds": rounds,
        "processes": processes,
        "limit": limit,
        "stopped": stopped,
    }
    return Results(session.finished(), machine, session.about, settings)


class _Session:
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
        self.otherwise: dict[tuple[Any, ...], tuple[str, ...]] = {}
        """Model and size -> the variables that the published package computes otherwise."""

    def process(self, todo: Sequence[Case], number: int, of: int) -> None:
        """One process of every backend through all cases."""
        text = f"process {number + 1} of {of}"
        self.tell(f"{text}: starting {', '.join(self.backends)}")
        try:
            for name in self.backends:
                self._start(name)
            for at, case in enumerate(todo):
                self.tell(f"{text}, {at + 1} of {len(todo)}: {case.label}")
                self._case(case, check=number == 0)
        finally:
            for worker in self.workers.values():
                worker.close()
            self.workers = {}

    def _start(self, name: str) -> Worker | None:
        """The backend's worker, started if it is not there; None where it cannot be."""
        if name in self.workers and self.workers[name].alive:
            return self.workers[name]
        if "reason" in self.about.get(name, {}):
            return None
        if name in self.workers:
            self.workers.pop(name).close()
        try:
            worker = self.workers[name] = Worker(name, self.peer, self.limit)
            limits = worker.ask("limits")
        except Cannot as error:
            self.workers.pop(name, None)
            if name in self.backends:
                self.about[name] = {"reason": str(error)}
            return None
        if name in self.backends:
            known = self.about.setdefault(name, {**worker.about, "limits": {}})["limits"]
            for key, value in limits.items():
                known[key] = max(known.get(key, 0.0), value)
        return worker

    def _row(self, case: Case, backend: str) -> Row:
        given = case.to_dict()
        del given["without"]
        row = Row(backend=backend, **given)
        return self.rows.setdefault(row.key, row)

    def _case(self, case: Case, check: bool) -> None:
        ready: dict[str, int] = {}
        for name in self.backends:
            row = self._row(case, name)
            if row.reason is not None:
                continue
            worker = self._start(name)
            if worker is None:
                row.reason = self.about[name]["reason"]
                continue
            try:
                ready[name] = self._prepare(worker, case, row)
            except Cannot as error:
                self._cannot(row, error)
                if not isinstance(error, Gone):
                    self._drop(worker)
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

    def _prepare(self, worker: Worker, case: Case, row: Row) -> int:
        """Traces, compiles and calls once; how many calls a round has room for."""
        asked = case.to_dict()
        if BACKENDS[worker.name].module is None:
            case = dataclasses.replace(case, without=self.otherwise.get(_place(case), ()))
            asked = case.to_dict() | _for_peer(case)
        found = worker.ask("prepare", case=asked)
        called = worker.ask("first")["seconds"]
        for key in ("dtype", "parameters", "outputs", "runs", "passes", "note"):
            setattr(row, key, found.get(key, getattr(row, key)))
        for key in ("program_bytes", "operations", "traffic"):
            setattr(row, key, found.get(key))
        row.first.append(found["seconds"] + called)
        row.trace.append(found["trace"])
        row.compile.append(found["compile"])
        again = worker.ask("measure", calls=1)["seconds"][0]
        if worker.name == "torch-compile":  # it compiles in its first call
            row.compile[-1] = max(called - again, 0.0)
        return calls_per_round(again, self.budget, self.rounds)

    def _rounds(self, case: Case, ready: dict[str, int]) -> None:
        """The backends in turn, forward and backward, so that a disturbance meets all of them."""
        left = dict(ready)
        times: dict[str, list[float]] = {name: [] for name in ready}
        for turn in range(self.rounds):
            for name in list(left)[:: 1 if turn % 2 == 0 else -1]:
                try:
                    found = self.workers[name].ask(
                        "measure", calls=left[name], limit=self.limit + 2 * self.budget
                    )
                except Cannot as error:
                    del left[name]
                    self._cannot(self._row(case, name), error)
                    continue
                times[name].append(float(np.median(found["seconds"])))
                slow = times[name][-1] * self.rounds > SLOW * self.budget
                if slow and len(times[name]) >= LEAST:
                    del left[name]
        for name, found in times.items():
            if found:
                self._row(case, name).seconds.append(found)

    def _cannot(self, row: Row, error: Cannot) -> None:
        """A reason; where earlier processes were measured, they stay, and the row notes it."""
        if row.seconds:
            row.note = f"in one process of several: {error}"
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
        """How far each result is from the reference, and the reference from dual numbers or NumPy."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for name in names:
            try:
                found[name] = self.workers[name].arrays("result")
            except (Cannot, KeyError):
                continue
        own = case.scenario in ("simulate", "jvp", "jacobian-forward")
        if not found or (own and list(found) == [REFERENCE]):
            return
        right = found.get(REFERENCE) if own else None
        if right is None:
            right = self._reference(case)
        if right is None:
            return
        for name, arrays in found.items():
            row = self._row(case, name)
            against, row.against = right, "jax-cpu" if case.order == 0 else "forward mode"
            if name == REFERENCE and own:
                witness = next((n for n in ("dual", "numpy", "torch-eager") if n in found), None)
                if witness is None:
                    row.against = None
                    continue
                against, row.against = found[witness], witness
            if BACKENDS[name].module is None:
                against = self._common(row, case, arrays, against)
                arrays = {key: value for key, value in arrays.items() if key in against}
            row.agreement = disagreement(arrays, against)

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
            row.note = f"compared without {', '.join(left)}, which it computes otherwise"
        if left and case.scenario == "gradient":
            limited = dataclasses.replace(case, without=left)
            return self._reference(limited) or right
        return {key: value for key, value in right.items() if key not in left}

    def _reference(self, case: Case) -> dict[str, np.ndarray] | None:
        worker = self._start(REFERENCE)
        if worker is None:
            return None
        try:
            return worker.arrays("reference", case=case.to_dict())
        except Cannot as error:
            if isinstance(error, Gone) and REFERENCE in self.workers:
                self.workers.pop(REFERENCE).close()
            return None

    def finished(self) -> list[Row]:
        """All rows, with what follows from others: the plain simulation, the machine's limits."""
        rows = list(self.rows.values())
        for row in rows:
            if not row.measured and row.reason is None:
                row.reason = "the run was stopped before it was measured"
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


def machine_of() -> dict[str, Any]:
    """What runs the benchmark, without names or paths of it."""
    cpu = platform.processor() or platform.machine()
    memory = None
    info, size = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if info.exists():
        models = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        cpu = models[0].strip() if models else cpu
    if size.exists() and (found := re.search(r"MemTotal:\s+(\d+)", size.read_text())):
        memory = math.ceil(int(found[1]) / 2**20)
    settings = ("XLA_FLAGS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu,
        "cores": _cores(),
        "memory_gib": memory,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        **{name: os.environ[name] for name in settings if name in os.environ},
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
