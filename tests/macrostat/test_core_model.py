"""Model: its parts, running it, keeping it."""

import copy
import json
import logging
import pickle
from pathlib import Path

import pytest
import torch
from core_cases import Toy, ToyBehavior, ToyParameters, ToyScenarios, ToyVariables

from macrostat.core import Behavior, Model, Parameters, Scenarios, Variables
from macrostat.models import get_model


def test_parts_by_default():
    model = Model()
    assert type(model.parameters) is Parameters
    assert type(model.scenarios) is Scenarios and type(model.variables) is Variables
    assert model.behavior is Behavior and model.name == "model"


def test_given_parts_are_used():
    parameters = ToyParameters()
    scenarios, variables = ToyScenarios(parameters), ToyVariables(parameters=parameters)
    model = Model(parameters, {"seed": 1}, scenarios, variables, ToyBehavior, "toy")
    assert model.parameters is parameters and parameters["seed"] == 1
    assert model.scenarios is scenarios and model.variables is variables
    assert model.name == "toy"
    assert set(model.simulate()) == set(variables.info)


def test_parts_from_dicts():
    model = Toy(parameters={"b": 0.4}, scenarios={"more": {"G": 30}}, hyperparameters={"seed": 1})
    assert isinstance(model.parameters, ToyParameters)
    assert model.parameters["b"] == 0.4 and model.parameters["seed"] == 1
    assert model.scenarios["more", "G"][-1].item() == 30.0
    with pytest.raises(KeyError, match="'zz'"):
        Toy(hyperparameters={"zz": 1})
    with pytest.raises(TypeError, match="subclass of Behavior"):
        Model(behavior=3)  # type: ignore[arg-type]


def test_the_horizon_may_be_given():
    assert len(Toy(hyperparameters={"timesteps": 50}).simulate()["Y"]) == 51
    assert len(Toy(ToyParameters(), hyperparameters={"timesteps": 50}).simulate()["Y"]) == 51


def test_simulate_leaves_the_instance_and_no_graph():
    model = Toy()
    assert model.behavior_instance is None
    path = model.simulate()
    assert isinstance(model.behavior_instance, ToyBehavior)
    assert not path["Y"].requires_grad
    assert torch.equal(model.behavior_instance.state["Y"], path["Y"][-1])
    assert torch.equal(model.variables.timeseries["Y"], path["Y"])
    assert model.simulate(0, debug=True) and model.behavior_instance.debug


def test_scenarios_by_number_and_name():
    model = Toy()
    model.scenarios.add_scenario({"G": 30}, name="more")
    assert torch.equal(model.simulate(1)["Y"], model.simulate("more")["Y"])
    assert model.get_model_training_instance("more").scenarioID == 1
    for call in (
        model.simulate,
        model.get_model_training_instance,
        model.compute_theoretical_steady_state,
    ):
        with pytest.raises(ValueError, match="Scenario zz not found"):
            call("zz")
        with pytest.raises(KeyError, match="no scenario 9"):
            call(9)


def test_a_model_writes_no_file_and_leaves_logging_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    root = list(logging.getLogger().handlers)
    Toy(log_level=logging.DEBUG).simulate()
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger().handlers == root


def test_a_log_file_that_is_asked_for(tmp_path: Path):
    logger = logging.getLogger("macrostat")
    handlers, level = list(logger.handlers), logger.level
    try:
        for _ in range(2):
            model = Toy(log_file=tmp_path / "run.log")
        for _ in range(2):
            model.scenarios.add_scenario({}, name="twice")
        assert (tmp_path / "run.log").read_text().count("'twice'") == 1
    finally:
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)


def test_to_json_writes_three_files(tmp_path: Path):
    model = Toy()
    model.simulate()
    model.to_json(tmp_path / "toy")
    names = {"toy_params.json", "toy_scenarios.json", "toy_variables.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    parameters = ToyParameters.from_json(tmp_path / "toy_params.json")
    assert parameters.is_equal(model.parameters)


def same(first: Model, second: Model) -> bool:
    paths = first.variables.timeseries
    return (
        type(first) is type(second)
        and first.parameters.is_equal(second.parameters)
        and first.variables.info == second.variables.info
        and paths.keys() == second.variables.timeseries.keys()
        and all(torch.equal(paths[k], second.variables.timeseries[k]) for k in paths)
        and all(
            torch.equal(path, second.scenarios[number, key])
            for number, series in first.scenarios.timeseries.items()
            for key, path in series.items()
        )
    )


def test_save_and_load(tmp_path: Path):
    model = Toy(parameters={"b": 0.37}, hyperparameters={"dtype": torch.float64}, name="mine")
    model.scenarios.add_scenario({"G": [30, 31]}, name="more")
    model.simulate("more")
    model.save(tmp_path / "m.json")
    loaded = Toy.load(tmp_path / "m.json")
    assert loaded.name == "mine"
    assert same(loaded, model)
    assert torch.equal(loaded.simulate("more")["Y"], model.simulate("more")["Y"])


def test_the_base_loads_library_models_only(tmp_path: Path):
    library = get_model("GL06SIM")(parameters={"TaxRate": 0.3})
    library.simulate()
    library.save(tmp_path / "sim.json")
    assert same(Model.load(tmp_path / "sim.json"), library)
    Toy().save(tmp_path / "toy.json")
    with pytest.raises(ValueError, match=r"holds a Toy, .* load it with Toy.load"):
        Model.load(tmp_path / "toy.json")
    with pytest.raises(ValueError, match="holds a GL06SIM, not a Toy"):
        Toy.load(tmp_path / "sim.json")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the file was run",))


def test_loading_never_unpickles(tmp_path: Path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="looks like a pickle"):
        Model.load(tmp_path / "m.pkl")
    (tmp_path / "m.json").write_text(json.dumps({"x": 1}))
    with pytest.raises(ValueError, match="was not written by"):
        Model.load(tmp_path / "m.json")


def test_copies():
    model = Toy()
    model.simulate()
    model.get_model_training_instance()()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(twin, model)
        twin.parameters["a"] = 0.6
        assert model.parameters["a"] == 0.5
        assert twin.variables.parameters is twin.parameters
