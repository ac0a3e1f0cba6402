"""Scenarios: how series are filled, found and written."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from core_cases import Toy, ToyParameters, ToyScenarios

from macrostat.core import Scenarios
from macrostat.models import get_available_models, get_model_classes

TRIGGER, T = 5, 12


def scenarios() -> ToyScenarios:
    return ToyScenarios(parameters=ToyParameters())


def test_the_default_scenario():
    s = scenarios()
    assert s[0, "G"].shape == (T, 1) and s[0, "G"].dtype == torch.float32
    assert torch.all(s["Scenario.0", "G"] == 20)
    assert s.trigger == TRIGGER
    assert s.info[0]["Name"] == "Scenario.0" and s.info[0]["Colour"] == "#000000"
    assert len(s.info[0]["Index"]) == T - TRIGGER
    assert Scenarios().timeseries == {0: {}}


def test_a_number_fills_to_the_end():
    s = scenarios()
    s.add_scenario({"G": 30}, name="more")
    assert s["more", "G"].squeeze().tolist() == [20.0] * TRIGGER + [30.0] * (T - TRIGGER)
    assert torch.all(s[0, "G"] == 20)


@pytest.mark.parametrize(
    "values",
    [
        [30, 31.0],
        (30.0, 31.0),
        torch.tensor([30.0, 31.0]),
        torch.tensor([[30.0], [31.0]]),
        np.array([30.0, 31.0]),
        pd.Series([30.0, 31.0], index=[2001, 2002]),
        pd.DataFrame({"G": [30.0, 31.0]}),
    ],
    ids=lambda v: type(v).__name__,
)
def test_values_fill_their_own_length(values: Any):
    s = scenarios()
    s.add_scenario({"G": values}, name="two")
    expected = [20.0] * TRIGGER + [30.0, 31.0] + [20.0] * (T - TRIGGER - 2)
    assert s["two", "G"].squeeze().tolist() == expected


def test_a_series_brings_its_index():
    s = scenarios()
    s.add_scenario({"G": pd.Series([1.0, 2.0], index=[2001, 2002])})
    assert s.info[1]["Index"].tolist() == [2001, 2002]
    assert s.info[1]["Name"] == "Scenario.1"


def test_what_does_not_fit_is_refused_and_adds_nothing():
    s = scenarios()
    with pytest.raises(ValueError, match=r"'G' has 100 values, but there are 7 periods from the"):
        s.add_scenario({"G": list(range(100))})
    for wrong in (float("nan"), [1.0, float("inf")]):
        with pytest.raises(ValueError, match="'G' must be finite"):
            s.add_scenario({"G": wrong})
    assert set(s.timeseries) == set(s.info) == {0}
    s.add_scenario({"G": list(range(T - TRIGGER))})
    assert s[1, "G"][TRIGGER:].squeeze().tolist() == list(range(T - TRIGGER))


def test_a_trigger_beyond_the_horizon_is_refused():
    late = scenarios()
    late.trigger = T
    with pytest.raises(ValueError, match=f"would change nothing: scenario_trigger is {T}"):
        late.add_scenario({"G": 1.0}, name="late")


def test_unknown_series_and_wrong_shapes_add_nothing():
    s = scenarios()
    with pytest.raises(KeyError, match=r"Key ZZ not found in scenario 1\. Add it to the default"):
        s.add_scenario({"G": 3, "ZZ": 1})
    with pytest.raises(ValueError, match=r"'G' takes a number or rows of shape \(1,\)"):
        s.add_scenario({"G": torch.zeros(3, 2)})
    assert set(s.timeseries) == set(s.info) == {0}


def test_looking_up():
    s = scenarios()
    s.add_scenario({}, name="same", colour="#123456")
    assert s.get_scenario_index("same") == 1
    assert s.info[1]["Colour"] == "#123456"
    with pytest.raises(ValueError, match="Scenario zz not found"):
        s.get_scenario_index("zz")
    with pytest.raises(KeyError, match="no scenario 7"):
        s[7, "G"]
    with pytest.raises(KeyError, match="no series 'ZZ'"):
        s[0, "ZZ"]
    with pytest.raises(TypeError, match=r"scenarios\[id or name, series\]"):
        s["G"]  # type: ignore[index]


def test_a_name_twice_is_logged(caplog: pytest.LogCaptureFixture):
    s = scenarios()
    s.add_scenario({"G": 1}, name="x")
    s.add_scenario({"G": 2}, name="x")
    assert "already is a scenario named 'x'" in caplog.text
    assert set(s.timeseries) == {0, 1, 2}


def test_colours_differ_and_repeat_in_every_run():
    first, second = scenarios(), scenarios()
    for s in (first, second):
        for _ in range(4):
            s.add_scenario({})
    colours = [info["Colour"] for info in first.info.values()]
    assert len(set(colours)) == 5
    assert colours == [info["Colour"] for info in second.info.values()]


def test_given_at_construction():
    info = {
        0: {"Name": "base", "Colour": "#000000", "Index": np.arange(7)},
        1: {"Name": "more", "Colour": "#ff0000", "Index": np.arange(7)},
    }
    s = ToyScenarios(parameters=ToyParameters(), scenarios={"x": {"G": 3}}, scenario_info=info)
    assert s.get_scenario_index("more") == 1
    with pytest.raises(ValueError, match="one-to-one mapping"):
        ToyScenarios(parameters=ToyParameters(), scenario_info=info)
    with pytest.raises(ValueError, match="should have the keys"):
        ToyScenarios(parameters=ToyParameters(), scenario_info={0: {"Name": "x"}})


def test_leaves():
    s = ToyScenarios(parameters=ToyParameters(), calibration_variables=["G"])
    s.add_scenario({"G": 30}, name="more")
    leaves = s.to_nn_parameters("more")
    assert s.current_scenario == 1
    assert leaves["G"].requires_grad and not leaves["a_add"].requires_grad
    with torch.no_grad():
        leaves["G"].zero_()
    assert s["more", "G"][-1].item() == 30.0


def test_a_changed_horizon_is_noticed():
    model = Toy()
    model.parameters["timesteps"] = 30
    with pytest.raises(ValueError, match="has 12 periods, but timesteps is 30"):
        model.simulate()


def test_vector_series():
    class Wide(ToyScenarios):
        def get_default_scenario_values(self):
            return {"D": torch.tensor([1.0, 2.0, 3.0])}

    s = Wide(parameters=ToyParameters())
    assert s[0, "D"].shape == (T, 3)
    s.add_scenario({"D": torch.tensor([4.0, 5.0, 6.0])}, name="constant")
    s.add_scenario({"D": torch.ones(2, 3)}, name="rows")
    assert s["constant", "D"][-1].tolist() == [4.0, 5.0, 6.0]
    assert s["rows", "D"][TRIGGER : TRIGGER + 3].tolist() == [[1.0] * 3, [1.0] * 3, [1.0, 2.0, 3.0]]


@pytest.mark.parametrize("name", [None, *get_available_models()])
def test_json_reads_back_what_was_written(name: str | None, tmp_path: Path):
    cls = ToyScenarios if name is None else get_model_classes(name).Scenarios
    parameters = ToyParameters() if name is None else get_model_classes(name).Parameters()
    before = cls(parameters=parameters)
    for i, key in enumerate(before.timeseries[0]):
        before.add_scenario({key: before[0, key][:2] * 0.7 + 0.1}, name=f"s{i}")
    before.calibration_variables = list(before.timeseries[0])[:1]
    before.to_json(tmp_path / "s.json")
    after = cls.from_json(tmp_path / "s.json", parameters=parameters)
    assert after.timeseries.keys() == before.timeseries.keys()
    for number, series in before.timeseries.items():
        assert after.info[number]["Name"] == before.info[number]["Name"]
        assert list(after.info[number]["Index"]) == list(before.info[number]["Index"])
        for key, path in series.items():
            assert torch.equal(after[number, key], path)
    assert after.calibration_variables == before.calibration_variables


def test_json_of_the_published_package(tmp_path: Path):
    """Its series begin at the trigger."""
    s = scenarios()
    s.add_scenario({"G": 30}, name="more")
    content = s.document()
    for key in ("Scenario.0", "Scenario.1"):
        content[key] = {name: values[TRIGGER:] for name, values in content[key].items()}
    s.take_document(content)
    assert s["more", "G"].squeeze().tolist() == [20.0] * TRIGGER + [30.0] * (T - TRIGGER)
    content["Scenario.0"]["G"] = [1.0]
    with pytest.raises(ValueError, match="'G' has 1 periods in the file"):
        s.take_document(content)
