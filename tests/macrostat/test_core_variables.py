"""Variables: recording a run, tables, accounts, files."""

import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from core_cases import Toy, ToyParameters, ToyVariables

from macrostat.core import Parameters, Variables


def variables(**info: dict) -> Variables:
    return Variables(variable_info=info, parameters=ToyParameters())


def simulated() -> Toy:
    model = Toy()
    model.simulate()
    return model


@pytest.mark.parametrize(
    ("info", "shape"),
    [
        ({}, (1,)),
        ({"sectors": []}, (1,)),
        ({"sectors": ["H"]}, (1,)),
        ({"sectors": ["A", "B"]}, (2,)),
        ({"sectors": [4]}, (4,)),
        ({"sectors": [4, 3]}, (4, 3)),
        ({"sectors": ["timesteps"]}, (12,)),
        ({"sectors": ["timesteps", 2]}, (12, 2)),
        ({"sectors": ["timesteps", "A"]}, (2,)),
        ({"sectors": ["A", "B"], "matrix": ["x", "y", "z"]}, (2, 3)),
    ],
)
def test_shapes(info: dict, shape: tuple):
    assert variables(x=info).new_state()["x"].shape == shape


def test_the_zero_state():
    state, history = ToyVariables(parameters=ToyParameters()).initialize_tensors()
    assert all(torch.all(value == 0) for value in state.values())
    assert history == {"Y": []}
    float64 = ToyParameters(hyperparameters={"dtype": torch.float64, "requires_grad": True})
    state = ToyVariables(parameters=float64).new_state()
    assert state["Y"].dtype == torch.float64 and state["Y"].requires_grad


def test_constructs_without_arguments():
    assert Variables().info == {}
    assert isinstance(Variables().parameters, Parameters)


def test_recording():
    v = variables(x={"sectors": ["H"], "history": 2}, y={"sectors": ["A", "B"]})
    v.initialize_tensors()
    for t in range(3):
        state = {"x": torch.tensor(float(t)), "scratch": torch.ones(3)}
        v.record_state(t, state)
        history = v.update_history(state)
        state["x"].fill_(-1.0)  # a model may write on
    assert history["x"].tolist() == [2.0, 1.0]
    series = v.gather_timeseries()
    assert series["x"].shape == (12, 1) and series["y"].shape == (12, 2)
    assert series["x"][:3, 0].tolist() == [0.0, 1.0, 2.0]
    assert torch.all(series["y"][:3] == 0)
    assert torch.all(torch.isnan(series["x"][3:]))
    assert set(v.timeseries) == {"x", "y"}


def test_undeclared_entries_are_logged_once(caplog: pytest.LogCaptureFixture):
    v = variables(x={})
    for t in range(3):
        v.record_state(t, {"scratch": torch.ones(1)})
    assert caplog.text.count("'scratch' is set by the model but not declared") == 1


def test_what_cannot_be_recorded():
    v = variables(x={})
    with pytest.raises(TypeError, match="'x' must be a tensor at t=0, not float"):
        v.record_state(0, {"x": 1.0})  # type: ignore[dict-item]
    v.record_state(0, {"x": torch.ones(1)})
    v.record_state(1, {"x": torch.ones(3)})
    with pytest.raises(ValueError, match="'x' changes its shape during the run"):
        v.gather_timeseries()


def test_history_is_the_latest_first():
    v = variables(x={"history": 3})
    v.initialize_tensors()
    for t in range(5):
        history = v.update_history({"x": torch.tensor([float(t)])})
        assert history["x"].tolist() == [float(i) for i in range(t, max(t - 3, -1), -1)]


def test_given_timeseries_can_be_added_to():
    v = Variables(
        variable_info={"x": {}},
        timeseries={"x": torch.zeros(2, 1)},
        parameters=Parameters(hyperparameters={"timesteps": 3}),
    )
    v.record_state(2, {"x": torch.ones(1)})
    assert v.gather_timeseries()["x"].tolist() == [[0.0], [0.0], [1.0]]


