"""One process of sweeps on Dask's workers: how they scale, and what a chunk costs beside its simulations.

Usage: _cluster_worker.py RUNS_PER_CHUNK CHUNKS SMALL_CHUNKS ROUNDS
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
from _timing import answer, clock

from macrostat_jax import models, sample

BOUNDS = {"tax_rate": (0.24, 0.26), "propensity_to_consume_wealth": (0.045, 0.055)}
KEEP = sample.Outcomes("nominal_wealth", "real_wealth:std")
PERIODS = 100
SMALL = 8
"""Runs of a chunk whose simulations cost next to nothing."""


def main(size: int, chunks: int, small: int, rounds: int) -> dict[str, Any]:
    """The shortest time of each, over rounds in which they take turns."""
    # Many operations for each number read or written: what two cores share is not what is measured.
    model = models.GL06INSOUT
    many = sample.random(model, size * chunks, BOUNDS)
    few = sample.random(model, SMALL * small, BOUNDS)
    folders = iter(range(10**6))

    with tempfile.TemporaryDirectory() as home, sample.cluster(2) as client:
        workers = list(client.nthreads())

        def run(design: Any, chunk: int, names: list[str], stored: bool = True) -> Any:
            with client.get_executor(workers=names, pure=False) as pool:
                options: dict[str, Any] = {"keep": KEEP, "chunk": chunk, "executor": pool}
                options["periods"] = PERIODS
                if stored:
                    options["out"] = Path(home) / str(next(folders))
                return sample.sweep(model, design, **options)

        jobs = {
            "one": lambda: run(many, size, workers[:1]),
            "two": lambda: run(many, size, workers),
            "small_stored": lambda: run(few, SMALL, workers[:1]),
            "small": lambda: run(few, SMALL, workers[:1], stored=False),
        }
        for worker in workers:  # each compiles what it will run
            run(many[: 2 * size], size, [worker])
            run(few[: 2 * SMALL], SMALL, [worker])
        times: dict[str, float] = dict.fromkeys(jobs, float("inf"))
        for _ in range(rounds):
            for name, job in jobs.items():
                times[name] = min(times[name], clock(job))
        one = run(many, size, workers[:1])
        same = one.to_pandas().equals(run(many, size, workers).to_pandas())
        inside = min(receipt["seconds"] for receipt in one.finished.values())
    return {
        "package": str(Path(models.__file__).parents[1]),
        "chunk": inside,
        "one": times["one"],
        "two": times["two"],
        "small_stored": times["small_stored"] / small,
        "small": times["small"] / small,
        "same": same,
        "runs": size * chunks,
    }


if __name__ == "__main__":
    with jax.enable_x64(True):
        answer(main(*map(int, sys.argv[1:5])))
