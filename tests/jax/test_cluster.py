"""Sweeps on worker processes: Dask's and those of the standard library, some of them killed."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from sweep_cases import BOUNDS, TOY, keep, kills_at, slowly

from macrostat_jax import Model, Record, Scalar, index, models, param, sample
from macrostat_jax.sample import _transport
from macrostat_jax.sample._engine import Task, work
from macrostat_jax.sample._runs import runs
from macrostat_jax.sample._sweep import Job

distributed = pytest.importorskip("distributed")
pytest.importorskip("pyarrow")

DESIGN = sample.random(TOY, 1000, BOUNDS)


@pytest.fixture(scope="module")
def client():
    before = dict(os.environ)
    with sample.cluster(2) as made:
        assert dict(os.environ) == before
        yield made


@pytest.fixture
def whole():
    return sample.sweep(TOY, DESIGN, keep=keep, block=32).to_pandas()


def test_each_worker_has_one_core(client):
    found = client.run(lambda: (os.environ.get("NPROC"), "MALLOC_TRIM_THRESHOLD_" in os.environ))
    assert list(found.values()) == [("1", False)] * 2
    threads = client.nthreads()
    assert list(threads.values()) == [1, 1]
    if not hasattr(os, "sched_getaffinity"):
        return
    # All threads, those that JAX will start later too: XLA alone would take two.
    bound = client.run(
        lambda: {tuple(os.sched_getaffinity(int(t))) for t in os.listdir("/proc/self/task")}
    )
    cores = [cores for (cores,) in (tuple(found) for found in bound.values())]
    assert all(len(one) == 1 for one in cores)
    assert len(set(cores)) == min(2, len(os.sched_getaffinity(0)))


def test_each_worker_sees_one_gpu():
    with sample.cluster(gpus=2) as made:
        seen = made.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
    assert sorted(seen.values()) == ["0", "1"]


@pytest.mark.parametrize("chunk", [32, 160])
def test_workers_give_the_same_bits(client, tmp_path, whole, chunk):
    options: dict[str, Any] = {"keep": keep, "block": 32, "chunk": chunk, "executor": client}
    stored = sample.sweep(TOY, DESIGN, out=tmp_path, **options)
    assert stored.complete and stored.to_pandas().equals(whole)
    workers = {receipt["worker"] for receipt in stored.finished.values()}
    assert len(workers) == 2 and f":{os.getpid()}" not in "".join(workers)
    assert sample.sweep(TOY, DESIGN, **options).to_pandas().equals(whole)


def test_what_a_worker_cannot_import_travels_by_value(client, tmp_path):
    """As a notebook would: a model and a function that are of no module the worker could import."""
    code = """
import jax, numpy as np
from macrostat_jax import Model, Record, Scalar, exogenous, index, param, sample
class Params(Record):
    rate: Scalar = param(0.5, bounds=(0, 2))
class Scenario(Record):
    g: Scalar = exogenous(1.0)
class State(Record):
    x: Scalar = index("x")
def step(prior, params, scenario):
    return State(x=params.rate * prior.x + scenario.g)
MINE = Model("MINE", Params, Scenario, State, lambda p, s: State.filled(0.0), step, periods=9)
if __name__ == "__main__":
    with jax.enable_x64(True), sample.cluster({address!r}) as client:
        design = sample.grid(MINE, 40, {{"rate": (0.1, 0.9)}})
        options = {{"keep": lambda path: path.x.sum(), "block": 8, "chunk": 8}}
        found = sample.sweep(MINE, design, executor=client, out={out!r}, **options)
        expected = sample.sweep(MINE, design, **options)
        assert np.array_equal(found.to_pandas()["value"], expected.values), "differs"