def test_nothing_recorded_is_nan():
    v = variables(x={})
    assert torch.all(torch.isnan(v.gather_timeseries()["x"]))
    v.record_state(0, {"x": torch.ones(1)})
    assert v.gather_timeseries()["x"][0].item() == 1.0


def test_accounting_roles():
    v = Toy().variables
    assert set(v.get_stock_variables()) == {"HMoney", "FMoney"}
    assert v.get_flow_variables() == {"Y": [("Inflow", "H"), ("Outflow", "F")]}
    assert variables(r={"sfc": [("Index", "H")]}).get_index_variables() == {"r": [("Index", "H")]}
    assert variables(r={"sfc": ("Index", "H")}).get_index_variables() == {"r": [("Index", "H")]}
    assert v.verify_sfc_info()


@pytest.mark.parametrize(
    "sfc", ["Index", [("Nothing", "H")], [("Asset",)], [(1, "H")], [("Asset", ("H", "b", "c"))]]
)
def test_malformed_roles(sfc: object, caplog: pytest.LogCaptureFixture):
    v = variables(x={"sfc": sfc})
    assert not v.verify_sfc_info()
    assert "'x'" in caplog.text
    with pytest.raises(ValueError, match="SFC information is not complete: 'sfc' of 'x'"):
        v.balance_sheet_theoretical()


def test_balance_sheet_in_symbols():
    sheet = Toy().variables.balance_sheet_theoretical(mathfmt="myst")
    assert list(sheet.index) == ["Money"]
    columns = [("H", "Current"), ("F", "Capital"), ("Total", "")]
    assert list(sheet.columns) == columns
    assert sheet.to_numpy().tolist() == [["$+M_h$", "$-M_f$", "$0$"]]
    with pytest.raises(ValueError, match="Invalid math format: zz"):
        Toy().variables.balance_sheet_theoretical(mathfmt="zz")


def test_transaction_matrix_in_symbols():
    matrix = Toy().variables.transaction_matrix_theoretical(non_camel_case=True)
    assert list(matrix.index) == ["Y", "Change in Money", "Total"]
    assert matrix.loc["Y", ("H", "Current")] == ":math:`+Y`"
    assert matrix.loc["Y", ("F", "Capital")] == ""
    assert matrix.iloc[1].tolist() == [
        r":math:`-\Delta M_h`",
        "",
        r":math:`+\Delta M_f`",
        ":math:`0`",
    ]


def test_tables_in_numbers():
    model = simulated()
    series = model.variables.timeseries
    sheet = model.variables.balance_sheet_actual()
    assert sheet.loc["Money", ("H", "Current")] == pytest.approx(series["HMoney"][-1].item())
    assert sheet["Total"].tolist() == [0.0]
    matrix = model.variables.transaction_matrix_actual(timestep=6)
    assert matrix.loc["Y", ("H", "Current")] == pytest.approx(series["Y"][6].item())
    change = (series["HMoney"][6] - series["HMoney"][5]).item()
    assert matrix.loc["Change in Money", ("H", "Current")] == pytest.approx(-change)
    assert np.allclose(matrix["Total"], 0)
    assert np.allclose(matrix.loc["Total", ("H", "Current")], 0, atol=1e-4)
    with pytest.raises(ValueError, match="timestep must lie in -13 to 12, not 13"):
        model.variables.balance_sheet_actual(timestep=13)
    with pytest.raises(ValueError, match="no results yet"):
        Toy().variables.balance_sheet_actual()


def test_input_output_sectors_are_one_column():
    parameters = ToyParameters(
        hyperparameters={"sectors": ["H", "A", "B"], "iosectors": ["A", "B"]}
    )
    info = {"Pay": {"notation": "P", "sfc": [("Outflow", "A"), ("Inflow", "H")]}}
    v = Variables(variable_info=info, parameters=parameters)
    grouped = v.transaction_matrix_theoretical()
    single = v.transaction_matrix_theoretical(group_io=False)
    assert [c[0] for c in grouped.columns] == ["H", "IOSectors", "Total"]
    assert [c[0] for c in single.columns] == ["H", "A", "B", "Total"]


