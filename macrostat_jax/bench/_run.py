"""The run: backends in turn, round after round, process after process."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ._backends import BACKENDS
from ._cases import SCENARIOS, Case, cases, check_counts, check_names
from ._machine import machine_of
from ._results import Results
from ._session import NEVER, Progress, Session


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
    keep: str | Path | None = None,
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
        limit: seconds after which a call is given up; the row says so. A row that has taken so long
            altogether is left with the rounds that it has, and not measured in further processes.
        peer: the Python of an environment with the published torch package.
        seed: of random models' noise, the same for all backends.
        command: the command line, to be kept with the results.
        progress: called with a line of text before each backend of each case.
        keep: a `.json` that holds what is known after each case, whatever stops the run; `load` reads it.

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
    if not (0 < budget < math.inf and 0 < limit < math.inf):
        raise ValueError(f"budget and limit are seconds above 0, not {budget!r} and {limit!r}.")
    if keep is not None and Path(keep).suffix != ".json":
        raise ValueError(f"keep is a .json file, not {Path(keep).name!r}.")
    if isinstance(models, str) or not models:
        raise ValueError("Name one or more models, as a list.")
    from .. import models as register

    todo: list[Case] = []
    for name in dict.fromkeys(models):
        todo += cases(register.get(name), scenarios, periods, batch, sizes, seed)
    session = Session(chosen, budget, rounds, limit, peer, progress or (lambda text: None))
    machine = machine_of()
    settings = {
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "budget": budget,
        "rounds": rounds,
        "processes": processes,
        "limit": limit,
    }

    def results(stopped: bool) -> Results:
        about = {name: session.about.get(name, {"reason": NEVER}) for name in chosen}
        return Results(session.finished(todo), machine, about, {**settings, "stopped": stopped})

    try:
        for number in range(processes):
            with contextlib.closing(session.process(todo, number, processes)) as done:
                for _ in done:
                    if keep is not None:
                        results(stopped=True).save(keep)
    except KeyboardInterrupt:
        if not any(row.measured for row in session.rows.values()):
            raise
        return results(stopped=True)
    return results(stopped=False)
