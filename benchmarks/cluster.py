"""Sweeps on worker processes: two workers against one, and what a chunk costs beside its simulations.

    python benchmarks/cluster.py

GL06INSOUT over chunks that keep a worker busy for half a second and more, each written to a Parquet file, on
one and on two of Dask's workers with a core each (`sample.cluster`); and chunks of 8 runs, whose time is
all overhead: sending, looking, writing, telling. Programs are compiled before. Needs two free cores.
"""

from __future__ import annotations

import sys

from _harness import Report, Row, interpreter, options, run_worker, seconds, spread

WORKER = "_cluster_worker.py"
FASTER = 1.6
OVERHEAD = 0.005
"""Seconds a chunk, at most."""
LEAST = 0.5
"""Seconds that a chunk must take for the first figure to be the one that is asked for."""


def main() -> int:
    parser = options(__doc__, processes=3, peer=False)
    parser.add_argument("--runs", type=int, default=150_000, help="of a chunk (150,000)")
    parser.add_argument("--chunks", type=int, default=6, help="on one worker and on two (6)")
    parser.add_argument("--small", type=int, default=300, help="chunks of 8 runs (300)")
    given = parser.parse_args()
    python = interpreter(sys.executable)
    report = Report("Sweeps on worker processes", [python])
    arguments = (given.runs, given.chunks, given.small, 3)
    found = [
        run_worker(python, python.environment(), WORKER, *arguments) for _ in range(given.processes)
    ]
    one, two, chunk = (spread(found, key) for key in ("one", "two", "chunk"))
    ratio = [result["one"] / result["two"] for result in found]
    rate = f"{found[0]['runs'] / two.median:,.0f} runs a second"
    best = sorted(ratio)[len(ratio) // 2]
    rows = [
        Row("a chunk, in the worker", {"time": seconds(chunk)}, chunk.median, (">=", LEAST), " s"),
        Row("one worker", {"time": seconds(one)}),
        Row("two workers", {"time": seconds(two), "rate": rate}),
        Row(
            "two against one",
            {"time": f"{best:.2f}x ({min(ratio):.2f}-{max(ratio):.2f})"},
            best,
            (">=", FASTER),
            "x",
            {"rounds": ratio},
        ),
        Row("the same bits", {"time": str(all(one["same"] for one in found))}),
    ]
    report.section(f"GL06INSOUT, {given.chunks} chunks of {given.runs:,} runs, 100 periods", rows)
    rows = []
    for key, what in (("small", "results handed back"), ("small_stored", "results in a file")):
        value = spread(found, key)
        rows.append(
            Row(what, {"time": seconds(value)}, 1000 * value.median, ("<=", 1000 * OVERHEAD), " ms")
        )
    report.section(f"Overhead of a chunk: {given.small} chunks of 8 runs on one worker", rows)
    return report.finish(given)


if __name__ == "__main__":
    raise SystemExit(main())
