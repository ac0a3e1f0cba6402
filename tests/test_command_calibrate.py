"""`macrostat calibrate`: what it prints, saves and refuses, and its exit status."""

import json

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from macrostat_jax import cli, models, simulate

SIM = models.GL06SIM
FREE = ["--free", "tax_rate", "--free", "PropensityToConsumeIncome=0.3:0.9"]
OBSERVE = ["--observe", "national_income=gdp"]


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(3)
    path = simulate(SIM, SIM.params(tax_rate=0.25), periods=40)
    dates = pd.period_range("2000Q1", periods=40, freq="Q").astype(str)
    income = np.asarray(path.national_income, float) + 0.1 * rng.normal(size=40)
    file = tmp_path / "data.csv"
    pd.DataFrame({"date": dates, "gdp": income, "G": 20.0}).to_csv(file, index=False)
    return file


def run(capsys, *arguments):
    status = cli.main(["calibrate", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_fit_with_its_table_and_pictures(capsys, data, tmp_path):
    picture, table = tmp_path / "fit.png", tmp_path / "estimates.csv"
    options = ["--exogenous", "government_demand=G", "--profile", "tax_rate"]
    status, out, _ = run(
        capsys, "GL06SIM", data, *OBSERVE, *FREE, *options, "--plot", picture, "--out", table
    )
    assert status == 0 and "2000Q1 to 2009Q4" in out and "Converged" in out
    assert "95% interval" in out and out.count("saved") == 2
    assert matplotlib.image.imread(picture).std() > 0.01  # not a blank page
    found = pd.read_csv(table, index_col="parameter")
    assert (
        abs(found.loc["tax_rate", "estimate"] - 0.25) < 3 * found.loc["tax_rate", "standard_error"]
    )


def test_json_and_priors(capsys, data):
    prior = ["--prior", "tax_rate=normal:0.25:0.01", "--sigma", "0.1", "--start", "tax_rate=0.4"]
    status, out, _ = run(capsys, "GL06SIM", data, *OBSERVE, *FREE, *prior, "--json")
    found = json.loads(out)
    assert status == 0 and found["success"] and found["priors"]
    assert found["values"]["tax_rate"] == pytest.approx(0.25, abs=0.01)
    assert found["standard_errors"]["tax_rate"] < 0.01 and found["observations"] == 40


def test_a_search_that_fails_has_the_status_1(capsys, data):
    free = ["--free", "tax_rate=0.01:0.9", "--start", f"tax_rate={0.9 - 1e-13!r}"]
    prior = ["--free", "propensity_to_consume_income", "--method", "bfgs", "--sigma", "1"]
    prior += ["--prior", "propensity_to_consume_income=beta:0.9:0.9"]
    status, out, _ = run(capsys, "GL06SIM", data, *OBSERVE, *free, *prior)
    assert status == 1 and "Stuck" in out


def test_a_file_that_cannot_be_written_does_not_cost_the_result(capsys, data, tmp_path):
    status, out, error = run(
        capsys, "GL06SIM", data, *OBSERVE, "--free", "TaxRate", "--profile", "TaxRate",
        "--out", tmp_path / "estimates.xlsx",
    )  # fmt: skip
    assert status == 2 and "Cannot write 'estimates.xlsx'" in error
    assert "Converged" in out and "95% interval" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (OBSERVE, "--free says which parameters"),
        ([*FREE], "no variables of GL06SIM: gdp, G"),
        ([*FREE, "--observe", "national_income=Y"], "no column 'Y'"),
        ([*FREE, "--observe", "national_income="], "takes VARIABLE=COLUMN"),
        ([*FREE, "--observe", "national_income=gdp:logs"], "no transform 'logs'"),
        ([*OBSERVE, "--free", "tax_rate=0.1"], "NAME=LOW:HIGH"),
        ([*OBSERVE, *FREE, "--prior", "tax_rate=cauchy:1"], "no 'cauchy'. There are: normal"),
        ([*OBSERVE, *FREE, "--prior", "tax_rate=normal:1"], "normal takes the numbers mu, sigma"),
        ([*OBSERVE, *FREE, "--prior", "tax_rate=normal:a:b"], "normal takes the numbers mu, sigma"),
        ([*OBSERVE, *FREE, "--profile", "wages"], "'wages' is not in"),
        (
            [*OBSERVE, *FREE, "--profile", "propensity_to_consume_savings"],
            "is not free. Free are: tax",
        ),
        ([*OBSERVE, *OBSERVE, *FREE], "--observe names 'national_income' twice"),
        ([*OBSERVE, *FREE, "--start", "tax_rate=0.1", "--start", "tax_rate=0.2"], "--start names"),
        ([*OBSERVE, *FREE, "--start", "tax_rate=low"], "--start takes NAME=VALUE"),
        ([*OBSERVE, *FREE, "--method", "simplex"], "Unknown method 'simplex'"),
        ([*OBSERVE, *FREE, "--steps", "10"], "30 of 40 observations"),
    ],
)
def test_bad_input_is_said_in_one_line_with_the_status_2(capsys, data, options, message):
    status, _, error = run(capsys, "GL06SIM", data, *options)
    assert status == 2 and message in error and error.startswith("macrostat calibrate: ")
