"""Parameters: values and their checks, tensors, files."""

import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from core_cases import ToyParameters, entry

from macrostat.core import BoundaryError, Parameters
from macrostat.models import get_available_models, get_model_classes


def test_values_are_numbers_in_full_precision():
    parameters = ToyParameters()
    assert parameters["a"] == 0.5
    assert parameters.get_values()["c"] == 1.0 - (0.5 + 0.3)
    assert parameters["timesteps"] == 12
    assert parameters["D"].shape == (2, 3)
    assert "a" in parameters and "D" in parameters and "seed" in parameters
    assert "z" not in parameters


def test_defaults_of_the_base():
    assert Parameters().hyper == {
        "timesteps": 100,
        "timesteps_initialization": 10,
        "scenario_trigger": 0,
        "seed": 42,
        "device": "cpu",
        "requires_grad": False,
    }


def test_instances_share_nothing():
    class Shared(Parameters):
        kept: ClassVar = {"a": entry(0.5)}

        def get_default_parameters(self):
            return self.kept

    first = Shared()
    first["a"] = 0.9
    first.hyper["timesteps"] = 3
    assert Shared()["a"] == 0.5
    assert Shared()["timesteps"] == 100


@pytest.mark.parametrize("given", [{"b": 0.4}, {"b": {"value": 0.4}}, {"b": entry(0.4)}])
def test_given_values_keep_what_they_do_not_replace(given):
    parameters = ToyParameters(parameters=given)
    assert parameters["b"] == 0.4
    assert parameters.get_bounds()["b"] == (0.0, 1.0)
    assert parameters["c"] == pytest.approx(0.1)


def test_a_class_without_declarations_takes_what_it_is_given():
    parameters = Parameters(parameters={"x": entry(0.3)})
    assert parameters["x"] == 0.3
    with pytest.raises(BoundaryError, match=r"Missing bounds for parameters: \['y'\]"):
        Parameters(parameters={"y": {"value": 1.0}})


@pytest.mark.parametrize("argument", ["parameters", "hyperparameters", "data_parameters", "bounds"])
def test_unknown_names_are_errors(argument):
    with pytest.raises(KeyError, match="'zz' not found"):
        ToyParameters(**{argument: {"zz": (0, 1)}})


