"""Derivatives that use the structure of a run: sequence-space Jacobians, long runs, the choice of a way.

    python benchmarks/sequence_space.py [--only paths|long|choice]

Paths: every variable of GL06PC by every exogenous series, each in 300 periods, by `diff.jacobian` in
forward and reverse mode, by the recursion along the path, and at the steady state from one response (as
views, and written out as a matrix). All start at the steady state, and must agree. Long: reverse mode over
100,000 periods of the model of 82 variables, for a loss of the final state; memory is XLA's own account of
the compiled program, beside inputs and outputs. Choice: what `strategy="auto"` picks against the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from typing import Any

from _harness import (
    Report,
    Row,
    Spread,
    Variant,
    interleave,
    interpreter,
    options,
    run_worker,
    seconds,
    spread,
    variants,
)

FORWARD_KERNEL, FORWARD_PATH, REVERSE_PATH = 5.0, 1.5, 20.0
"""How many times faster than dense forward mode at a steady state and along a path, and than reverse."""
AGREEMENT = 1e-12
LONG_MEMORY, LONG_TIME, NEAR_BEST = 10e6, 1.5, 1.5


def run(one: Variant, task: str, given: argparse.Namespace, **more: Any) -> list[dict[str, Any]]:
    chosen = json.dumps({"budget": given.budget, **more})
    job = partial(run_worker, one.python, one.environment(), "_sequence_worker.py", task, chosen)
    return interleave({task: job}, given.processes)[task]


def path_rows(one: Variant, given: argparse.Namespace) -> list[Row]:
    found = run(one, "paths", given, model="GL06PC", periods=given.periods)
    rows = []
    for figure, dense, ours, required in (
        ("at a steady state, against forward", "forward", "kernel", FORWARD_KERNEL),
        ("the same, written out", "forward", "written", None),
        ("along a path, against forward", "forward", "path", FORWARD_PATH),
        ("along a path, against reverse", "reverse", "path", REVERSE_PATH),
    ):
        theirs, mine = spread(found, dense), spread(found, ours)
        ratio = theirs.median / mine.median
        cells = {"dense": seconds(theirs), "ours": seconds(mine), "ratio": f"{ratio:.1f}x"}
        rows.append(Row(figure, cells, ratio, (">=", required) if required else None, "x"))
    for name in ("path", "kernel"):
        gap = max(one[f"gap_{name}"] for one in found)
        cells = {"dense": found[0]["of"], "ours": f"{gap:.1e}", "ratio": ""}
        rows.append(Row(f"difference, {name}", cells, gap, ("<=", AGREEMENT)))
    return rows


def long_rows(one: Variant, given: argparse.Namespace) -> list[Row]:
    found = run(one, "long", given, model="GL06INSOUT", periods=given.long_periods)
    rows = []
    times = {way: Spread.of(r["time"][way] for r in found) for way in found[0]["time"]}
    for way, time in times.items():
        memory = found[0]["memory"][way]
        ratio = time.median / times["plain"].median
        cells = {
            "strategy": found[0]["name"][way],
            "temporary memory": f"{memory / 1e6:.2f} MB",
            "time": seconds(time),
            "against plain": f"{ratio:.2f}x",
        }
        rows.append(Row(way, cells, memory, None, " B"))
        if way == "auto":
            blank = dict.fromkeys(cells, "")
            shown = blank | {"temporary memory": cells["temporary memory"]}
            rows.append(Row("auto: memory", shown, memory, ("<=", LONG_MEMORY), " B"))
            shown = blank | {"against plain": cells["against plain"]}
            rows.append(Row("auto: time", shown, ratio, ("<=", LONG_TIME), "x"))
    return rows


def choice_rows(one: Variant, given: argparse.Namespace) -> list[Row]:
    rows = []
    for model, periods in (("GL06PC", 100), ("GL06PC", 3_000), ("GL06INSOUT", 100)):
        found = run(one, "choice", given, model=model, periods=periods)
        for case in (name for name in found[0] if name not in ("platform", "wall")):
            results = [result[case] for result in found]
            times = {way: spread(results, way) for way in ("picked", "forward", "reverse", "sqrt")}
            best = min(times, key=lambda way: times[way].median)
            ratio = times["picked"].median / times[best].median
            cells = {
                "picked": f"{results[0]['name']}, {seconds(times['picked'])}",
                "best": f"{best}, {seconds(times[best])}",
                "ratio": f"{ratio:.2f}x",
            }
            rows.append(
                Row(f"{model}, T = {periods:,}: {case}", cells, ratio, ("<=", NEAR_BEST), "x")
            )
    return rows


def main() -> int:
    parser = options(__doc__, peer=False)
    parser.add_argument("--periods", type=int, default=300, help="of the paths (300)")
    parser.add_argument(
        "--long-periods", type=int, default=100_000, help="of the long run (100,000)"
    )
    parts = {"paths": path_rows, "long": long_rows, "choice": choice_rows}
    parser.add_argument("--only", choices=parts, help="one part")
    given = parser.parse_args()
    python = interpreter(sys.executable)
    report = Report("Derivatives that use the structure of a run", [python])
    headings = {
        "paths": f"GL06PC, T = {given.periods}: all variables by all series",
        "long": f"GL06INSOUT, T = {given.long_periods:,}: gradient of a loss of the final state",
        "choice": "what auto picks, against the best measured",
    }
    for one in variants([python]):
        for part, rows in parts.items():
            if given.only in (None, part):
                report.section(f"{headings[part]} [{one.label}]", rows(one, given))
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
