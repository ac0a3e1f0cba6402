"""The documented torch API, side by side with the published package on the same machine.

    python benchmarks/torch_api.py [MODEL ...]

Warm: simulate, reverse and forward Jacobians of a scalar loss and central differences, each repeated in
a process; medians over processes. Cold: a fresh process that imports, simulates once and takes one
reverse Jacobian, from starting Python to its exit, with an empty and with a filled compilation cache.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from _harness import (
    Interpreter,
    Report,
    Row,
    Variant,
    check_packages,
    interleave,
    interpreter,
    options,
    peer_interpreter,
    run_worker,
    seconds,
    spread,
    variants,
    versus,
)

WORKER = "_torch_worker.py"
MODELS = ("LINEAR2D", "GL06SIM", "GL06SIMEX", "GL06PC")
REQUIRED = {"GL06PC": {"simulate": 10, "rev": 30, "fwd": 100, "numerical": 150}}
"""Model -> operation -> how many times faster than the published package, at least."""
TITLES = {
    "simulate": "simulate",
    "rev": "Jacobian, reverse",
    "fwd": "Jacobian, forward",
    "numerical": "Jacobian, central differences",
}
COLD_LIMIT = {"empty": 1.0, "filled": 0.7}
"""Share of the published package's time that the whole command may take, by state of the cache."""


def warm_rows(model: str, peer: Interpreter, ours: list[Variant], given: Any) -> list[Row]:
    jobs = {
        "peer": partial(run_worker, peer, peer.environment(), WORKER, "warm", model, given.budget)
    }
    for one in ours:
        env = one.environment()
        jobs[one.label] = partial(run_worker, one.python, env, WORKER, "warm", model, given.budget)
    found = interleave(jobs, given.processes)
    check_packages(found)
    rows = []
    for one in ours:
        for key, title in TITLES.items():
            required = REQUIRED.get(model, {}).get(key)
            rows.append(
                versus(
                    f"{title} [{one.label}]", found["peer"], found[one.label], (key, key), required
                )
            )
        rows.append(_agreement(one.label, found["peer"][0], found[one.label][0]))
    return rows


def _agreement(label: str, peer: dict[str, Any], ours: dict[str, Any]) -> Row:
    """Fast and different would be no comparison. The peer computes in float32."""
    scale = max(abs(value) for value in peer["gradient"].values()) or 1.0
    worst = max(abs(ours["gradient"][k] - v) for k, v in peer["gradient"].items()) / scale
    shown = {"ratio": f"{worst:.1e}"}
    return Row(f"reverse Jacobians differ by [{label}]", shown, worst, ("<=", 1e-3))


def cold_rows(model: str, peer: Interpreter, ours: list[Variant], given: Any) -> list[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        filled = {one.label: Path(scratch) / f"filled-{i}" for i, one in enumerate(ours)}

        def run(one: Variant, state: str) -> dict[str, Any]:
            folder = filled[one.label]
            if state == "empty":
                shutil.rmtree(folder, ignore_errors=True)
            env = one.environment(MACROSTAT_CACHE=str(folder))
            return run_worker(one.python, env, WORKER, "cold", model)

        def pair(one: Variant) -> dict[str, Any]:
            """An empty cache, and then the same cache filled by that process."""
            return {state: run(one, state)["wall"] for state in COLD_LIMIT}

        jobs: dict[str, Any] = {
            "peer": partial(run_worker, peer, peer.environment(), WORKER, "cold", model)
        }
        for one in ours:
            jobs[one.label] = partial(pair, one)
        found = interleave(jobs, given.processes, warm_up=True)
    rows = []
    theirs = spread(found["peer"], "wall")
    for one in ours:
        for state, limit in COLD_LIMIT.items():
            mine = spread(found[one.label], state)
            share = mine.median / theirs.median
            cells = {"peer": seconds(theirs), "ours": seconds(mine), "ratio": f"{share:.2f} of it"}
            data = {"peer": vars(theirs), "ours": vars(mine)}
            rows.append(
                Row(
                    f"whole command, {state} cache [{one.label}]",
                    cells,
                    share,
                    ("<=", limit),
                    "",
                    data,
                )
            )
    return rows


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--skip", choices=("warm", "cold"), help="measure only the other")
    parser.add_argument("--cold-models", nargs="*", metavar="MODEL", default=["GL06PC"])
    given = parser.parse_args()
    peer = peer_interpreter(given.peer)
    python = interpreter(sys.executable)
    ours = variants([python])
    report = Report("The torch API against the published package", [peer, python])
    models = given.models or MODELS
    for model in models if given.skip != "warm" else ():
        report.section(
            f"{model}, warm: median over {given.processes} processes (and their extremes)",
            warm_rows(model, peer, ours, given),
        )
    for model in models if given.skip != "cold" else ():
        if given.models or model in given.cold_models:
            report.section(
                f"{model}, cold: import + simulate + reverse Jacobian, a whole fresh process",
                cold_rows(model, peer, ours, given),
            )
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