def test_setting_checks():
    parameters = ToyParameters()
    parameters["b"] = torch.tensor(0.25)
    assert parameters["b"] == 0.25 and isinstance(parameters["b"], float)
    parameters["timesteps"] = 7
    assert parameters["timesteps"] == 7
    for bad in (1.5, -0.1, math.nan):
        with pytest.raises(BoundaryError, match="Parameter b has invalid value") as caught:
            parameters["b"] = bad
        assert "(bounds: 0.0, 1.0)" in caught.value.message
    assert parameters["b"] == 0.25
    with pytest.raises(KeyError, match="'zz'"):
        parameters["zz"] = 1.0
    with pytest.raises(KeyError, match="'zz'"):
        parameters["zz"]
    with pytest.raises(TypeError, match="must be a number"):
        parameters["b"] = "0.2"
    with pytest.raises(BoundaryError, match="above upper bound"):
        parameters["D"] = torch.full((2, 3), 3.0)
    parameters["D"] = [[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    assert parameters["D"].sum() == 3.0


def test_bounds():
    parameters = ToyParameters(bounds={"b": (0.1, 0.6)})
    assert parameters.get_bounds()["b"] == (0.1, 0.6)
    assert parameters.get_bounds()["D"] == (0.0, 2.0)
    parameters.set_bound("b", (0.2, 0.4))
    assert parameters.get_bounds()["b"] == (0.2, 0.4)
    with pytest.raises(BoundaryError, match="invalid value"):
        parameters["b"] = 0.5
    with pytest.raises(BoundaryError, match="invalid bounds"):
        parameters.set_bound("b", (0.9, 0.1))
    with pytest.raises(BoundaryError, match="invalid value"):
        parameters.set_bound("b", (0.5, 0.9))
    assert parameters.get_bounds()["b"] == (0.2, 0.4)
    with pytest.raises(BoundaryError, match="invalid bounds"):
        ToyParameters(parameters={"b": entry(0.3, 1.0, 0.0)})
    with pytest.raises(BoundaryError, match=r"Other\.q has invalid value"):
        ToyParameters(parameters={"Other.q": 2.0})


def test_notation_and_unit():
    parameters = ToyParameters()
    parameters.set_notation("a", r"\alpha")
    parameters.set_unit("a", "%")
    assert parameters.values["a"]["notation"] == r"\alpha"
    assert parameters.values["a"]["unit"] == "%"
    assert "0.5 (%)" in str(parameters)


def test_tensors():
    tensors = ToyParameters().vectorize_parameters()
    assert set(tensors) == {"a", "b", "c", "w", "m", "Other_q", "D"}
    assert tensors["a"].shape == ()
    assert torch.equal(tensors["w"], torch.tensor([0.1, 0.2]))  # S1, S2: sorted, not as declared
    assert torch.equal(tensors["m"], torch.tensor([[0.0, 0.7], [0.0, 0.0]]))
    assert tensors["D"].shape == (2, 3)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    leaves = ToyParameters().to_nn_parameters()
    assert all(leaf.requires_grad and leaf.is_leaf for leaf in leaves.values())


@pytest.mark.parametrize("dtype", [torch.float64, "torch.float64", "float64"])
def test_dtype_is_the_models_choice(dtype):
    tensors = ToyParameters(hyperparameters={"dtype": dtype}).vectorize_parameters()
    assert all(tensor.dtype == torch.float64 for tensor in tensors.values())
    assert tensors["w"][0].item() == 0.1


def test_dtype_follows_torch():
    torch.set_default_dtype(torch.float64)
    try:
        assert ToyParameters().vectorize_parameters()["a"].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_names_that_collide_are_errors():
    class Colliding(ToyParameters):
        def get_default_parameters(self):
            return {**super().get_default_parameters(), "w": entry(0.1)}

    with pytest.raises(ValueError, match="share the tensor 'w'"):
        Colliding().vectorize_parameters()


def test_is_equal():
    assert ToyParameters().is_equal(ToyParameters())
    assert not ToyParameters().is_equal(ToyParameters(parameters={"b": 0.31}))
    assert not ToyParameters().is_equal(ToyParameters(data_parameters={"D": torch.zeros(2, 3)}))


def changed() -> ToyParameters:
    return ToyParameters(
        parameters={"b": 0.1 + 0.2},
        hyperparameters={"seed": 7, "requires_grad": True, "dtype": torch.float64},
        data_parameters={"D": torch.tensor([[0.1, 1.0, 0.0], [0.3, 1.0 / 3.0, 2.0]])},
    )


@pytest.mark.parametrize("form", ["json", "csv"])
def test_files_read_back_what_was_written(form: str, tmp_path: Path):
    before = changed()
    getattr(before, f"to_{form}")(tmp_path / f"p.{form}")
    after = getattr(ToyParameters, f"from_{form}")(tmp_path / f"p.{form}")
    assert after.is_equal(before)


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("name", get_available_models())
def test_files_of_every_model(name: str, form: str, tmp_path: Path):
    cls = get_model_classes(name).Parameters
    getattr(cls(), f"to_{form}")(tmp_path / f"p.{form}")
    assert getattr(cls, f"from_{form}")(tmp_path / f"p.{form}").is_equal(cls())


def test_csv_table(tmp_path: Path):
    table = changed().to_csv(tmp_path / "p.csv", sphinx_math=True)
    columns = ["Notation", "Unit", "Value", "Lower Bound", "Upper Bound", "ParameterType"]
    assert list(table.columns) == columns
    assert table.loc["a", "Notation"] == ":math:`p`"
    assert table.loc["sectors", "Value"] == ["H", "F"]
    assert ToyParameters.from_csv(tmp_path / "p.csv").is_equal(changed())


def test_csv_of_the_published_package(tmp_path: Path):
    """It writes lists and truth values as Python spells them."""
    changed().to_csv(tmp_path / "p.csv")
    text = (tmp_path / "p.csv").read_text()
    text = text.replace('"[""H"", ""F""]"', "\"['H', 'F']\"").replace(",true,", ",True,")
    assert "['H', 'F']" in text and ",True," in text
    (tmp_path / "p.csv").write_text(text)
    assert ToyParameters.from_csv(tmp_path / "p.csv").is_equal(changed())


def test_reading_runs_no_code(tmp_path: Path):
    changed().to_csv(tmp_path / "p.csv")
    ran = tmp_path / "ran"
    code = f"__import__('pathlib').Path('{ran}').touch()"
    text = (tmp_path / "p.csv").read_text().replace(",cpu,", f",{code},")
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(ValueError, match="torch knows no device"):
        ToyParameters.from_csv(tmp_path / "p.csv")
    assert not ran.exists()


def test_data_from_files(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    parameters = ToyParameters()
    (tmp_path / "D.csv").write_text(",x,y,z\nr,1,2,0\ns,0,0,0.5\n")
    parameters.load_data_parameters_from_directory(tmp_path)
    assert parameters["D"].tolist() == [[1.0, 2.0, 0.0], [0.0, 0.0, 0.5]]
    (tmp_path / "D.csv").write_text(",x\nr,1\n")
    with pytest.raises(ValueError, match="Shape mismatch for data parameter 'D'"):
        parameters.load_data_parameter_from_file("D", tmp_path / "D.csv")
    with pytest.raises(KeyError, match="'E' not found"):
        parameters.load_data_parameter_from_file("E", tmp_path / "D.csv")
    with pytest.raises(FileNotFoundError):
        parameters.load_data_parameters_from_directory(tmp_path, {"D": "absent.csv"})
    (tmp_path / "D.csv").unlink()
    parameters.load_data_parameters_from_directory(tmp_path)
    assert "File not found for data parameter 'D'" in caplog.text