"""
    address = client.scheduler.address
    script = tmp_path / "script.py"
    script.write_text(code.format(address=address, out=str(tmp_path / "out")))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_worker_killed_in_the_midst_of_a_chunk(client, tmp_path):
    """Dask starts another and gives it the chunk; nothing fails, nothing is missing."""
    killed = []

    def kill():
        while len(list(tmp_path.glob("chunk_*"))) < 2:
            time.sleep(0.01)
        time.sleep(0.05)
        pids = client.run(os.getpid)
        killed.append(next(iter(pids.values())))
        os.kill(killed[0], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    found = sample.sweep(
        TOY, DESIGN, keep=slowly, block=32, chunk=128, out=tmp_path, executor=client
    )
    thread.join()
    assert found.complete and found.failed == {} and killed
    expected = sample.sweep(TOY, DESIGN, keep=lambda path: path.x[-1], block=32)
    np.testing.assert_allclose(found.to_pandas()["value"], expected.values, rtol=1e-14)
    client.wait_for_workers(2, timeout=30)


def test_a_chunk_that_kills_its_workers_is_recorded(client, tmp_path):
    scheduler = client.cluster.scheduler
    before, scheduler.allowed_failures = scheduler.allowed_failures, 0
    design = sample.grid(TOY, 48, {"rate": (0.1, 0.9)})
    try:
        with pytest.warns(RuntimeWarning, match="1 of 6 chunks failed .*KilledWorker"):
            found = sample.sweep(
                TOY, design, keep=kills_at, block=8, chunk=8, out=tmp_path, executor=client
            )
    finally:
        scheduler.allowed_failures = before
    assert list(found.failed) == [5] and found.missing == [(40, 48)]
    client.wait_for_workers(2, timeout=30)


def test_processes_of_the_standard_library(tmp_path, whole):
    """Without cloudpickle, importable functions do. A worker that dies takes the pool with it."""
    spawn = multiprocessing.get_context("spawn")
    design = sample.grid(TOY, 48, {"rate": (0.1, 0.9)})
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool:
        options: dict[str, Any] = {"block": 32, "chunk": 256, "executor": pool}
        found = sample.sweep(TOY, DESIGN, keep=keep, out=tmp_path / "a", **options)
        assert found.to_pandas().equals(whole)
        options = {"keep": kills_at, "block": 8, "chunk": 8, "out": tmp_path / "b"}
        with pytest.raises(RuntimeError, match=r"executor broke down .*What was finished is kept"):
            sample.sweep(TOY, design, executor=pool, **options)
    partial = sample.open(tmp_path / "b")
    assert partial.missing[-1][1] == 48 and not partial.complete


# How programs travel


def program(model: Any = TOY, design=DESIGN, keep: Any = keep):
    return Job(runs(model, design), keep, None, 32).program


def test_a_program_is_one_object_in_a_process():
    sent = pickle.dumps(program())
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert first is second and first.plan.model.name == "TOY" and first.keep is keep
    assert pickle.loads(pickle.dumps(program(keep=sample.Outcomes("x")))) is not first


def test_registered_models_go_by_name():
    design = sample.sobol(models.GL06PC, 8, {"tax_rate": (0.1, 0.3)})
    sent = pickle.dumps(program(models.GL06PC, design, None))
    assert pickle.loads(sent).plan.model is models.GL06PC and len(sent) < 10_000


def test_methods_of_records_travel():
    class Params(Record):
        rate: Scalar = param(0.5, bounds=(0, 2))

        @property
        def twice(self):
            return 2 * self.rate

    class State(Record):
        x: Scalar = index("x")

    class Nothing(Record):
        pass

    step = lambda prior, params, scenario: State(x=params.twice + prior.x)  # noqa: E731
    start = lambda params, scenario: State.filled(0.0)  # noqa: E731
    model = Model("LOCAL", Params, Nothing, State, start, step, periods=3)
    sent = pickle.loads(pickle.dumps(program(model, sample.grid(model, 2, {"rate": (0, 1)}), None)))
    assert sent.plan.model.Params is not Params and sent.plan.model.params(rate=0.25).twice == 0.5


def test_without_cloudpickle_only_what_can_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    assert pickle.loads(pickle.dumps(program())).keep is keep
    with pytest.raises(TypeError, match=r"pip install 'macrostat-jax\[cluster\]'"):
        pickle.dumps(program(keep=lambda path: path.x))


def test_a_worker_of_another_version_is_refused(monkeypatch):
    made = program()
    monkeypatch.setattr(
        "macrostat_jax.sample._engine.versions", lambda: {"macrostat-jax": "9", "jax": "1"}
    )
    with pytest.raises(
        RuntimeError, match=r"other versions than the sweep: macrostat-jax \S+ there, 9"
    ):
        work(made, Task(0, 0, 32, {}, {}))


def test_clusters_that_there_cannot_be(monkeypatch):
    with pytest.raises(ValueError, match="at least one worker, not 0"):
        sample.cluster(0)
    with pytest.raises(ValueError, match="at least one worker, not -1 GPUs"):
        sample.cluster(gpus=-1)
    for wrong in (True, 2.0):
        with pytest.raises(TypeError, match="workers is a whole number, an address or a cluster"):
            sample.cluster(wrong)
    with pytest.raises(ValueError, match="gpus is of workers that are started here"):
        sample.cluster("tcp://127.0.0.1:1", gpus=2)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"macrostat-jax\[cluster\]"):
        sample.cluster(1)


def test_the_account_of_programs_is_bounded():
    for i in range(2 * _transport.KEPT):
        _transport.load(f"test-{i}", _transport.dumps(int, i))
    assert len(_transport._loaded) <= _transport.KEPT
    assert _transport.load("test-15", b"") == 15
