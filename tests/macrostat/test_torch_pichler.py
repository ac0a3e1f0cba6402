"""Model PichlerEtAl2022DIO in the torch API: other industries, data from tables, lockdowns."""

import inspect
import json
import logging
import pickle
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import torch

from macrostat.diff import JacobianAutograd
from macrostat.models import get_model_classes
from macrostat_jax import simulate
from macrostat_jax.models import PichlerEtAl2022DIO as MODEL

TABLES = Path(__file__).parents[1] / "reference" / "pichler"
PUBLISHED = json.loads((TABLES / "published.json").read_text())
NAMES = PUBLISHED["sector_names"]
CLASSES: Any = get_model_classes("PichlerEtAl2022DIO")


def tables(tmp_path: Path, *without: str) -> Path:
    folder = tmp_path / "tables"
    shutil.copytree(TABLES, folder)
    for name in without:
        (folder / f"{name}.csv").unlink()
    return folder


def from_tables(folder: Path = TABLES, **kwargs: Any) -> Any:
    hyper = {"sector_names": NAMES, **kwargs.pop("hyperparameters", {})}
    return CLASSES.Parameters.from_wiod_uk(
        folder, folder, folder / "ratio_inv_go.csv", hyperparameters=hyper, **kwargs
    )


def lockdown(parameters: Any, folder: Path = TABLES, **arguments: Any) -> Any:
    return CLASSES.Scenarios.from_shocks_csv(
        parameters, folder / "shock_scenarios.csv", folder / "GBR_f.csv", **arguments
    )


# Against the published package ----------------------------------------------------------------


def test_data_of_tables_are_the_published_ones():
    parameters = from_tables(parameters={"HiringRate": 0.1})
    assert parameters["HiringRate"] == 0.1 and parameters["timesteps"] == 182
    assert list(parameters.data) == list(PUBLISHED["data"])
    for key, value in PUBLISHED["data"].items():
        np.testing.assert_allclose(parameters.data[key]["value"], value, rtol=1e-6, err_msg=key)
    assert parameters["sectors"] == [*NAMES, "Household"]
    assert parameters["iosectors"] == NAMES and parameters["n_sectors"] == 5


@pytest.mark.parametrize(
    "recorded", PUBLISHED["scenarios"], ids=lambda r: "-".join(map(str, r["arguments"].values()))
)
def test_lockdowns_are_the_published_ones(recorded: Any):
    parameters = from_tables()
    scenarios = lockdown(parameters, **recorded["arguments"])
    assert scenarios.info[1]["Name"] == "Baseline"
    for key, rows in recorded["series"].items():
        found = scenarios["Baseline", key][recorded["days"]]
        np.testing.assert_allclose(found, rows, rtol=1e-5, atol=1e-7, err_msg=key)
    model = CLASSES.Model(parameters=parameters, scenarios=scenarios)
    path = model.simulate("Baseline")
    assert path["Inventories"].shape == (183, 5, 5)
    output = path["GrossOutput"][::13]
    np.testing.assert_allclose(output, recorded["output"], rtol=2e-5, atol=1e-3)
    assert not np.allclose(output[-1], output[0], rtol=0.05)


# Other industries -----------------------------------------------------------------------------


def test_the_core_computes_the_same():
    parameters = from_tables(hyperparameters={"dtype": torch.float64})
    scenarios = lockdown(parameters)
    path = CLASSES.Model(parameters=parameters, scenarios=scenarios).simulate(1)
    model = MODEL.resize(industry=NAMES)
    data = {key: info["value"].double().numpy() for key, info in parameters.data.items()}
    series = {
        key: scenarios[1, field.name][1:].reshape(181, *field.shape).numpy()
        for key, field in model.Scenario.fields.items()
    }
    with jax.enable_x64(True):
        expected = simulate(model, model.params(**data), model.Scenario(**series))
    for key, field in model.State.fields.items():
        ours = path[field.name][2:].reshape(181, *field.shape)
        np.testing.assert_allclose(ours, getattr(expected, key), rtol=1e-9, err_msg=key)


def test_undisturbed_by_default():
    model = CLASSES.Model(parameters=from_tables())
    first = model.scenarios.timeseries[0]
    consumption = model.parameters["InitialHouseholdConsumption"]
    torch.testing.assert_close(first["DemandPreferences"][7], consumption / consumption.sum())
    torch.testing.assert_close(
        first["OtherFinalDemand"][7], model.parameters["InitialOtherFinalDemand"]
    )
    output = model.simulate()["GrossOutput"]
    torch.testing.assert_close(output[-1], output[0], rtol=1e-4, atol=0)
    assert model.variables.check_health()
    table = model.variables.to_pandas()
    assert ("GrossOutput", "G45") in table and ("InventoriesQ", "A01") in table


def test_derivatives_with_other_industries():
    parameters = from_tables(hyperparameters={"timesteps": 100, "dtype": torch.float64})
    model = CLASSES.Model(parameters=parameters, scenarios=lockdown(parameters))
    results = [
        JacobianAutograd(model, scenario=1).compute(lambda out: out["GrossOutput"][-1].sum(), mode)
        for mode in ("fwd", "rev")
    ]
    for key, value in results[0].items():
        assert torch.isfinite(value).all(), key
        torch.testing.assert_close(value, results[1][key], rtol=1e-9, atol=1e-9)
    assert results[0]["TechnicalCoefficients"].shape == (5, 5)


