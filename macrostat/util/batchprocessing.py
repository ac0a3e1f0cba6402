"""Tasks in parallel processes.

Processes are spawned, never forked: a fork of a process in which JAX or torch has started threads may
hang. A script that starts some therefore needs `if __name__ == "__main__":` around its main part.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from macrostat_jax._progress import progress


def timeseries_worker(task: tuple) -> tuple:
    """Simulates a model.

    Args:
        task: (name, model, *arguments of `model.simulate`).

    Returns:
        (name, *arguments, results), the results as `model.variables.to_pandas()` has them.
    """
    name, model, *arguments = task
    model.simulate(*arguments)
    return (name, *arguments, model.variables.to_pandas())


@contextmanager
def pool_context(*args: Any, **kwargs: Any) -> Iterator[Any]:
    """A `multiprocessing` pool of spawned processes, which end with the block.

    Args:
        args, kwargs: of `multiprocessing.Pool`: `processes=4`, ...
    """
    pool = multiprocessing.get_context("spawn").Pool(*args, **kwargs)
    try:
        yield pool
    finally:
        pool.terminate()
        pool.join()


def parallel_processor(
    tasks: Sequence[Any] = (),
    worker: Callable[[Any], Any] = timeseries_worker,
    cpu_count: int = 1,
    sharing_strategy: str | None = "file_system",
    progress_bar: bool = False,
) -> list[Any]:
    """The results of `worker(task)` for all tasks, in their order, computed in spawned processes.

    Args:
        tasks: what `worker` takes. Models, tensors and frames travel by value.
        worker: a function that the processes can import: defined at the top level of a module.
        cpu_count: how many processes.
        sharing_strategy: accepted for compatibility; nothing is shared.
        progress_bar: show a bar on standard error.

    Raises:
        ValueError: no tasks, or a `cpu_count` below 1. TypeError: a worker or task that cannot be sent
            to another process. RuntimeError: a process died. And what `worker` raises.
    """
    if len(tasks) == 0:
        raise ValueError("No tasks to process.")
    label = "Processing tasks"
    with Workers(worker, cpu_count) as run, progress(len(tasks), label, show=progress_bar) as more:
        results = []
        for result in run(tasks):
            results.append(result)
            more()
    return results


class Workers:
    """Spawned processes that call one function, for as many tasks as there are.

    with Workers(worker, 4) as run:
        for result in run(tasks): ...
    """

    def __init__(self, worker: Callable[[Any], Any], count: int) -> None:
        if count < 1:
            raise ValueError(f"cpu_count must be at least 1, not {count}.")
        self.worker, self.count = worker, count
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> Callable[[Sequence[Any]], Iterator[Any]]:
        return self._run

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def _run(self, tasks: Sequence[Any]) -> Iterator[Any]:
        if self._executor is None:
            context = multiprocessing.get_context("spawn")
            self._executor = ProcessPoolExecutor(min(self.count, len(tasks)), context)
        futures: list[Future[bytes]] = []
        try:
            # By value: torch would share the memory of each tensor, a file descriptor apiece.
            futures += (self._executor.submit(_call, self._packed(task)) for task in tasks)
            for future in futures:
                yield pickle.loads(future.result())
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A worker process ended before its task did. Did it run out of memory? A script that "
                'uses worker processes needs `if __name__ == "__main__":` around its main part.'
            ) from error
        finally:
            for future in futures:
                future.cancel()

    def _packed(self, task: Any) -> bytes:
        try:
            return pickle.dumps((self.worker, task))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"{self.worker!r} and its tasks cannot be sent to another process, which imports "
                f"functions and classes by name: define them at the top level of a module. ({error})"
            ) from error


def _call(packed: bytes) -> bytes:
    # What this program's own processes say to each other; nothing is read from a file.
    worker, task = pickle.loads(packed)
    return pickle.dumps(worker(task))
