"""`macrostat sweep`: what it prints, keeps, resumes and refuses, and its exit status."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import matplotlib.image
import numpy as np
import pytest

from macrostat_jax import cli, models, sample, simulate
from macrostat_jax._commands import sweep as command

pytest.importorskip("pyarrow")
BOUNDS = ["--bounds", "tax_rate=0.1:0.3", "--bounds", "PropensityToConsumeIncome=0.5:0.8"]


def run(capsys, *arguments):
    status = cli.main(["sweep", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_sweep_in_memory(capsys, tmp_path):
    picture = tmp_path / "picture.png"
    keep = ["--keep", "national_income", "--keep", "Wealth:std"]
    status, out, _ = run(
        capsys, "GL06PC", "--n", 64, *BOUNDS, *keep, "--plot", picture, "--memory", "1GB"
    )
    assert status == 0 and "64 runs in" in out and "Wealth:std" in out and "saved" in out
    assert matplotlib.image.imread(picture).std() > 0.01  # not a blank page
    status, out, _ = run(capsys, "GL06PC", "--n", 64, *BOUNDS, *keep, "--json", "--steps", 30)
    found = json.loads(out)
    assert found["runs"] == 64 and found["design"]["kind"] == "sobol" and found["diverged"] == 0
    model = models.GL06PC
    design = sample.sobol(
        model, 64, {"tax_rate": (0.1, 0.3), "PropensityToConsumeIncome": (0.5, 0.8)}
    )
    path = simulate(model, design.params(model), periods=30)
    last = np.asarray(path.national_income[-1])
    assert found["statistics"]["national_income"]["mean"] == pytest.approx(last.mean(), rel=1e-6)


def test_a_sweep_in_a_folder_is_resumed_and_not_overwritten(capsys, tmp_path):
    folder = tmp_path / "out"
    arguments = ["GL06SIM", "--n", 64, "--chunk", 16, "--out", folder, "--keep", "national_income"]
    status, out, _ = run(capsys, *arguments, "--set", "tax_rate=0.25")
    assert status == 0 and "varies by 10 %" in out and f"saved {folder}" in out
    status, _, err = run(capsys, *arguments)
    assert status == 2 and "holds a sweep already: add --resume" in err
    status, _, err = run(capsys, *arguments, "--resume")
    assert status == 2 and "results of another sweep" in err and "points.bounds.tax_rate" in err
    (folder / "chunk_000002.parquet").unlink()
    status, out, _ = run(capsys, *arguments, "--resume", "--set", "tax_rate=0.25", "--json")
    found = json.loads(out)
    assert status == 0 and found["missing"] == [] and found["failed"] == [] and found["runs"] == 64


@pytest.mark.parametrize(
    ("design", "n", "runs"), [("grid", 3, 9), ("halton", 5, 5), ("random", 6, 6)]
)
def test_designs(capsys, design, n, runs):
    arguments = ["--design", design, "--n", n, *BOUNDS, "--steps", 5, "--log", "tax_rate", "--json"]
    status, out, _ = run(capsys, "GL06SIM", *arguments)
    found = json.loads(out)
    assert status == 0 and found["runs"] == runs and found["design"]["log"] == ["tax_rate"]


def test_scenarios_and_seeds(capsys):
    across = ["--across", "default", "--across", "Drop in alpha1"]
    few = ["--n", 4, "--bounds", "propensity_to_consume_income=0.7:0.8", "--steps", 60, "--json"]
    status, out, _ = run(capsys, "GL06LP", *across, *few)
    assert status == 0 and json.loads(out)["runs"] == 8
    status, out, _ = run(capsys, "RandomWalk", "--n", 4, "--seeds", 3)
    assert status == 0 and "12 runs" in out


def test_the_statistics_of_many_numbers_are_those_of_few(capsys, tmp_path):
    """More than 256 numbers a run are kept in Zarr, and printed as any others, with every digit."""
    keep = [f"--keep={name}:path" for name in ("national_income", "wealth", "taxes")]
    arguments = ["GL06PC", "--n", 4, *BOUNDS, *keep, "--json"]
    _, out, _ = run(capsys, *arguments)
    picture = tmp_path / "picture.png"
    status, stored, _ = run(capsys, *arguments, "--out", tmp_path / "out", "--plot", picture)
    assert status == 0 and picture.stat().st_size > 10_000
    assert json.loads(out)["statistics"] == json.loads(stored)["statistics"]
    assert len(json.loads(out)["statistics"]) == 300


def test_small_numbers_keep_their_digits(capsys):
    arguments = ["--bounds", "a11=0.1:0.11", "--steps", 100, "--keep", "state", "--n", 4, "--json"]
    status, out, _ = run(capsys, "LINEAR2D", *arguments)
    row = json.loads(out)["statistics"]["state[0]"]
    model = models.LINEAR2D
    design = sample.sobol(model, 4, {"a11": (0.1, 0.11)})
    last = np.asarray(simulate(model, design.params(model), periods=100).state[-1])[:, 0]
    assert status == 0 and abs(row["mean"]) < 1e-8
    assert row["mean"] == pytest.approx(last.mean(), rel=1e-12, abs=0)
    _, out, _ = run(capsys, "LINEAR2D", "--n", 1, *arguments[:6], "--json")
    assert json.loads(out)["statistics"]["state[0]"]["std"] is None


def test_what_was_found_is_printed_before_a_picture_fails(capsys):
    status, out, err = run(capsys, "GL06SIM", "--n", 1, *BOUNDS, "--plot", "nowhere.png")
    assert status == 2 and "a parameter that varies" in err and "1 runs in" in out


def test_parameters_that_are_zero_are_said_to_stay(capsys):
    model = models.LINEAR2D
    zero = [name for name, field in model.Params.fields.items() if field.default == 0]
    assert zero
    _, out, _ = run(capsys, "LINEAR2D", "--n", 4)
    assert f"Not varied, for they are zero (--bounds varies them): {', '.join(zero)}." in out


def test_diverged_runs_are_said(capsys):
    """An eigenvalue above 1.05 for 20,000 periods: 1.05^20000 is beyond 1e308."""
    arguments = ["--n", 16, "--bounds", "a11=0.5:1.5", "--steps", 20000, "--keep", "state"]
    status, out, _ = run(capsys, "LINEAR2D", *arguments)
    assert status == 0 and "runs are not finite: marked, and kept out" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "name it with --out"),
        (["--workers", "2", "--cluster", "tcp://x:1"], "--workers, or --cluster"),
        (["--around", "0.1", *BOUNDS], "--bounds, or --around"),
        (["--bounds", "tax_rate=0.1"], "NAME=LOW:HIGH"),
        (["--across", "boom", "--scenario", "boom"], "--scenario, or --across"),
        (["--across", "boom"], "no scenario 'boom'|'boom'"),
        (["--seeds", "2"], "is not random"),
        (["--keep", "gdp"], "'gdp' is not in"),
        (["--keep", "national_income:median"], "is no outcome"),
        (["--n", "100"], "64 or 128 points"),
        (["--memory", "much"], "memory is a size"),
        (["--memory", "1kB"], "The least that would do is"),
        (["--design", "grid", "--n", "1"], "at least 2"),
        (["--n", "0"], "at least 1, not 0"),
        (["--bounds", "tax_rate=0.1:0.2", "--bounds", "tax_rate=0.2:0.3"], "gives tax_rate twice"),
        (["--bounds", "tax_rate=0.1:0.2", "--bounds", "TaxRate=0.2:0.3"], "both mean 'tax_rate'"),
        (["--keep", "wealth", "--keep", "wealth"], "kept once"),
    ],
)
def test_bad_input_has_status_2(capsys, arguments, message):
    status, _, err = run(capsys, "GL06SIM", *arguments)
    assert status == 2
    assert any(part in err for part in message.split("|")), err


def test_progress_in_words():
    status = sample.Status(65536, 12288, 0, 3, 1, 0.3)
    expected = (
        "12,288 of 65,536 runs (18 %), 41,000 a second, 1.3 s left, 3 not finite, 1 chunks failed"
    )
    assert command.line(status) == expected
    assert command.line(sample.Status(10, 0, 0, 0, 0, 1.0)) == "0 of 10 runs (0 %)"
    times = [command._time(t) for t in (1.26, 12.6, 200, 7200)]
    assert times == ["1.3 s", "13 s", "3 min", "2 h 0 min"]


def test_workers_and_an_interrupted_command(tmp_path):
    """Ctrl-C ends a sweep of four million runs on two workers with a word; what is finished is there."""
    pytest.importorskip("distributed")
    folder = tmp_path / "out"
    arguments = ["GL06SIM", "--n", str(1 << 22), "--chunk", "4096", "--out", str(folder), *BOUNDS]
    cli_command = [sys.executable, "-m", "macrostat_jax.cli", "sweep", *arguments]
    with subprocess.Popen(
        [*cli_command, "--workers", "2"], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(list(folder.glob("chunk_*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        # Python drops an interrupt that lands in a finaliser: one presses again.
        for _ in range(10):
            os.kill(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=3)
                break
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume goes on" in err, err
    partial = sample.open(folder)
    assert 0 < len(partial) < 1 << 20 and partial.finite.all()