def test_health(caplog: pytest.LogCaptureFixture):
    model = simulated()
    assert model.variables.check_health()
    series = dict(model.variables.timeseries)
    model.variables.set_timeseries({**series, "FMoney": series["FMoney"] + 1.0})
    assert not model.variables.check_health()
    assert "'Money' does not sum to zero" in caplog.text
    model.variables.set_timeseries({**series, "Y": series["Y"] * math.nan})
    assert not model.variables.check_health()
    assert "'Y' is not finite" in caplog.text


def test_to_pandas():
    table = simulated().variables.to_pandas()
    assert table.index.name == "time" and len(table) == 13
    assert list(table.columns) == [
        ("Y", "H"),
        ("W", "S1"),
        ("W", "S2"),
        *[("M", i) for i in range(4)],
        ("HMoney", "H"),
        ("FMoney", "F"),
    ]
    info = {"Z": {"sectors": ["A", "B"], "matrix": ["x", "y"]}}
    v = Variables(variable_info=info, timeseries={"Z": torch.arange(8.0).reshape(2, 2, 2)})
    assert v.to_pandas()["Zx"].columns.tolist() == ["A", "B"]


def test_compare():
    model = simulated()
    before = model.variables.to_pandas()
    model.parameters["S1.w"] = 0.2
    model.simulate()
    difference, relative = model.variables.compare(before)
    assert np.allclose(difference["Y"], 0)
    assert np.allclose(
        difference[("W", "S1")], model.variables.to_pandas()[("W", "S1")] - before[("W", "S1")]
    )
    assert relative[("W", "S1")].iloc[-1] == pytest.approx(
        100 * difference[("W", "S1")].iloc[-1] / before[("W", "S1")].iloc[-1]
    )
    assert math.isnan(relative[("W", "S1")].iloc[0])  # theirs is 0 there
    assert model.variables.compare(model.variables)[0].abs().max().max() == 0


def test_comparing_what_has_nothing_in_common(caplog: pytest.LogCaptureFixture):
    model = simulated()
    with pytest.raises(ValueError, match="no columns"):
        model.variables.compare(pd.DataFrame({"Y": [1.0]}))
    model.variables.compare(model.variables.to_pandas().drop(columns=[("W", "S1")]))
    assert "Only one side has the columns [('W', 'S1')]" in caplog.text


def test_json_reads_back_what_was_written(tmp_path: Path):
    model = simulated()
    model.variables.to_json(tmp_path / "v.json")
    after = ToyVariables.from_json(tmp_path / "v.json", parameters=model.parameters)
    assert after.info == model.variables.info
    for name, path in model.variables.timeseries.items():
        assert torch.equal(after.timeseries[name], path)
        assert after.timeseries[name].dtype == path.dtype


def test_info_to_csv(tmp_path: Path):
    Toy().variables.info_to_csv(tmp_path / "v.csv", sphinx_math=True)
    table = pd.read_csv(tmp_path / "v.csv", index_col=0)
    assert list(table.columns) == ["Notation", "Unit", "History", "Sectors", "Sfc"]
    assert table.loc["W", "Sectors"] == "S1, S2"
    assert table.loc["Y", "Notation"] == ":math:`Y`"


def test_results_with_a_graph_are_copied_without_it():
    model = Toy()
    model.get_model_training_instance()()
    assert model.variables.timeseries["Y"].requires_grad
    for twin in (copy.deepcopy(model.variables), pickle.loads(pickle.dumps(model.variables))):
        assert not twin.timeseries["Y"].requires_grad
        assert torch.equal(twin.timeseries["Y"], model.variables.timeseries["Y"].detach())
