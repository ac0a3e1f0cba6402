"""Sweeps into folders: the same bits however they are cut, resumed where they stopped, and nothing lost
to full disks, torn files and killed processes."""

from __future__ import annotations

import concurrent.futures
import errno
import importlib
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from sweep_cases import BOUNDS, NOISY, TOY, fails_at, keep, slowly

from macrostat_jax import run_keys, sample
from macrostat_jax.sample import _engine, _folder, _program, _runs, _sweep

pa = pytest.importorskip("pyarrow")
pytest.importorskip("zarr")

HERE = Path(__file__).parent
DESIGN = sample.random(TOY, 1000, BOUNDS)


class Shuffled(concurrent.futures.Executor):
    """Computes in an order of its own, in this process."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def submit(self, fn, /, *args, **kwargs):
        future: concurrent.futures.Future = concurrent.futures.Future()
        self.waiting.append((future, fn, args))
        if len(self.waiting) == 1:
            self.thread = concurrent.futures.ThreadPoolExecutor(1)
            self.thread.submit(self._work)
        return future

    def _work(self):
        time.sleep(0.2)
        while self.waiting:
            future, fn, args = self.waiting.pop(random.Random(3).randrange(len(self.waiting)))
            future.set_result(fn(*args))


@pytest.fixture(scope="module")
def whole():
    with jax.enable_x64(True):
        return sample.sweep(TOY, DESIGN, keep=keep, block=32).to_pandas()


# The same results


@pytest.mark.parametrize("chunk", [32, 96, 320, 1024])
@pytest.mark.parametrize("executor", ["none", "threads", "shuffled"])
def test_any_cut_and_order_gives_the_same_bits(tmp_path, whole, chunk, executor):
    made = {
        "none": None,
        "threads": concurrent.futures.ThreadPoolExecutor(3),
        "shuffled": Shuffled(),
    }
    run = sample.sweep(
        TOY, DESIGN, keep=keep, block=32, chunk=chunk, out=tmp_path, executor=made[executor]
    )
    assert run.complete and len(run) == 1000 and run.chunks == -(-1000 // chunk)
    assert run.to_pandas().equals(whole)


def test_a_chunk_that_is_no_multiple_agrees_to_rounding(tmp_path, whole):
    """A product of 20 terms of size 1 and a sum of them: some 100 roundings of 1.1e-16 each."""
    found = sample.sweep(TOY, DESIGN, keep=keep, block=32, chunk=77, out=tmp_path).to_pandas()
    np.testing.assert_allclose(found.iloc[:, :-1], whole.iloc[:, :-1], rtol=1e-13, atol=1e-14)


def test_an_executor_may_hand_results_back(whole):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = sample.sweep(TOY, DESIGN, keep=keep, block=32, chunk=64, executor=pool)
    assert found.to_pandas().equals(whole)
    with pytest.raises(TypeError, match="executor takes a concurrent"):
        sample.sweep(TOY, DESIGN, executor=4)


def test_keys_scenarios_and_records_go_through_files(tmp_path):
    design = sample.cross(sample.random(NOISY, 30, {"rate": (0.1, 0.9)}), seeds=3)
    last = sample.Outcomes("x", "parts:mean")
    stored = sample.sweep(NOISY, design, keep=last, block=8, chunk=16, out=tmp_path / "seeds")
    assert stored.to_pandas().equals(sample.sweep(NOISY, design, keep=last, block=8).to_pandas())
    assert stored.to_pandas()["seed"].tolist() == [0, 1, 2] * 30
    keys = {"key": run_keys(5, 30), "block": 8, "keep": last}
    stored = sample.sweep(NOISY, design.design, chunk=16, out=tmp_path / "keys", **keys)
    assert stored.to_pandas().equals(sample.sweep(NOISY, design.design, **keys).to_pandas())
    crossed = sample.cross(DESIGN[:20], ["default", "boom", "cut"])
    stored = sample.sweep(TOY, crossed, keep=last, block=8, chunk=8, out=tmp_path / "scenarios")
    assert stored.to_pandas().equals(sample.sweep(TOY, crossed, keep=last, block=8).to_pandas())
    assert set(stored.to_pandas()["scenario"]) == {"default", "boom", "cut"}


@pytest.mark.parametrize("names", [None, ("parts",)])
def test_paths_are_kept_in_zarr(tmp_path, names):
    crossed = sample.cross(DESIGN[:50], ["default", "boom"])
    stored = sample.sweep(TOY, crossed, keep=names, block=16, chunk=32, out=tmp_path)
    found = sample.sweep(TOY, crossed, keep=names, block=16)
    assert stored.to_xarray().identical(found.to_xarray())
    assert stored.to_xarray(["parts"])["parts"].dims == ("time", "run", "dim_0")
    assert stored.statistics().identical(found.statistics())
    assert stored.finite.sum() == 100 and stored.plot is not None
    with pytest.raises(ValueError, match="Paths are no table"):
        stored.to_pandas()


def test_many_numbers_of_a_run_are_no_table(tmp_path):
    def outer(path):
        return {"a": path.x[:, None] * path.x[None, :]}

    stored = sample.sweep(TOY, DESIGN[:8], keep=outer, out=tmp_path / "a")
    assert stored.design["files"] == "zarr" and stored.to_xarray()["a"].shape == (8, 20, 20)
    stored = sample.sweep(TOY, DESIGN[:8], keep=outer, out=tmp_path / "b", files="parquet")
    assert stored.to_pandas().shape == (8, 4 + 400 + 1)
    with pytest.raises(ValueError, match="files is one of parquet, zarr, not 'csv'"):
        sample.sweep(TOY, DESIGN[:8], out=tmp_path / "c", files="csv")


def test_float32_stays_float32(tmp_path, float32):
    stored = sample.sweep(TOY, DESIGN[:8], keep=keep, out=tmp_path)
    assert stored.to_pandas()["last"].dtype == np.float32


def test_other_tools_read_the_folder(tmp_path, whole):
    import pandas as pd

    sample.sweep(TOY, DESIGN, keep=keep, block=32, chunk=256, out=tmp_path)
    (tmp_path / "_failed").mkdir()
    (tmp_path / "_failed" / "chunk_000007.json").write_text("{}")
    assert pd.read_parquet(tmp_path).set_index("run").equals(whole)


def test_diverged_runs_are_marked_in_files(tmp_path):
    points = np.array([[0.5], [2.0], [0.7], [0.1], [2.0]])
    design = sample.Design(("rate",), points)
    options: dict[str, Any] = {"periods": 1100, "keep": sample.Outcomes("x")}
    stored = sample.sweep(TOY, design, chunk=2, out=tmp_path, **options)
    assert (
        stored.diverged == 2
        and "5 runs in" in repr(stored)
        and "2 of them not finite" in repr(stored)
    )
    found = sample.sweep(TOY, design, **options)
    assert stored.statistics().equals(found.statistics())
    again = sample.open(tmp_path)
    assert again.finite.tolist() == [True, False, True, True, False] and len(again.to_pandas()) == 5


# Resuming


def count(monkeypatch, limit=10**9):
    """The chunks that are computed from now on; at the limit, the sweep is interrupted."""
    begun: list[int] = []
    compute = _program.Program.__call__

    def counted(self, start, stop, own):
        if len(begun) == limit:
            raise KeyboardInterrupt
        begun.append(start)
        return compute(self, start, stop, own)

    monkeypatch.setattr(_program.Program, "__call__", counted)
    return begun


def test_a_sweep_goes_on_where_it_stopped(tmp_path, whole, monkeypatch):
    options: dict[str, Any] = {"keep": keep, "block": 32, "chunk": 64, "out": tmp_path}
    with monkeypatch.context() as patch:
        first = count(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            sample.sweep(TOY, DESIGN, **options)
    partial = sample.open(tmp_path)
    assert len(partial) == 320 and not partial.complete and partial.missing == [(320, 1000)]
    assert "320 of 1,000 runs" in repr(partial) and "missing: runs 320-999" in repr(partial)
    assert partial.to_pandas().equals(whole[:320])
    told: list[sample.Status] = []
    with monkeypatch.context() as patch:
        second = count(patch)
        found = sample.sweep(TOY, DESIGN, progress=told.append, **options)
        assert first + second == list(range(0, 1000, 64))
        assert sample.sweep(TOY, DESIGN, **options).complete and len(second) == 11
    assert found.to_pandas().equals(whole) and found.missing == []
    assert (told[0].done, told[0].before, told[-1].done) == (320, 320, 1000)
    assert told[-1].rate > 0 and told[-1].remaining == 0


def test_a_worker_looks_before_it_computes(tmp_path, monkeypatch):
    """As when a scheduler hands a chunk out twice."""
    sample.sweep(TOY, DESIGN, keep=keep, block=32, chunk=256, out=tmp_path)
    folder = _folder.Folder.open(tmp_path)
    job = _sweep.Job(_runs.runs(TOY, DESIGN), keep, 256, 32)
    (task,) = job.tasks([2], folder)
    begun = count(monkeypatch)
    assert _engine.work(job.program, task) == _engine.Receipt(2, 256, 0, 0.0) and begun == []
    folder.file(2).unlink()
    assert _engine.work(job.program, task).seconds > 0 and begun == [512]
    with pytest.raises(ValueError, match="has become the folder of another sweep"):
        _engine.work(job.program, task._replace(sweep="other"))


def test_chunk_and_block_are_those_of_the_folder(tmp_path, whole):
    sample.sweep(TOY, DESIGN, keep=keep, block=32, chunk=256, out=tmp_path)
    (tmp_path / "chunk_000001.parquet").unlink()
    found = sample.sweep(TOY, DESIGN, keep=keep, out=tmp_path)
    assert found.chunks == 4 and found.to_pandas().equals(whole)


def other_keep(path):
    return {"last": path.x[-1], "mean": path.x.mean() + 0, "mixed": path.parts.sum(axis=0)}


def short_keep(path):
    return {"last": path.x[-1]}


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"design": sample.random(TOY, 1000, BOUNDS, seed=1)}, "points.seed: 0 there, 1 here"),
        ({"keep": other_keep}, "keep.name: short_keep there, other_keep here"),
        ({"scenario": "boom"}, r"inputs.scenario.g: float64\(20,\) \w+ there"),
        ({"base": TOY.params(share=(0.1, 0.2, 0.7))}, "inputs.params.share"),
        ({"chunk": 128}, "chunk: 256 there, 128 here"),
        ({"periods": 25}, "periods: 20 there, 25 here"),
        ({"files": "zarr"}, "files: parquet there, zarr here"),
        ({"initial": TOY.State.filled(1.0)}, "inputs.initial.x: nothing there"),
    ],
)
def test_a_folder_of_another_sweep_is_refused(tmp_path, changes, differs):
    options: dict[str, Any] = {"design": DESIGN, "keep": short_keep, "block": 32, "chunk": 256}
    run = lambda given: sample.sweep(TOY, given.pop("design"), out=tmp_path, **given)  # noqa: E731
    before = run(dict(options)).to_pandas()
    with pytest.raises(ValueError, match=f"another sweep. What differs:(.|\n)*{differs}"):
        run(options | changes)
    assert sample.open(tmp_path).to_pandas().equals(before)


def test_a_folder_of_another_version_is_refused(tmp_path, monkeypatch):
    sample.sweep(TOY, DESIGN[:64], keep=keep, out=tmp_path)
    monkeypatch.setattr(_program, "versions", lambda: {"macrostat-jax": "9.9", "jax": "1.0"})
    with pytest.raises(ValueError, match=r"macrostat-jax: \S+ there, 9.9 here"):
        sample.sweep(TOY, DESIGN[:64], keep=keep, out=tmp_path)
    manifest = json.loads((tmp_path / "_manifest.json").read_text())
    (tmp_path / "_manifest.json").write_text(json.dumps(manifest | {"format": 7}))
    with pytest.raises(ValueError, match="format 7 of another version; this one writes 1"):
        sample.open(tmp_path)


def test_folders_of_unknown_origin_are_left_alone(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        sample.open(tmp_path)
    (tmp_path / "chunk_000000.parquet").touch()
    with pytest.raises(ValueError, match="unknown origin"):
        sample.sweep(TOY, DESIGN[:64], keep=keep, out=tmp_path)
    (tmp_path / "_manifest.json").write_text("{")
    with pytest.raises(ValueError, match="not the manifest of a sweep"):
        sample.sweep(TOY, DESIGN[:64], keep=keep, out=tmp_path)


def test_files_of_another_sweep_are_not_taken(tmp_path):
    for name, rows in (("a", DESIGN[:64]), ("b", DESIGN[64:128])):
        sample.sweep(TOY, rows, keep=keep, chunk=32, out=tmp_path / name)
    (tmp_path / "a" / "chunk_000001.parquet").replace(tmp_path / "b" / "chunk_000001.parquet")
    with pytest.raises(ValueError, match="not chunk 1 of this sweep, but chunk 1 of another"):
        sample.sweep(TOY, DESIGN[64:128], keep=keep, chunk=32, out=tmp_path / "b")


class Opaque:
    def __call__(self, path):
        return path.x[-1]


def test_what_cannot_be_told_from_another_is_refused(tmp_path):
    with pytest.raises(TypeError, match="keep is a Opaque, of which a folder"):
        sample.sweep(TOY, DESIGN[:64], keep=Opaque(), out=tmp_path)
    with pytest.raises(ValueError, match="keep returns rate"):
        sample.sweep(TOY, DESIGN[:64], keep=lambda path: {"rate": path.x[-1]}, out=tmp_path)


# Faults


def test_a_torn_file_is_computed_again(tmp_path, whole):
    options: dict[str, Any] = {"keep": keep, "block": 32, "chunk": 256, "out": tmp_path}
    sample.sweep(TOY, DESIGN, **options)
    torn = tmp_path / "chunk_000002.parquet"
    torn.write_bytes(torn.read_bytes()[:-40])
    found = sample.open(tmp_path)
    assert list(found.damaged) == [2] and found.missing == [(512, 768)] and "1 of 4" in repr(found)
    with pytest.warns(RuntimeWarning, match=r"1 chunks are torn \(the first is chunk_000002"):
        found = sample.sweep(TOY, DESIGN, **options)
    assert found.to_pandas().equals(whole)


@pytest.mark.parametrize("files", ["parquet", "zarr"])
def test_a_flipped_bit_is_seen_on_reading(tmp_path, files):
    sample.sweep(TOY, DESIGN, keep=sample.Outcomes("x"), files=files, chunk=1000, out=tmp_path)
    (path,) = tmp_path.glob("chunk_*")
    content = bytearray(path.read_bytes())
    at = len(content) // 2
    if files == "zarr":
        with zipfile.ZipFile(path) as archive:
            at = archive.getinfo("x/0").header_offset + 200
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        found = sample.open(tmp_path)
        found.to_pandas() if files == "parquet" else found.to_xarray()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_chunk_that_keeps_failing_is_recorded(tmp_path, monkeypatch, capfd):
    marker = tmp_path / "broken"
    marker.touch()
    monkeypatch.setenv("FAIL", str(marker))
    design = sample.grid(TOY, 80, {"rate": (0.1, 0.9)})
    options: dict[str, Any] = {"keep": fails_at, "block": 8, "chunk": 8, "out": tmp_path / "sweep"}
    told: list[sample.Status] = []
    with pytest.warns(RuntimeWarning, match="1 of 10 chunks failed .*cannot be computed"):
        found = sample.sweep(TOY, design, retries=1, progress=told.append, **options)
    assert list(found.failed) == [9] and found.failed[9]["attempts"] == 2 and told[-1].failed == 1
    assert "this one cannot be computed" in found.failed[9]["error"]
    assert found.missing == [(72, 80)] and found.to_pandas().index.tolist() == list(range(72))
    assert "1 of 10 chunks failed; missing: runs 72-79" in repr(found)
    with pytest.raises(RuntimeError, match="Chunk 9 failed 3 times"), Threads(1) as pool:
        sample.sweep(TOY, design, executor=pool, keep=fails_at, block=8, chunk=8)
    marker.unlink()
    found = sample.sweep(TOY, design, **options)
    assert found.complete and found.failed == {} and sample.open(tmp_path / "sweep").failed == {}


Threads = concurrent.futures.ThreadPoolExecutor


def test_what_is_wrong_with_keep_is_said_at_the_call(tmp_path):
    with pytest.raises(AttributeError, match="no attribute 'y'"):
        sample.sweep(TOY, DESIGN, keep=lambda path: path.y, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_room_ends_the_sweep_and_keeps_what_is_there(tmp_path, monkeypatch, whole):
    options: dict[str, Any] = {"keep": keep, "block": 32, "chunk": 256, "out": tmp_path}
    write = _folder.Folder.write

    def full(self, number, content):
        if number == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, number, content)

    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match="512 of 1,000 runs are finished"),
    ):
        patch.setattr(_folder.Folder, "write", full)
        sample.sweep(TOY, DESIGN, **options)
    assert sample.sweep(TOY, DESIGN, **options).to_pandas().equals(whole)


CHILD = """
import sys; sys.path.insert(0, {here!r})
import os, resource, signal, jax
jax.config.update("jax_enable_x64", True)
from sweep_cases import BOUNDS, TOY, keep, slowly
from macrostat_jax import sample, _store
from macrostat_jax.sample import _folder
{before}
sample.sweep(TOY, sample.random(TOY, 1000, BOUNDS), keep={keep}, block=32, chunk=256, out={out!r})
"""


def child(out, before="", keep="keep", **options):
    code = CHILD.format(here=str(HERE), before=before, keep=keep, out=str(out))
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def test_a_disk_that_is_really_full(tmp_path, whole):
    """The system refuses files beyond 8 kB: a chunk of 256 runs takes some 20."""
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"
    env = os.environ | {"MACROSTAT_CACHE": "off"}
    with child(tmp_path, limit, env=env) as done:
        assert done.communicate()[1].count("0 of 1,000 runs are finished, and safe in") == 1
    assert done.returncode == 1
    found = sample.open(tmp_path)
    assert len(found) == 0 and list(tmp_path.glob("*")) == [tmp_path / "_manifest.json"]
    with pytest.raises(ValueError, match="none of the 4 chunks is finished"):
        found.to_pandas()
    again = sample.sweep(TOY, DESIGN, keep=keep, block=32, chunk=256, out=tmp_path)
    assert again.to_pandas().equals(whole)


KILLED = """
count = 0
def then_die(function):
    def dying(*args):
        global count
        function(*args) if {after} else None
        count += 1
        if count == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
        None if {after} else function(*args)
    return dying
