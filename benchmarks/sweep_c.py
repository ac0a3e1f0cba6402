"""Sweeps against C with OpenMP, gradients against simulations, and batches on a GPU.

    python benchmarks/sweep_c.py [--gpu]

GL06PC, 16,384 runs over 100 periods: `sample.sweep` against two loops in C (benchmarks/sweep_c.c, compiled
here by `cc -O3 -march=native -fopenmp`, or `CC`): one as it is written down, run after run, by which the
requirements are judged; and one tuned for caches and vector instructions, to see what is left. All return
new arrays with every call, and all numbers agree. The times are the shortest of the calls in each process,
which take turns; the ratios are those of one process.

With --gpu: simulations and gradients per second over batch sizes, for GL06PC and for the largest
deterministic model, on the GPU (or another accelerator) that JAX finds, and on the CPU beside it. Without
one, the CPU's figures alone.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from _harness import (
    HERE,
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

WORKER = "_sweep_worker.py"
RUNS, PERIODS = 16_384, 100
AGREEMENT = 1e-12
MODELS = ("GL06PC", "GL06INSOUT")
SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
CPU_MOST = 100_000
"""Beyond, a CPU takes as long per run."""


def against_c(one: Variant, processes: int, rounds: int) -> list[dict[str, Any]]:
    given = json.dumps({"runs": RUNS, "periods": PERIODS, "rounds": rounds})
    job = partial(run_worker, one.python, one.environment(), WORKER, "against_c", given)
    return interleave({"sweep": job}, processes)["sweep"]


def ratio_row(
    figure: str,
    found: Sequence[dict[str, Any]],
    keys: tuple[str, str],
    required: float | None = None,
) -> Row:
    """How many times as long ours takes as the other: the median of the processes' ratios."""
    ours, theirs = keys
    ratio = Spread.of(one[ours] / one[theirs] for one in found)
    cells = {
        "ours": seconds(spread(found, ours)),
        "other": seconds(spread(found, theirs)),
        "ratio": f"{ratio.median:.2f}x ({ratio.low:.2f}-{ratio.high:.2f})",
    }
    limit = None if required is None else ("<=", required)
    return Row(
        figure, cells, ratio.median, limit, "x", {"rounds": [o[ours] / o[theirs] for o in found]}
    )


def published(found: Sequence[dict[str, Any]]) -> Row:
    """Per run, against what the published sampler took in the committed result of sampling.py."""
    result = json.loads((HERE / "results" / "sampling.json").read_text())
    row = result["sections"][0]["rows"][0]
    theirs = row["peer"]["median"] / 256
    ours = statistics.median(one["paths"] for one in found) / RUNS
    cells = {
        "ours": seconds(ours),
        "other": seconds(theirs),
        "ratio": f"{theirs / ours:,.0f}x faster",
    }
    return Row("a run, against the published sampler", cells, theirs / ours, (">=", 1000), "x")


def sweep_section(report: Report, one: Variant, processes: int, rounds: int) -> None:
    found = against_c(one, processes, rounds)
    gaps = {name: max(process["apart"][name] for process in found) for name in ("paths", "losses")}
    rows = [
        ratio_row("all paths: C, run after run", found, ("paths", "c_paths"), 3),
        ratio_row("all paths: C, tuned", found, ("paths", "c_blocked_paths")),
        ratio_row("losses alone: C, run after run", found, ("losses", "c_losses"), 2),
        ratio_row("losses alone: C, tuned", found, ("losses", "c_blocked_losses")),
        ratio_row("gradients: our losses", found, ("gradients", "losses"), 4),
        ratio_row("gradients: our paths", found, ("gradients", "paths")),
        published(found),
        *(
            Row(f"{name} differ from C by", {"ratio": f"{gap:.1e}"}, gap, ("<=", AGREEMENT))
            for name, gap in gaps.items()
        ),
    ]
    heading = f"GL06PC, {RUNS:,} runs over {PERIODS} periods [{one.label}]: {len(found)} processes"
    report.section(heading, rows)


def batch_section(
    report: Report, one: Variant, model: str, sizes: Sequence[int], budget: float
) -> None:
    def measure(cpu: bool, sizes: Sequence[int]) -> dict[str, Any]:
        given = {"model": model, "sizes": list(sizes), "budget": budget, "cpu": cpu}
        # On an accelerator no thunks for small loops are set: the flag is for CPUs alone.
        return run_worker(one.python, one.environment(), WORKER, "batches", json.dumps(given))

    found = {"device": measure(False, sizes)}
    if found["device"]["platform"] != "cpu":
        found["cpu"] = measure(True, [size for size in sizes if size <= CPU_MOST])
    rows = []
    for name, place in found.items():
        label = place["device"] if name == "device" else "cpu"
        for row in place["rows"]:
            cells = {
                "simulations/s": f"{row['simulations']:,.0f}",
                "gradients/s": f"{row['gradients']:,.0f}",
            }
            rows.append(
                Row(f"{row['runs']:,} runs [{label}]", cells, row["simulations"], None, "/s", row)
            )
        written, copied = place["path_bytes_per_second"], place["copy_bytes_per_second"]
        cells = {"simulations/s": f"{written / 1e9:.3g} GB/s of {copied / 1e9:.3g}"}
        figure = f"paths written, of what copying reaches [{label}]"
        rows.append(Row(figure, cells, written / copied))
    if "cpu" in found:
        rows += [overtaking(found, kind) for kind in ("simulations", "gradients")]
    else:
        rows.append(Row("batch at which a GPU overtakes the CPU", {"simulations/s": "no GPU here"}))
    report.section(f"{model}: batches [{one.label}]", rows)


def overtaking(found: dict[str, Any], kind: str) -> Row:
    """The least of the sizes at which the accelerator is faster."""
    cpu = {row["runs"]: row[kind] for row in found["cpu"]["rows"]}
    most = cpu[max(cpu)]
    faster = [
        row["runs"] for row in found["device"]["rows"] if row[kind] > cpu.get(row["runs"], most)
    ]
    least = min(faster) if faster else None
    cell = f"{least:,} runs" if least else "none of these"
    return Row(f"{kind}: faster than the CPU from", {"simulations/s": cell}, least)


def main() -> int:
    parser = options(__doc__, processes=5, peer=False)
    parser.add_argument("--gpu", action="store_true", help="batches on the device that JAX finds")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the batches")
    parser.add_argument("--rounds", type=int, default=15, help="calls in each process (15)")
    given = parser.parse_args()
    python = interpreter(sys.executable)
    report = Report("Sweeps", [python])
    one, *others = variants([python])
    if given.gpu:
        for model in MODELS:
            batch_section(report, one, model, given.sizes, given.budget)
    else:
        for variant in (one, *others):
            sweep_section(report, variant, given.processes, given.rounds)
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
