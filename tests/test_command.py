"""The command `macrostat`: what it prints, writes and refuses, and its exit status."""

import json
import os
import subprocess
import sys

import jax
import matplotlib.image
import pandas as pd
import pytest

from macrostat_jax import _clash, cli, models


def run(capsys, *arguments):
    status = cli.main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_list(capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    for name in models.names():
        assert name in out
    _, out, _ = run(capsys, "list", "--json")
    rows = {row["model"]: row for row in json.loads(out)}
    assert rows["GL06PC"]["parameters"] == 6 and rows["GL06PC"]["variables"] == 14


def test_simulate_prints_and_saves(capsys, tmp_path):
    csv, picture = tmp_path / "out" / "path.csv", tmp_path / "path.png"
    arguments = [
        "--set",
        "tax_rate=0.25",
        "--set",
        "PropensityToConsumeIncome=0.7",
        "--steps",
        "300",
    ]
    status, out, _ = run(
        capsys, "simulate", "GL06SIM", *arguments, "--out", str(csv), "--plot", str(picture)
    )
    assert status == 0
    assert "NationalIncome" in out and "300 periods" in out
    table = pd.read_csv(csv)
    assert len(table) == 300
    assert table["NationalIncome"].iloc[-1] == pytest.approx(80.0, rel=1e-12)  # G / theta
    assert matplotlib.image.imread(picture).std() > 0.01  # not a blank page


def test_a_random_model_has_a_seed(capsys):
    runs = [["--seed", "1"], ["--seed", "1"], ["--seed", "2"], []]
    printed = [run(capsys, "simulate", "RandomWalk", "--json", *seed)[1] for seed in runs]
    first, again, other, default = (json.loads(out)["path"]["Position"] for out in printed)
    assert first == again and len({tuple(path) for path in (first, other, default)}) == 3
    status, out, _ = run(capsys, "check", "RandomWalk", "--seed", "1", "--steps", "5")
    assert status == 0 and "common random numbers" in out


def test_simulate_in_every_format_agrees(capsys, tmp_path):
    _, out, _ = run(capsys, "simulate", "GL06PC", "--steps", "5", "--json")
    printed = json.loads(out)["path"]["Wealth"]
    run(capsys, "simulate", "GL06PC", "--steps", "5", "--out", str(tmp_path / "p.json"))
    saved = json.loads((tmp_path / "p.json").read_text())["Wealth"]
    assert printed == saved and len(saved) == 5


def test_parquet_or_a_word_about_it(capsys, tmp_path):
    file = tmp_path / "p.parquet"
    status, _, err = run(capsys, "simulate", "GL06SIM", "--out", str(file))
    if status == 0:
        assert len(pd.read_parquet(file)) == 100
    else:
        assert status == 2 and "pip install pyarrow" in err
        assert list(tmp_path.iterdir()) == []


def test_jacobian(capsys, tmp_path):
    picture, table = tmp_path / "heat.png", tmp_path / "j.csv"
    status, out, _ = run(
        capsys, "jacobian", "GL06SIM", "--of", "NationalIncome", "--steps", "200",
        "--plot", str(picture), "--out", str(table),
    )  # fmt: skip
    assert status == 0 and "d/d tax_rate" in out
    assert pd.read_csv(table)["tax_rate"].iloc[-1] == pytest.approx(-500.0, rel=1e-6)
    assert matplotlib.image.imread(picture).std() > 0.01
    _, out, _ = run(capsys, "jacobian", "GL06SIM", "--of", "wages", "--wrt", "tax_rate", "--json")
    assert set(json.loads(out)["jacobian"]["wages"]["tax_rate"]) == {0.0}


def test_check_passes_and_draws(capsys, tmp_path):
    status, out, _ = run(capsys, "check", "GL06SIMEX", "--plot", str(tmp_path / "report"))
    assert status == 0 and "PASSED" in out
    for name in ("jacobian.png", "impulse_response.png"):
        assert matplotlib.image.imread(tmp_path / "report" / name).std() > 0.01


def test_check_takes_zero_parameters_by_default_and_refuses_them_in_log_space(capsys):
    assert run(capsys, "check", "LINEAR2D")[0] == 0
    status, _, err = run(capsys, "check", "LINEAR2D", "--space", "log")
    assert status == 2 and "Cannot use log-space with zero parameters: ['x0_2']" in err


def test_a_check_that_does_not_pass_has_status_1(capsys):
    # A step of half the value: the finite difference's error estimate exceeds a hundredth.
    status, out, _ = run(capsys, "check", "GL06SIM", "--epsilon", "0.5")
    assert status == 1 and "NOT PASSED" in out and "inconclusive" in out
    status, out, _ = run(capsys, "check", "GL06SIM", "--epsilon", "0.5", "--json")
    assert status == 1 and json.loads(out)["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "GL06"], "There is no model 'GL06'. There are: LINEAR2D"),
        (["simulate", "GL06PC", "--scenario", "boom"], "GL06PC has no scenario 'boom'"),
        (["simulate", "GL06PC", "--set", "tax=0.1"], "'tax' is not in"),
        (["simulate", "GL06PC", "--set", "tax_rate"], "--set takes NAME=VALUE"),
        (["simulate", "GL06PC", "--set", "tax_rate=1.5"], "bounds [0, 1]"),
        (
            ["simulate", "GL06PC", "--set", "tax_rate=0.1", "--set", "tax_rate=0.2"],
            "tax_rate twice",
        ),
        (["simulate", "GL06PC", "--set", "tax_rate=0.1", "--set", "TaxRate=0.2"], "given twice"),
        (["simulate", "RandomWalk", "--seed", str(2**70)], "too large"),
        (["simulate", "GL06PC", "--set", "tax_rate=nan"], "must be finite"),
        (["simulate", "GL06PC", "--steps", "0"], "periods must be at least 1"),
        (["simulate", "GL06PC", "--seed", "1"], "GL06PC is not random: it takes no --seed"),
        (["simulate", "GL06PC", "--out", "p.doc"], "the endings are .csv, .parquet, .json"),
        (["jacobian", "GL06PC", "--of", "wealth", "--out", "p.doc"], "the endings are .csv,"),
        (["jacobian", "GL06PC", "--of", "gdp"], "'gdp' is not in"),
        (["jacobian", "GL06PC", "--of", "wealth", "--mode", "up"], "auto, forward, reverse"),
        (["check", "GL06PC", "--epsilon", "0"], "greater than 0"),
        (["check", "GL06PC", "--space", "cubic"], "log, direct, auto"),
    ],
)
def test_bad_input_has_status_2_and_says_what_there_is(
    capsys, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(capsys, *arguments)
    assert status == 2 and message in err and out == ""
    assert list(tmp_path.iterdir()) == []


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "macrostat check GL06SIMEX" in out and "simulate" in out


def test_equations_without_a_solution_are_bad_input(capsys, monkeypatch):
    """As `simulate` says of them; what goes wrong within JAX keeps its traceback."""
    errors = iter((RuntimeError("they have no solution"), jax.errors.JaxRuntimeError("INTERNAL")))

    def raising(arguments):
        raise next(errors)

    monkeypatch.setattr(cli, "_chosen", raising)
    status, out, err = run(capsys, "simulate", "IOPC")
    assert status == 2 and err == "macrostat simulate: they have no solution\n" and out == ""
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        cli.main(["simulate", "IOPC"])


def test_whoever_stops_reading_is_told_nothing(monkeypatch, tmp_path):
    """`macrostat list | head -1`: what is left unread at the exit is no error."""

    class Gone:
        def flush(self):
            raise BrokenPipeError

        def fileno(self):
            return unread.fileno()

    with open(tmp_path / "unread", "w") as unread:
        monkeypatch.setattr(cli, "_fast_loops", lambda: None)
        monkeypatch.setattr(cli, "main", lambda: 0)
        monkeypatch.setattr(sys, "stdout", Gone())
        assert cli.shell() == 0
        monkeypatch.undo()
        unread.write("more")
    assert (tmp_path / "unread").read_text() == ""


def test_a_call_from_python_leaves_the_environment_as_it_is(capsys):
    before = dict(os.environ)
    assert run(capsys, "list")[0] == 0
    assert dict(os.environ) == before


def test_the_command_in_a_fresh_process(tmp_path):
    environment = {**os.environ, "MACROSTAT_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "macrostat_jax.cli", "check", "GL06SIM", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True
    kept = tmp_path / "cache"
    assert list(kept.iterdir()) and kept.stat().st_mode & 0o077 == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache"]


def test_a_platform_that_jax_does_not_have_is_said(tmp_path):
    environment = {**os.environ, "JAX_PLATFORMS": "cuda", "MACROSTAT_CACHE": "off"}
    command = [sys.executable, "-m", "macrostat_jax.cli", "simulate", "GL06SIM"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    if done.returncode == 0:
        pytest.skip("there is a GPU here")
    assert done.returncode == 2
    assert "JAX_PLATFORMS='cuda'" in done.stderr and "jax[cuda13]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_clash_with_the_published_package_is_said(capsys, monkeypatch):
    assert _clash.clash() is None
    monkeypatch.setattr(_clash.importlib.metadata, "version", lambda name: "0.6.0")
    status, out, err = run(capsys, "list")
    assert "pip uninstall macrostat" in err and "0.6.0" in err
    assert status == 0 and "GL06PC" in out


def test_sensitivity_by_every_method(capsys, tmp_path):
    for method, most in (("sobol", "total"), ("morris", "mu_star")):
        arguments = ["--of", "national_income", "--method", method, "--n", "16", "--steps", "20"]
        status, out, _ = run(capsys, "sensitivity", "GL06PC", *arguments, "--json")
        found = json.loads(out)["outputs"]["national_income"]
        assert status == 0 and max(found, key=lambda name: found[name][most]) == "tax_rate"
    table, picture = tmp_path / "table.csv", tmp_path / "picture.png"
    arguments = ["--method", "local", "--out", str(table), "--plot", str(picture)]
    status, out, _ = run(capsys, "sensitivity", "GL06PC", "--of", "NationalIncome", *arguments)
    assert status == 0 and "Elasticities of GL06PC" in out and "saved" in out
    assert pd.read_csv(table)["tax_rate"].iloc[-1] == pytest.approx(-1.098, abs=1e-3)
    assert matplotlib.image.imread(picture).std() > 0.01  # not a blank page


def test_sensitivity_says_what_it_varied_and_what_it_cannot(capsys):
    few = ["--method", "morris", "--n", "4", "--steps", "5"]
    status, out, _ = run(capsys, "sensitivity", "GL06SIM", *few, "--around", "0.2")
    assert status == 0 and "varies by 20 % to either side" in out
    bounds = ["--bounds", "TaxRate=0.1:0.3"]
    status, out, _ = run(capsys, "sensitivity", "GL06SIM", *few, *bounds)
    assert status == 0 and "tax_rate" in out and "propensity_to_consume_income" not in out
    for wrong, message in (
        (["--bounds", "tax_rate=0.1"], "NAME=LOW:HIGH"),
        ([*bounds, "--around", "0.1"], "not both"),
        (["--second-order"], "of --method sobol"),
        (["--of", "gdp"], "'gdp' is not in"),
        (["--method", "local", "--n", "4"], "not over a region"),
    ):
        status, _, err = run(capsys, "sensitivity", "GL06SIM", *few[:2], *few[4:], *wrong)
        assert status == 2 and message in err
