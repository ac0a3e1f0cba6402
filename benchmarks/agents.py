"""The agent-based model: a million agents against its own parts, gradients, and batches of seeds.

    python benchmarks/agents.py [--households 950000 --firms 50000]

TwoMarketsABM with a million agents over 100 months, in float32, what is recorded being aggregates. Its
own parts are measured separately, each in a loop over the periods as the model is: the random numbers
of a period, four gathers of a firm's value by every household, two segment sums of the households'
values by firm, and the traffic of memory: reading and writing every variable of the households once.
Then what the gradient of an aggregate costs in simulations, and what 1,000 seeds of a thousand agents
cost in one batch and one by one, by calls of `simulate` and in the user's own `jax.jit`. All ratios are
of figures from one process.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from _harness import (
    Report,
    Row,
    Spread,
    interleave,
    interpreter,
    options,
    run_worker,
    seconds,
    spread,
    variants,
)

GATHERS, SEGMENT_SUMS = 4, 2
PARTS = {"draws": 1, "gather": GATHERS, "segment sum": SEGMENT_SUMS, "traffic": 1}
WITHIN, GRADIENT, FASTER = 2.0, 4.0, 5.0


def ratio(figure: str, values: Any, required: tuple[str, float] | None) -> Row:
    found = Spread.of(values)
    text = f"{found.median:.2f} ({found.low:.2f}-{found.high:.2f})"
    return Row(figure, {"time": text}, found.median, required, "x", {"spread": vars(found)})


def million_rows(results: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for name in ("simulate", "gradient", *PARTS):
        title = name if PARTS.get(name, 1) == 1 else f"{name}, of which it has {PARTS[name]}"
        found = spread(results, name)
        rows.append(Row(title, {"time": seconds(found)}, data={name: vars(found)}))
    parts = [sum(n * one[name] for name, n in PARTS.items()) for one in results]
    rows.append(Row("sum of its parts", {"time": seconds(Spread.of(parts))}))
    simulations = [one["simulate"] for one in results]
    rows.append(
        ratio(
            "simulation in sums of its parts",
            [s / p for s, p in zip(simulations, parts, strict=True)],
            ("<=", WITHIN),
        )
    )
    gradients = [one["gradient"] / one["simulate"] for one in results]
    rows.append(ratio("gradient in simulations", gradients, ("<=", GRADIENT)))
    return rows


def batch_rows(results: list[dict[str, Any]]) -> list[Row]:
    rows = []
    for how in ("", ", jitted"):
        for name, title in (("alone", "one by one"), ("batch", "in a batch")):
            found = spread(results, name + how)
            rows.append(Row(f"a seed, {title}{how}", {"time": seconds(found)}))
        faster = [one["alone" + how] / one["batch" + how] for one in results]
        required = None if how else (">=", FASTER)
        rows.append(ratio(f"faster in a batch{how}", faster, required))
    return rows


def main() -> int:
    parser = options(__doc__, processes=3, peer=False)
    parser.add_argument("--households", type=int, default=950_000)
    parser.add_argument("--firms", type=int, default=50_000)
    parser.add_argument("--periods", type=int, default=100)
    parser.add_argument("--runs", type=int, default=1000, help="seeds of the batch (1000)")
    given = parser.parse_args()
    python = interpreter(sys.executable)
    report = Report("TwoMarketsABM", [python])
    for one in variants([python]):
        worker = partial(run_worker, python, one.environment(), "_agents_worker.py")
        large = {"households": given.households, "firms": given.firms}
        small = {"households": 950, "firms": 50, "runs": given.runs}
        more = {"periods": given.periods, "budget": given.budget}
        found = interleave(
            {
                "million": partial(worker, "million", json.dumps({**large, **more})),
                "batch": partial(worker, "batch", json.dumps({**small, **more})),
            },
            given.processes,
        )
        agents = f"{given.households:,} households, {given.firms:,} firms"
        report.section(
            f"{agents}, {given.periods} months [{one.label}]", million_rows(found["million"])
        )
        report.section(
            f"{given.runs:,} seeds of 950 households and 50 firms [{one.label}]",
            batch_rows(found["batch"]),
        )
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
