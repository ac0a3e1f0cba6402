"""Workers for sweeps: Dask's, each with one core or one GPU of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PRE_SPAWN = "distributed.nanny.pre-spawn-environ"
TRIM = "MALLOC_TRIM_THRESHOLD_"
"""Dask has its workers give memory back to the system at once, which halves the speed of large batches."""


def cluster(workers: int | str | Any | None = None, *, gpus: int = 0, **options: Any) -> Any:
    """A client of Dask, whose workers compute `sweep(..., executor=client)`.

    Args:
        workers: how many processes on this machine, each with one core; default: as many as there are
            cores, or GPUs. Or the address of a scheduler, `"tcp://node07:8786"`; or a cluster
            object, as of dask-jobqueue.
        gpus: of this machine: worker i computes on GPU i modulo this number.
        options: more of what `dask.distributed.Client` takes.

    Returns:
        A `dask.distributed.Client`. Use it in a `with` statement, or close it: local workers end with it.

    Workers that exist already, or are started by another cluster object, take their environment from
    there: docs/sweeps.md shows how to give each one core, which must be said before they first use JAX.

    Raises:
        ImportError: Dask is not installed. TypeError, ValueError: no number of workers, address or
            cluster; fewer than one worker; `gpus` of workers that are not started here. OSError:
            nobody answers at the address.
    """
    try:
        import dask.config
        from distributed import Client
    except ImportError as error:
        raise ImportError("Workers need Dask: pip install 'macrostat-jax[cluster]'.") from error
    if isinstance(workers, bool | float):
        raise TypeError(f"workers is a whole number, an address or a cluster, not {workers!r}.")
    if workers is not None and not isinstance(workers, int):
        if gpus:
            raise ValueError(
                "gpus is of workers that are started here: those of a cluster have theirs."
            )
        return Client(workers, **options)
    if gpus < 0 or (workers is not None and workers < 1):
        what = f"{gpus} GPUs" if gpus < 0 else f"{workers}"
        raise ValueError(f"A cluster has at least one worker, not {what}.")
    count = workers or gpus or _cores()
    # Dask's usual port for its pages is one, and a second cluster would complain.
    options = {"dashboard_address": "127.0.0.1:0", "threads_per_worker": 1, **options}
    environment = one_core(options["threads_per_worker"])
    # A worker takes the environment that this process has while it starts, and these names over it.
    with dask.config.set({PRE_SPAWN: environment}), _environment_kept(without=TRIM):
        client = Client(n_workers=count, processes=True, **options)
    if gpus:
        client.register_plugin(_one_gpu(gpus))
    elif options["threads_per_worker"] == 1 and hasattr(os, "sched_setaffinity"):
        client.register_plugin(_bound(sorted(os.sched_getaffinity(0))))
    return client


def one_core(threads: int = 1) -> dict[str, str]:
    """The environment of a worker with so many cores.

    XLA sizes its pool of threads by NPROC, once, when a process first uses JAX; its own option for the
    threads of matrix products does not limit the pool.
    """
    names = ("NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


@contextmanager
def _environment_kept(without: str) -> Iterator[None]:
    """Dask sets what its workers shall have in this process, too; that is taken back."""
    before = dict(os.environ)
    os.environ.pop(without, None)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bound(cores: list[int]) -> Any:
    """A plugin that binds worker i to one of the cores, before it first uses JAX.

    The environment alone leaves XLA two threads: that of the caller and one of its pool.
    """
    from distributed import WorkerPlugin

    class OneCore(WorkerPlugin):
        name = "macrostat-one-core"

        def setup(self, worker: Any) -> None:
            core = cores[int(worker.name) % len(cores)]
            for thread in os.listdir("/proc/self/task"):
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(int(thread), {core})

    return OneCore()


def _one_gpu(gpus: int) -> Any:
    """A plugin that lets every worker see one GPU, before it first uses JAX."""
    from distributed import WorkerPlugin

    class OneGPU(WorkerPlugin):
        name = "macrostat-one-gpu"

        def setup(self, worker: Any) -> None:
            seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
            devices = seen.split(",") if seen else [str(i) for i in range(gpus)]
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[int(worker.name) % gpus]

    return OneGPU()