altered = type("os", (), dict(vars(os)))
altered.{what} = then_die(os.{what})
_store.os = _folder.os = altered
"""


@pytest.mark.parametrize(
    ("what", "at", "after", "there", "unfinished"),
    [
        ("fsync", 1, True, 0, 1),  # the manifest is written, and has no name yet
        ("fsync", 3, True, 0, 1),  # so is the first chunk
        ("replace", 3, False, 1, 1),  # the second one is on the disk
        ("replace", 3, True, 2, 0),  # and has its name
    ],
)
def test_a_killed_sweep_goes_on(tmp_path, whole, what, at, after, there, unfinished):
    with child(tmp_path, KILLED.format(what=what, at=at, after=after)) as done:
        done.communicate(timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("chunk_*"))) == there
    left = list(tmp_path.glob(".writing-*"))
    assert len(left) == unfinished
    for path in left:
        os.utime(path, (0, 0))
    found = sample.sweep(TOY, DESIGN, keep=keep, block=32, chunk=256, out=tmp_path)
    assert found.to_pandas().equals(whole)
    assert not list(tmp_path.glob(".writing-*"))


def test_a_sweep_killed_in_the_midst_of_a_chunk_goes_on(tmp_path, monkeypatch):
    process = child(tmp_path, keep="slowly")
    assert process.stderr is not None
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("chunk_*"))) < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("chunk_*")}
    assert 1 <= len(before) < 4
    begun = count(monkeypatch)
    found = sample.sweep(TOY, DESIGN, keep=slowly, block=32, chunk=256, out=tmp_path)
    assert found.complete and len(begun) == 4 - len(before)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    expected = sample.sweep(TOY, DESIGN, keep=lambda path: path.x[-1], block=32)
    np.testing.assert_allclose(found.to_pandas()["value"], expected.values, rtol=1e-14)


def test_two_sweeps_of_one_design_share_a_folder(tmp_path, whole):
    options: dict[str, Any] = {"keep": keep, "block": 32, "chunk": 64, "out": tmp_path}
    with Threads(4) as pool:
        runs = [pool.submit(in_float64, TOY, DESIGN, **options) for _ in range(4)]
        for run in runs:
            assert run.result().to_pandas().equals(whole)


def test_a_chunk_that_another_sweep_finishes_meanwhile_is_not_torn(tmp_path, whole, monkeypatch):
    options: dict[str, Any] = {"keep": keep, "block": 32, "chunk": 256}
    other = tmp_path / "other"
    sample.sweep(TOY, DESIGN, **options, out=other)
    looked = _folder.Folder.receipt

    def receipt(folder, number):
        found = looked(folder, number)
        if found is None:
            shutil.copy(other / folder.file(number).name, folder.path)
        return found

    monkeypatch.setattr(_folder.Folder, "receipt", receipt)
    found = sample.sweep(TOY, DESIGN, **options, out=tmp_path / "shared")
    assert found.to_pandas().equals(whole)


def in_float64(*args, **options):
    with jax.enable_x64(True):
        return sample.sweep(*args, **options)


def test_status_in_words():
    status = sample.Status(total=1000, done=400, before=200, diverged=3, failed=1, seconds=2.0)
    assert status.rate == 100 and status.remaining == 6
    assert _engine.Status(10, 0, 0, 0, 0, 0.0).remaining == float("inf")


def test_a_failure_that_another_process_has_mended_meanwhile(tmp_path):
    sample.sweep(TOY, DESIGN[:64], keep=keep, out=tmp_path)
    gone = tmp_path / "_failed" / "chunk_000000.json"
    gone.parent.mkdir()
    gone.symlink_to(tmp_path / "nothing")  # which a folder lists, and nobody can read
    assert sample.open(tmp_path).failed == {}


@pytest.mark.parametrize(("number", "goes_on"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_file_systems_that_bring_no_folder_to_the_disk(tmp_path, monkeypatch, number, goes_on):
    own = os.fsync

    def sync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        own(handle)

    monkeypatch.setattr(os, "fsync", sync)
    if goes_on:
        assert sample.sweep(TOY, DESIGN[:64], keep=keep, out=tmp_path).complete
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            sample.sweep(TOY, DESIGN[:64], keep=keep, out=tmp_path)


def test_a_helper_in_another_module_that_changed_makes_another_sweep(tmp_path, monkeypatch):
    """`keep` is of a module that calls another one, which calls a third."""
    texts = {
        "first": "import second\ndef kept(path):\n    return second.Level(path).last()\n",
        "second": "import third\nclass Level:\n    def __init__(self, path):\n        self.path = path\n"
        "    def last(self):\n        return third.scaled(self.path.x[-1])\n",
        "third": "def scaled(x):\n    return 2 * x\n",
    }
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def run():
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        kept = importlib.import_module("first").kept
        return sample.sweep(TOY, DESIGN[:64], keep=kept, out=tmp_path / "out").to_pandas()

    before = run()
    assert run().equals(before)
    texts["third"] = texts["third"].replace("2 *", "3 *")
    with pytest.raises(ValueError, match=r"What differs:\n  keep.code: \w+ there, \w+ here"):
        run()
    for name in texts:
        sys.modules.pop(name)


def test_generators_whose_keys_have_the_same_numbers_are_told_apart():
    params = NOISY.params(rate=np.array([0.1, 0.2]))
    keys = [jax.random.key(0, impl=name) for name in ("rbg", "unsafe_rbg")]
    first, other = (_runs.runs(NOISY, params, key=key).identity() for key in keys)
    numbers = [np.asarray(jax.random.key_data(key)) for key in keys]
    assert np.array_equal(numbers[0], numbers[1]) and first["key"] != other["key"]
