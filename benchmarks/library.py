"""Every larger model of the library: Jacobians by torch's API and in JAX, first calls, memory.

    python benchmarks/library.py [MODEL ...]

Warm: a simulation and the Jacobian of one loss of all variables in reverse and forward mode, through the
torch API on both sides; beside it, the same derivatives by the user's own `jax.jit`. First calls: the first
reverse Jacobian of a fresh process, with an empty and with a filled compilation cache. Memory: what the
forward Jacobian of all outputs of GL06INSOUT adds to the peak of its process, and the time of its central
differences (for which the published package has no figure: it hangs there).
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
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
MODELS = ("GL06LP", "GL06LP2", "GL06LP3", "GL06INSOUT", "IOPC", "ECO3IOPC")
"""Those of 25 variables or more."""
LARGEST = "GL06INSOUT"
REVERSE, FORWARD = {LARGEST: 100}, 100
"""Times faster than the published package through the torch API; 50 in reverse mode by default."""
NATIVE = {"gradient": 200, "forward": 500}
FIRST, FIRST_LARGEST, SHARE_FROM_DISK = 5.0, 10.0, 1 / 3
MEMORY, DIFFERENCES = 400e6, 0.1


def warm_rows(model: str, peer: Interpreter, ours: list[Variant], given: Any) -> list[Row]:
    task = (WORKER, "library", model, given.budget)
    loss = ("_jax_worker.py", "loss", json.dumps({"model": model, "budget": given.budget}))
    jobs: dict[str, Any] = {"peer": partial(run_worker, peer, peer.environment(), *task)}
    native: dict[str, Any] = {}
    for one in ours:
        jobs[one.label] = partial(run_worker, one.python, one.environment(), *task)
        native[one.label] = partial(run_worker, one.python, one.environment(), *loss)
    found = interleave(jobs, given.processes)
    check_packages(found)
    inside = interleave(native, given.processes)
    rows, theirs = [], found["peer"]
    for one in ours:
        mine, direct = found[one.label], inside[one.label]
        reverse = REVERSE.get(model, 50)
        figures = (
            ("simulate", mine, ("simulate", "simulate"), None),
            ("Jacobian, reverse", mine, ("rev", "rev"), reverse),
            ("Jacobian, forward", mine, ("fwd", "fwd"), FORWARD),
            ("gradient in jax.jit", direct, ("rev", "gradient"), NATIVE["gradient"]),
            ("forward in jax.jit", direct, ("fwd", "forward"), NATIVE["forward"]),
        )
        for title, results, keys, required in figures:
            rows.append(versus(f"{title} [{one.label}]", theirs, results, keys, required))
        rows.append(_undefined(one.label, theirs[0], mine[0]))
    return rows


def _undefined(label: str, peer: dict[str, Any], ours: dict[str, Any]) -> Row:
    shown = {"peer": f"{peer['undefined']}", "ours": f"{ours['undefined']}"}
    return Row(f"NaN derivatives [{label}]", shown, ours["undefined"], ("==", 0))


def first_rows(model: str, ours: list[Variant], given: Any) -> list[Row]:
    def pair(one: Variant) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            env = one.environment(MACROSTAT_CACHE=folder)
            empty, filled = (
                run_worker(one.python, env, WORKER, "first", model)["first"] for _ in range(2)
            )
        return {"empty": empty, "filled": filled, "share": filled / empty}

    found = interleave({one.label: partial(pair, one) for one in ours}, given.processes)
    limit = FIRST_LARGEST if model == LARGEST else FIRST
    rows = []
    for label, results in found.items():
        empty, share = spread(results, "empty"), spread(results, "share")
        cells = {"ours": seconds(empty)}
        rows.append(Row(f"{model}, cache empty [{label}]", cells, empty.median, ("<=", limit), "s"))
        cells = {"ours": seconds(spread(results, "filled")), "ratio": f"{share.median:.2f} of it"}
        required = ("<=", SHARE_FROM_DISK)
        rows.append(Row(f"{model}, cache filled [{label}]", cells, share.median, required))
    return rows


def memory_rows(ours: list[Variant], given: Any) -> list[Row]:
    rows = []
    for one in ours:
        with tempfile.TemporaryDirectory() as folder:
            env = one.environment(MACROSTAT_CACHE=folder)
            found = run_worker(one.python, env, WORKER, "memory", LARGEST, given.budget)
        added, before = found["jacobian"], found["before"]
        cells = {"ours": f"{added / 1e6:.0f} MB above {before / 1e6:.0f} MB of imports"}
        rows.append(Row(f"full Jacobian [{one.label}]", cells, added, ("<=", MEMORY), "B"))
        cells = {"ours": seconds(found["numerical"])}
        limit = ("<=", DIFFERENCES)
        rows.append(
            Row(f"central differences [{one.label}]", cells, found["numerical"], limit, "s")
        )
    return rows


def main() -> int:
    parser = options(__doc__, processes=3)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {' '.join(MODELS)}")
    given = parser.parse_args()
    peer, python = peer_interpreter(given.peer), interpreter(sys.executable)
    ours = variants([python])
    report = Report("The larger models against the published package", [peer, python])
    for model in given.models or MODELS:
        heading = f"{model}, warm: median over {given.processes} processes (and their extremes)"
        report.section(heading, warm_rows(model, peer, ours, given))
    heading = "The first reverse Jacobian of a process, compiling included"
    rows = [row for model in given.models or MODELS for row in first_rows(model, ours, given)]
    report.section(heading, rows)
    if LARGEST in (given.models or MODELS):
        report.section(f"{LARGEST}: memory and differences", memory_rows(ours, given))
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
