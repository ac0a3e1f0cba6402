"""How cost grows: with the horizon, with checkpointing, with the number of runs at once.

    python benchmarks/scaling.py

A simulation and a reverse gradient over T = 100 to 100,000 periods: linear in T. The temporary memory of
reverse mode beside its inputs and outputs, by XLA's own account: with `checkpoint=True` it grows as the
square root of T. Runs and gradients per second in batches of 1 to 16,384.
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
    growth,
    interleave,
    interpreter,
    options,
    run_worker,
    seconds,
    spread,
    variants,
)

HORIZONS = (100, 1_000, 10_000, 100_000)
BATCHES = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384)
LINEAR, ROOT = 1.1, 0.6
"""The exponents allowed: of time in T, and of checkpointed memory in T."""


def run(one: Variant, task: str, **given: Any) -> dict[str, Any]:
    return run_worker(one.python, one.environment(), "_jax_worker.py", task, json.dumps(given))


def horizon_rows(one: Variant, given: argparse.Namespace) -> list[Row]:
    base = {"model": given.model, "budget": given.budget}
    jobs = {str(t): partial(run, one, "horizon", periods=t, **base) for t in HORIZONS}
    found = interleave(jobs, given.processes)
    rows = []
    for key in ("simulate", "gradient"):
        times = {t: spread(found[str(t)], key) for t in HORIZONS}
        for t, time in times.items():
            cells = {"T": f"{t:,}", "time": seconds(time), "per period": seconds(time.median / t)}
            rows.append(Row(key, cells, time.median, None, " s", {"T": t, "time": vars(time)}))
        # From 1,000 on: below, the call itself is a good part of the time.
        exponent = growth(HORIZONS[1:], [times[t].median for t in HORIZONS[1:]])
        cells = {"T": "1,000 to 100,000", "time": f"T^{exponent:.2f}"}
        rows.append(Row(f"{key}, growth", cells, exponent, ("<=", LINEAR)))
    return rows


def memory_rows(one: Variant, given: argparse.Namespace) -> list[Row]:
    found = run(one, "memory", model=given.model, budget=0, horizons=HORIZONS)
    rows = []
    for key in ("plain", "checkpoint"):
        for t, size in zip(HORIZONS, found[key], strict=True):
            cells = {"T": f"{t:,}", "temporary memory": f"{size / 1024:,.1f} KiB"}
            rows.append(Row(key, cells, size, None, " B", {"T": t}))
    exponent = growth(HORIZONS, found["checkpoint"])
    cells = {"T": "100 to 100,000", "temporary memory": f"T^{exponent:.2f}"}
    rows.append(Row("checkpoint, growth", cells, exponent, ("<=", ROOT)))
    return rows


def batch_rows(one: Variant, given: argparse.Namespace) -> list[Row]:
    base = {"model": given.model, "budget": given.budget}
    jobs = {str(n): partial(run, one, "batch", size=n, **base) for n in BATCHES}
    found = interleave(jobs, given.processes)
    rows = []
    for n in BATCHES:
        rates = {
            key: Spread.of(n / result[key] for result in found[str(n)])
            for key in ("simulate", "gradient")
        }
        cells = {
            "batch": f"{n:,}",
            "simulations per second": f"{rates['simulate'].median:,.0f}",
            "gradients per second": f"{rates['gradient'].median:,.0f}",
        }
        data = {"batch": n} | {key: vars(rate) for key, rate in rates.items()}
        rows.append(Row(found[str(n)][0]["platform"], cells, rates["simulate"].median, data=data))
    return rows


def main() -> int:
    parser = options(__doc__, peer=False)
    parser.add_argument("--model", default="GL06PC")
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="PYTHON", help="instead of this one"
    )
    parts = {"horizon": horizon_rows, "memory": memory_rows, "batch": batch_rows}
    parser.add_argument("--only", choices=parts, help="one part")
    given = parser.parse_args()
    pythons = [interpreter(path) for path in given.python or [sys.executable]]
    report = Report(f"How the cost of {given.model} grows", pythons)
    headings = {
        "horizon": "time by horizon T",
        "memory": "reverse mode: memory beside inputs and outputs",
        "batch": "runs at once, T = the model's default",
    }
    for one in variants(pythons):
        for part, rows in parts.items():
            if given.only in (None, part):
                report.section(f"{headings[part]} [{one.label}]", rows(one, given))
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