def test_models_of_other_industries_are_copied_and_saved(tmp_path: Path):
    parameters = from_tables(hyperparameters={"production_function": "leontief"})
    model = CLASSES.Model(parameters=parameters, scenarios=lockdown(parameters))
    expected = model.simulate("Baseline")
    model.save(tmp_path / "model.json")
    for copy in (pickle.loads(pickle.dumps(model)), CLASSES.Model.load(tmp_path / "model.json")):
        assert copy.parameters["sector_names"] == NAMES
        path = copy.simulate("Baseline")
        for key in expected:
            torch.testing.assert_close(path[key], expected[key])


def test_options_reach_steps_in_eager_torch():
    class Eager(CLASSES.Behavior):
        def step(self, t, scenario, params=None):
            super().step(t, scenario, params)

    parameters = from_tables(
        hyperparameters={"timesteps": 120, "production_function": "leontief", "firm_priority": True}
    )
    scenarios = lockdown(parameters)
    paths = [
        CLASSES.Model(parameters=parameters, scenarios=scenarios, behavior=behavior).simulate(1)
        for behavior in (CLASSES.Behavior, Eager)
    ]
    for key, path in paths[0].items():
        torch.testing.assert_close(path, paths[1][key], rtol=1e-4, atol=1e-3)


def test_data_may_be_given_later(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    with caplog.at_level(logging.WARNING):
        parameters = CLASSES.Parameters(hyperparameters={"sector_names": ["X", "Y"]})
    assert "The data of 2 industries are 0 until they are given: CriticalInput" in caplog.text
    assert parameters["TechnicalCoefficients"].shape == (2, 2)
    pd.DataFrame([[0.1, 0.2], [0.0, 0.3]]).to_csv(tmp_path / "TechnicalCoefficients.csv")
    parameters.load_data_parameters_from_directory(tmp_path)
    assert parameters["TechnicalCoefficients"][0, 1] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"n_sectors": 5}, r"n_sectors is 5, but sector_names names 3: \['A', 'B', 'C'\]"),
        ({"sector_names": ["X", "X"]}, "sector_names names an industry twice"),
        ({"sector_names": ["X"], "iosectors": ["Y"]}, r"iosectors must be sector_names, \['X'\]"),
    ],
)
def test_contradictory_sectors(hyper: dict, message: str):
    with pytest.raises(ValueError, match=message):
        CLASSES.Parameters(hyperparameters=hyper)


def test_data_of_a_wrong_shape_are_named():
    with pytest.raises(
        ValueError, match=r"'InitialProfits' has the shape \(2,\); with the 3 industries .* \(3,\)"
    ):
        CLASSES.Parameters(data_parameters={"InitialProfits": [1.0, 2.0]})


def test_parts_of_different_economies_do_not_fit():
    model = CLASSES.Model(parameters=from_tables(), scenarios=CLASSES.Scenarios())
    with pytest.raises(ValueError, match=r"'SupplyShock' has 3 columns, but .* the shape \(5,\)"):
        model.simulate()
    model = CLASSES.Model()
    model.parameters["sector_names"] = ["X", "Y"]
    with pytest.raises(ValueError, match=r"columns, but|has the shape \(3, 3\), but .* \(2, 2\)"):
        model.simulate()


# Tables ---------------------------------------------------------------------------------------


def test_rows_are_found_by_name_or_by_position(tmp_path: Path):
    expected = from_tables().get_data_values()
    shuffled, numbered = tables(tmp_path / "a"), tables(tmp_path / "b")
    for path in shuffled.glob("*.csv"):
        table = pd.read_csv(path, index_col=0)
        if path.stem == "GBR_f_imported":
            continue
        turned = table.iloc[::-1]
        turned = turned.iloc[:, ::-1] if list(table.columns) == NAMES else turned
        turned.to_csv(path)
        table.index = pd.RangeIndex(len(table))
        if list(table.columns) == NAMES:
            table.columns = [f"V{i}" for i in range(5)]
        table.to_csv(numbered / path.name)
    for folder in (shuffled, numbered):
        found = from_tables(folder)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, msg=f"{folder} {key}")
        series = lockdown(found, folder).timeseries[1]
        for key, path in lockdown(from_tables()).timeseries[1].items():
            torch.testing.assert_close(series[key], path)


def test_what_the_other_tables_say_is_optional():
    parameters = CLASSES.Parameters.from_wiod_uk(TABLES, hyperparameters={"sector_names": NAMES})
    assert not parameters["CriticalInputMatrix"].any()
    assert not parameters["InventoryTargetDays"].any()


def test_the_default_industries_are_those_of_the_wiod():
    with pytest.raises(ValueError, match=r"GBR_x.csv has no rows for the sectors A02, A03, B,"):
        CLASSES.Parameters.from_wiod_uk(TABLES)


