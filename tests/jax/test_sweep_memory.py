"""Sweeps within a memory limit and over several devices: measured in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sweep_cases import BOUNDS, NOISY, TOY

from macrostat_jax import sample
from macrostat_jax.sample import _memory
from macrostat_jax.sample._runs import runs

HERE = Path(__file__).parent
linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")

MEASURED = """
import json, re, sys, jax
jax.config.update("jax_enable_x64", True)
import pandas, xarray
from macrostat_jax import models, sample

def figure(what):
    return int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

limit, out = sys.argv[1:3]
if out:
    import zarr.storage
jax.block_until_ready(jax.numpy.ones(3) + 1)
design = sample.random(models.GL06PC, 16384, {"tax_rate": (0.1, 0.3)})
before, error, block = figure("VmRSS"), "", 0
try:
    found = sample.sweep(models.GL06PC, design, memory=limit, **({"out": out} if out else {}))
    block = found.design["block"] if out else found.block
except ValueError as refused:
    error = str(refused)
print(json.dumps({"grown": figure("VmHWM") - before, "error": error, "block": block}))
"""
KEPT = 16384 * 100 * 14 * 8
"""Bytes of all paths of GL06PC: runs, periods, variables."""


def measured(limit: str, out: str = "") -> dict[str, Any]:
    command = [sys.executable, "-c", MEASURED, limit, out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@linux
def test_a_limit_holds_and_one_that_cannot_is_refused():
    """All paths take 184 MB: they never fit into 150, and the least that is said to do does do."""
    refused = measured("150MB")
    match = re.search(
        r"150MB of memory do not suffice. The least that would do is (\d+\.?\d*MB)",
        refused["error"],
    )
    assert match, refused["error"]
    least = measured(match[1])
    assert not least["error"] and KEPT < least["grown"] <= _memory.in_bytes(match[1])


@linux
def test_files_need_less_memory_than_what_they_hold(tmp_path):
    pytest.importorskip("zarr")
    pytest.importorskip("pyarrow")
    found = measured("160MB", str(tmp_path / "out"))
    assert not found["error"] and found["grown"] <= 160e6 < KEPT


def test_blocks_shrink_with_the_room_there_is(monkeypatch):
    """XLA's account of 1,000 runs in double precision, all paths: 20 periods of 4 numbers, and more."""
    design, blocks = sample.random(TOY, 4096, BOUNDS), {}
    monkeypatch.setattr(_memory, "MARGIN", 0)
    monkeypatch.setattr(_memory.Account, "used", lambda self: 0)
    monkeypatch.setattr(_memory.Account, "peak", lambda self: 0)
    results = 4096 * (20 * 4 + 4) * 8  # paths, and the parameters of each run
    for room in (10_000_000, 1_000_000, 100_000):
        found = sample.sweep(TOY, design, memory=results + room)
        blocks[room] = found.block
        # Two blocks are in flight; each holds at least the paths of its runs.
        assert 2 * found.block * 20 * 4 * 8 <= room
    assert blocks[10_000_000] > blocks[1_000_000] > blocks[100_000]
    with pytest.raises(ValueError, match="do not suffice"):
        sample.sweep(TOY, design, memory=results + 1000)


@pytest.mark.parametrize("factors", [{}, {"scenarios": ["default", "boom"]}, {"seeds": 3}])
def test_parameters_and_labels_of_all_runs_are_accounted_for(factors):
    """Of 2 million runs that keep one number they are most of the memory."""
    model = NOISY if "seeds" in factors else TOY
    design = sample.random(model, 40, BOUNDS)
    found = runs(model, sample.cross(design, **factors) if factors else design)
    every, params, labels = np.arange(found.count), found.params(), found.labelled()
    arrays = {**{f"params.{key}": getattr(params, key) for key in params.fields}, **labels}
    assert found.about_bytes == sum(array.nbytes for array in arrays.values())
    for name, source in (found.named | found.labels).items():
        whole = source.whole(found.count)
        np.testing.assert_array_equal(whole, source.take(every))
        assert name not in arrays or np.array_equal(whole, arrays[name])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2e9),
        ("512 MiB", 512 * 1024**2),
        ("1.5kb", 1500),
        (4096, 4096),
        ("7", 7),
        ("3g", 3e9),
        (np.int64(5), 5),
    ],
)
def test_sizes(text, size):
    assert _memory.in_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["2XB", "", "-1GB", 0, True, None, [1], "GB", float("nan"), float("inf")]
)
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="memory is a size such as"):
        _memory.in_bytes(text)


@pytest.mark.parametrize("size", [1, 999, 1001, 123_456, 98_765_432, 5e9, 7.77e12])
def test_sizes_as_they_are_shown_are_no_smaller(size):
    assert size <= _memory.in_bytes(_memory.shown(size)) <= 1.11 * size + 100


SHARDED = """
import sys; sys.path.insert(0, {here!r})
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from sweep_cases import BOUNDS, NOISY, TOY, keep
from macrostat_jax import run_keys, sample
assert jax.local_device_count() == {devices}
design = sample.random(TOY, 1000, BOUNDS)
found = sample.sweep(TOY, design, keep=keep, block=32)
paths = sample.sweep(TOY, design[:90], keep=("parts",), block=16)
crossed = sample.cross(sample.random(NOISY, 60, {{"rate": (0.1, 0.9)}}), seeds=3)
noisy = sample.sweep(NOISY, crossed, keep=lambda path: path.x, block=16)
stored = sample.sweep(TOY, design, keep=keep, block=32, chunk=320, out={out!r} + "/stored")
stored.to_pandas().to_parquet({out!r} + "/table.parquet")
np.savez({out!r} + "/found.npz", paths=paths.values.parts, noisy=noisy.values, **found.values)
"""


def test_several_devices_give_the_same_bits(tmp_path):
    """Every device runs the program of one on a block of its own. Both sides in processes with the same
    options of XLA: those of this one depend on the tests before."""
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    children = []
    for devices in (4, 1):
        env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        folder = tmp_path / str(devices)
        folder.mkdir()
        code = SHARDED.format(here=str(HERE), out=str(folder), devices=devices)
        command = [sys.executable, "-c", code]
        children.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    for child in children:
        _, err = child.communicate()
        assert child.returncode == 0, err[-3000:]
    several, one = (np.load(tmp_path / name / "found.npz") for name in ("4", "1"))
    assert several.files == one.files and len(one.files) == 5
    for name in one.files:
        np.testing.assert_array_equal(several[name], one[name])
    tables = [pd.read_parquet(tmp_path / name / "table.parquet") for name in ("4", "1")]
    assert tables[0].equals(tables[1]) and len(tables[0]) == 1000
