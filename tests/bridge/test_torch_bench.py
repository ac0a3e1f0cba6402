"""The torch backends of the benchmark: every scenario runs, and agrees with JAX."""

import functools
import shutil

import jax
import numpy as np
import pytest
import torch

from bridge import bench_worker
from macrostat_jax import bench
from macrostat_jax.bench._cases import SCENARIOS, Case
from macrostat_jax.bench._figures import disagreement
from macrostat_jax.bench._protocol import Refused
from macrostat_jax.bench._subject import Subject

FORWARD = ("jvp", "jacobian-forward", "hvp")


@pytest.fixture(scope="module")
def found():
    return bench.run(
        ["GL06SIM"],
        backends=["torch-eager"],
        periods=[5],
        batch=[4],
        budget=0.01,
        rounds=3,
        processes=1,
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_scenario_agrees_with_jax(found, scenario):
    (row,) = found[scenario, "torch-eager"]
    assert row.reason is None and row.note is None  # straight torch code, not interpreted
    assert row.agreement is not None and row.agreement < 1e-14
    assert row.median > 0 and np.isfinite(row.first).all()


def test_torch_says_what_it_is(found):
    about = found.backends["torch-eager"]
    assert "torch" in about["versions"] and about["limits"]["rate"] > 1e8


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of itself
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_compiled_steps_agree_with_jax(scenario, monkeypatch, tmp_path):
    # torch's compiler up to its last stage, which needs a C++ compiler and ten seconds.
    traced = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", traced)
    backend = bench_worker.TorchBackend("torch-compile")
    case = Case("GL06SIM", scenario, 3, 4 if scenario == "sweep" else 1)
    with jax.enable_x64(True):
        if scenario in FORWARD:
            with pytest.raises(Refused, match="no forward mode"):
                backend.prepare(case.to_dict())
            return
        backend.prepare(case.to_dict())
        backend.result(str(tmp_path / "found.npz"))
        subject = Subject(case)
        right = subject.named(subject.reference())
    with np.load(tmp_path / "found.npz") as found:
        assert disagreement(dict(found), right) < 1e-13


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_steps_by_a_process_of_its_own():
    rows = bench.run(
        ["GL06SIM"], backends=["torch-compile"], periods=[5], batch=[4], budget=0.01, rounds=3,
        processes=1,
    )["torch-compile"]  # fmt: skip
    for row in rows:
        if row.scenario in FORWARD:
            assert "no forward mode" in str(row.reason)
        else:
            assert row.measured and row.agrees
            assert (row.agreement or 0) < 1e-13 and (row.compile_share or 0) > 0.5


def test_without_a_compiler_the_row_says_so(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    (row,) = bench.run(
        ["LINEAR2D"], scenarios=["simulate"], backends=["torch-compile"], periods=[2], budget=0.01,
        rounds=3, processes=1,
    ).rows  # fmt: skip
    assert row.reason == "torch.compile needs a C++ compiler, and finds none"