def test_tables_that_are_wrong(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"GBR_lab.csv"):
        from_tables(tables(tmp_path / "a", "GBR_lab"))
    folder = tables(tmp_path / "b")
    pd.read_csv(folder / "GBR_A.csv", index_col=0).drop(columns="Q").to_csv(folder / "GBR_A.csv")
    with pytest.raises(ValueError, match=r"GBR_A.csv has no columns for the sectors Q\."):
        from_tables(folder)
    few = pd.read_csv(folder / "GBR_cap.csv", index_col=0).reset_index(drop=True).iloc[:3]
    few.to_csv(folder / "GBR_cap.csv")
    pd.read_csv(TABLES / "GBR_A.csv", index_col=0).to_csv(folder / "GBR_A.csv")
    with pytest.raises(ValueError, match=r"GBR_cap.csv has 3 rows, for 5 sectors"):
        from_tables(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"supply_scenario": "S9"}, "supply_scenario must be one of S1, .* S6, not 'S9'"),
        ({"other_fd_scenario": "mild"}, "other_fd_scenario must be one of weak, strong"),
        ({"l_shape_believe": "30%"}, "l_shape_believe must be one of 0%, 50%, 100%, not '30%'"),
        ({"demand_scenario": "E"}, "shock_scenarios.csv has no column 'E'. There are: S1, "),
    ],
)
def test_lockdowns_that_there_are_not(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        lockdown(from_tables(), **arguments)


@pytest.mark.parametrize("periods", [50, 100, 140, 170])
def test_lockdowns_of_other_lengths_begin_alike(periods: int):
    short = lockdown(from_tables(hyperparameters={"timesteps": periods})).timeseries[1]
    for key, path in lockdown(from_tables()).timeseries[1].items():
        assert len(short[key]) == periods
        # Only demand fades until the last day.
        until = periods if key not in ("DemandPreferences", "FearOfInfection") else 134
        torch.testing.assert_close(short[key][:until], path[: min(until, periods)])


# Scenarios of whole series --------------------------------------------------------------------


def test_vector_scenarios():
    model = CLASSES.Model(hyperparameters={"timesteps": 30, "scenario_trigger": 5})
    shock = np.zeros((30, 3))
    shock[2:] = [0.5, 0.1, 0.0]
    model.scenarios.add_vector_scenario(
        {"SupplyShock": shock, "FearOfInfection": torch.full((30,), 1e-9)}, name="mine"
    )
    assert model.scenarios.info[1]["Name"] == "mine"
    assert model.scenarios.info[1]["Colour"] == "#CC0000"
    assert model.scenarios["mine", "FearOfInfection"].shape == (30, 1)
    assert model.scenarios["mine", "SupplyShock"][2, 0] == 0.5  # whatever the trigger
    assert torch.equal(
        model.scenarios["mine", "OtherFinalDemand"], model.scenarios[0, "OtherFinalDemand"]
    )
    output = model.simulate("mine")["GrossOutput"]
    torch.testing.assert_close(output[2], output[0])
    assert output[3, 0] == 50.0


@pytest.mark.parametrize(
    ("series", "error", "message"),
    [
        ({"Supply": np.zeros((182, 3))}, KeyError, "no series 'Supply'. There are: SupplyShock"),
        (
            {"SupplyShock": np.zeros((182, 2))},
            ValueError,
            r"'SupplyShock' needs the shape \(182, 3\), .* \['A', 'B', 'C'\]; it has .* \(182, 2\)",
        ),
        ({"SupplyShock": np.zeros((100, 3))}, ValueError, r"it has the shape \(100, 3\)"),
        ({"FearOfInfection": np.zeros(9)}, ValueError, r"needs the shape \(182, 1\); .* \(9,\)"),
        ({"FearOfInfection": np.full(182, np.nan)}, ValueError, "not finite"),
    ],
)
def test_vector_scenarios_that_are_wrong(series: dict, error: type, message: str):
    scenarios = CLASSES.Scenarios()
    with pytest.raises(error, match=message):
        scenarios.add_vector_scenario(series)
    assert len(scenarios.info) == len(scenarios.timeseries) == 1


def test_signatures_are_the_published_ones():
    def arguments(function: Any) -> dict[str, Any]:
        found = inspect.signature(function).parameters.values()
        return {p.name: None if p.default is p.empty else p.default for p in found}

    assert arguments(CLASSES.Parameters.from_wiod_uk) == dict.fromkeys(
        ("data_dir", "ihs_dir", "inv_file", "kwargs")
    )
    assert arguments(CLASSES.Scenarios.from_shocks_csv) == {
        **dict.fromkeys(("parameters", "shock_csv", "final_demand_csv")),
        "supply_scenario": "S4",
        "demand_scenario": "D",
        "other_fd_scenario": "strong",
        "delta_srate": 0.5,
        "rho_bar": 0.6,
        "l_shape_believe": "50%",
    }
    expected = {"timeseries": None, "name": "Baseline", "colour": "#CC0000"}
    assert arguments(CLASSES.Scenarios().add_vector_scenario) == expected
