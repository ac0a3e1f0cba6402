"""Files of parameters, scenarios, variables and models: they read back, or say why not."""

from __future__ import annotations

import json
import math
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from core_cases import Toy, ToyParameters, ToyScenarios, entry

from macrostat.core import BoundaryError, Model, Parameters, Scenarios, Variables
from macrostat.models import get_available_models, get_model, get_model_classes
from macrostat_jax import stochastic

openpyxl = pytest.importorskip("openpyxl")
pytest.importorskip("pyarrow")

FORMS = ("json", "csv", "excel", "parquet")
PARTS = ("parameters", "scenarios", "variables")

SETTINGS: dict[str, Any] = {
    "a float": 5.0,
    "an int": 5,
    "a large int": 2**70,
    "a tiny float": 5e-324,
    "17 digits": 0.1 + 0.2,
    "infinite": -math.inf,
    "none": None,
    "true": True,
    "text": "sigmoid",
    "no text": "",
    "text of a number": "5",
    "text of a list": "[1, 2]",
    "text of None": "None",
    "text of a dtype": "torch.float32",
    "formula": "=1+1",
    "lines": "one\r\ntwo\t",
    "quotes": "\"a\" 'b', c",
    "tuple": (1, (2.0, "x")),
    "list": ["H", ["F"], None],
    "set": {1, 2},
    "dict": {"a": (1, 2), "b": {"c": 0.1}},
    "other keys": {1: "x", ("H", "F"): [0.5]},
    "a relaxation": stochastic.GumbelSoftmax(0.1 + 0.2, hard=False),
    "another one": stochastic.StraightThrough(),
    "dollars": {"$tuple": 1},
    "dtype": torch.float64,
    "a device": torch.device("cpu"),
    "tensor": torch.tensor([[1, 2]], dtype=torch.int32),
    "array": np.array([[0.1, np.inf]], dtype=np.float32),
}


class Rich(ToyParameters):
    """Settings of all kinds, data of several shapes and dtypes."""

    def get_default_hyperparameters(self):
        return super().get_default_hyperparameters() | dict.fromkeys(SETTINGS)

    def get_default_data_parameters(self):
        return {
            **super().get_default_data_parameters(),
            "scalar": {"value": torch.tensor(0.25), "unit": "$", "notation": "\\pi"},
            "cube": {"value": torch.zeros(2, 3, 2, dtype=torch.float64), "lower_bound": -math.inf},
            "counts": {"value": torch.zeros(2, dtype=torch.int64), "upper_bound": 2**62},
            "flags": {"value": torch.zeros(3, dtype=torch.bool)},
        }


def rich() -> Rich:
    generator = torch.Generator().manual_seed(0)
    found = Rich(
        parameters={
            "b": {"value": 0.1 + 0.2, "notation": '"b" & =1', "unit": " %", "source": ["p. 3", 7]},
            "a": {"lower bound": -math.inf, "notation": ":math:`a`", "unit": ""},
        },
        hyperparameters=SETTINGS,
        data_parameters={
            "D": torch.rand(2, 3, generator=generator),
            "cube": torch.randn(2, 3, 2, generator=generator, dtype=torch.float64),
            "counts": torch.tensor([2**60 + 1, -3]),
            "flags": torch.tensor([True, False, True]),
        },
    )
    found.set_notation("Other.q", "")
    return found


def assert_equal(a: Any, b: Any) -> None:
    """Equal in value and type, down to the sign of zero and the dtype."""
    assert type(a) is type(b), (a, b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
        if a.is_floating_point():
            assert torch.equal(a.signbit() & ~a.isnan(), b.signbit() & ~b.isnan())
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and np.array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_equal(left, right)
    else:
        assert a == b or (a != a and b != b)


def write(part: Any, form: str, path: Path) -> Path:
    getattr(part, f"to_{form}")(path)
    return path


def read(part: Any, form: str, path: Path) -> Any:
    arguments = {} if isinstance(part, Parameters) else {"parameters": part.parameters}
    return getattr(type(part), f"from_{form}")(path, **arguments)


def again(part: Any, form: str, folder: Path) -> Any:
    return read(part, form, write(part, form, folder / f"file.{form}"))


def assert_same_part(before: Any, after: Any) -> None:
    if isinstance(before, Parameters):
        assert_equal(after.values, before.values)
        assert_equal(after.hyper, before.hyper)
        assert_equal(after.data, before.data)
    elif isinstance(before, Scenarios):
        assert_equal(after.timeseries, before.timeseries)
        for number, info in before.info.items():
            assert list(after.info[number]["Index"]) == list(info["Index"])
            assert after.info[number]["Name"] == info["Name"]
            assert after.info[number]["Colour"] == info["Colour"]
        assert after.calibration_variables == before.calibration_variables
    else:
        assert_equal(after.info, before.info)
        assert_equal(after.gather_timeseries(), before.gather_timeseries())


def simulated() -> Toy:
    model = Toy(parameters={"b": 0.1 + 0.2})
    model.scenarios.add_scenario({"G": [30, 0.1]}, name='more, "or" less')
    model.simulate(1)
    return model


# What is written is read ----------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_parameters_of_all_kinds(form: str, tmp_path: Path):
    before = rich()
    assert_same_part(before, again(before, form, tmp_path))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scenarios(form: str, dtype: torch.dtype, tmp_path: Path):
    class Wide(ToyScenarios):
        def get_default_scenario_values(self):
            return {"G": 20, "D": torch.ones(3), "E": torch.ones(2, 2)}

    s = Wide(ToyParameters(hyperparameters={"dtype": dtype}), calibration_variables=["D"])
    dates = pd.date_range("2020-01-31 12:30", periods=3, freq="ME")
    for index in (
        dates,
        dates.tz_localize("UTC"),
        pd.period_range("2020Q1", periods=3, freq="Q"),
        pd.Index(["I", "II", "5"]),
        pd.Index([0.5, 1.0, -0.0]),
        pd.timedelta_range("1h", periods=3),
    ):
        values = np.array([0.1, -0.0, 1e-30]) / 3
        s.add_scenario({"G": pd.Series(values, index=index)}, name=str(index.dtype))
    s.add_scenario({"D": torch.rand(4, 3), "E": torch.tensor([[1e-300, 0.1], [1, 2]])})
    assert_same_part(s, again(s, form, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_variables_of_all_dtypes(form: str, tmp_path: Path):
    numbers = torch.tensor([0.1, -0.0, math.nan, math.inf, 1 / 3, 1e-30], dtype=torch.float64)
    series = {
        "Double": numbers[:, None],
        "Single": numbers.float()[:, None],
        "Half": numbers.half()[:, None],
        "Brain": numbers.bfloat16().reshape(3, 2),
        "Count": torch.tensor([[2**60 + 1], [-3]]),
        "Flag": torch.tensor([[True, False], [False, True]]),
        "Flat": torch.arange(6.0),
        "Cube": torch.rand(6, 2, 3, generator=torch.Generator().manual_seed(0)),
        "é; [0]": torch.ones(2, 1),
        "FileFormat": torch.ones(1, 1),
    }
    info: dict[str, Any] = {name: {"history": 0, "sectors": ["H"]} for name in series}
    info["Flag"] |= {"sectors": ["H", "F"], "sfc": [("Asset", "H"), ("Liability", ("F", "K"))]}
    info["Cube"] = {"sectors": [2, 3], "limits": (0.0, math.inf), "notation": 'x,\n"y"'}
    before = Variables(info, series, Parameters())
    assert_same_part(before, again(before, form, tmp_path))


@pytest.mark.parametrize("form", FORMS)
def test_no_results_yet(form: str, tmp_path: Path):
    before = Toy().variables
    assert_same_part(before, again(before, form, tmp_path))


@pytest.mark.parametrize("name", get_available_models())
def test_every_model(name: str, tmp_path: Path):
    classes = get_model_classes(name)
    small = {"n_agents": 3, "n_firms": 3}
    hyper = classes.Parameters().hyper
    settings = {key: value for key, value in small.items() if key in hyper} | {"timesteps": 5}
    parameters = classes.Parameters(hyperparameters=settings | {"scenario_trigger": 2})
    scenarios = classes.Scenarios(parameters=parameters)
    variables = classes.Variables(parameters=parameters)
    generator = torch.Generator().manual_seed(0)
    shapes = {key: (6, *variables.shape(key)) for key in variables.info}
    variables.set_timeseries({k: torch.rand(s, generator=generator) for k, s in shapes.items()})
    for part in (parameters, scenarios, variables):
        for form in FORMS:
            assert_same_part(part, again(part, form, tmp_path))


def test_the_tables_are_for_pandas_too(tmp_path: Path):
    model = simulated()
    variables = model.variables.to_pandas()
    model.variables.to_csv(tmp_path / "v.csv")
    model.variables.to_excel(tmp_path / "v.xlsx")
    model.variables.to_parquet(tmp_path / "v.parquet")
    for table in (
        pd.read_csv(tmp_path / "v.csv", skiprows=1, index_col=0),
        pd.read_excel(tmp_path / "v.xlsx", index_col=0),
        pd.read_parquet(tmp_path / "v.parquet").set_index("time"),
    ):
        assert list(table.columns[:3]) == ["Y", "W[S1]", "W[S2]"]
        np.testing.assert_allclose(table["W[S2]"], variables["W", "S2"], rtol=1e-6)
    model.scenarios.to_excel(tmp_path / "s.xlsx")
    table = pd.read_excel(tmp_path / "s.xlsx")
    assert list(table.columns[:3]) == ["Scenario", "Period", "G"]
    assert table["G"].tolist()[-7:] == [30.0, 0.1, *[20.0] * 5]


def test_a_workbook_can_be_edited(tmp_path: Path):
    path = write(rich(), "excel", tmp_path / "p.xlsx")
    book = openpyxl.load_workbook(path)
    rows = {row[0].value: row for row in book["Parameters"]}
    assert rows["formula"][3].data_type == "s"  # a text, not something that Excel computes
    rows["Other.q"][3].value = 1
    rows["an int"][3].value = 6
    book["D"]["A1"].value = 2
    book.save(path)
    after = Rich.from_excel(path)
    assert after["Other.q"] == 1.0 and after["an int"] == 6 and after["D"][0, 0] == 2.0


def test_a_model_from_its_files(tmp_path: Path):
    before = simulated()
    before.to_json(tmp_path / "toy")
    before.save(tmp_path / "toy.json")
    for after in (Toy.from_json(tmp_path / "toy"), Toy.load(tmp_path / "toy.json")):
        for part in PARTS:
            assert_same_part(getattr(before, part), getattr(after, part))


def test_files_say_what_they_are(tmp_path: Path):
    model = simulated()
    model.save(tmp_path / "m.json")
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["FileFormat"] == {"Kind": "Model", "Version": 1}
    for part in PARTS:
        assert found[part]["FileFormat"] == {"Kind": part.title(), "Version": 1}


# What is not read -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part", PARTS)
def test_other_files_are_refused(part: str, form: str, tmp_path: Path):
    model = simulated()
    cls = getattr(Toy, f"{part}_class")
    arguments = {} if part == "parameters" else {"parameters": model.parameters}
    path = tmp_path / f"it.{form}"
    reader = getattr(cls, f"from_{form}")
    for other in PARTS:
        if other != part:
            write(getattr(model, other), form, path)
            with pytest.raises(ValueError, match=f"it.{form}: "):
                reader(path, **arguments)
    write(getattr(model, part), form, path)
    whole = path.read_bytes()
    for content in (b"", b"\x80\x04N.", b"PK\x03\x04", b"[" * 100_000, b"\xff\xfe\x00,", b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"it.{form}"):
            reader(path, **arguments)
    for share in range(1, 20):
        path.write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(ValueError, match=f"it.{form}"):
            reader(path, **arguments)
    with pytest.raises(FileNotFoundError):
        reader(tmp_path / "absent", **arguments)


def test_tables_that_lost_rows(tmp_path: Path):
    """A text that ends with a row looks whole, and is not."""
    model = simulated()
    for part in PARTS:
        path = write(getattr(model, part), "csv", tmp_path / f"{part}.csv")
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
        with pytest.raises(ValueError, match=r"rows|periods"):
            read(getattr(model, part), "csv", path)


def change(path: Path, *keys: Any, to: Any) -> None:
    content = json.loads(path.read_text())
    target = content
    for key in keys[:-1]:
        target = target[key]
    if to is None:
        del target[keys[-1]]
    else:
        target[keys[-1]] = to
    path.write_text(json.dumps(content))


P, H, D = "Parameters", "HyperParameters", "DataParameters"
BROKEN: list[tuple[str, tuple, Any, type[Exception], str]] = [
    ("parameters", ("FileFormat",), {"Kind": P, "Version": 2}, ValueError, "version 2"),
    ("parameters", ("FileFormat",), 1, ValueError, "'Kind' and a 'Version'"),
    ("parameters", (P,), None, ValueError, "entry 'Parameters' is missing"),
    ("parameters", (P,), [1], ValueError, "'Parameters' must be an object"),
    ("parameters", (P, "zz"), entry(0.5), KeyError, "'zz' not found"),
    ("parameters", (P, "b", "value"), "x", ValueError, "parameter 'b': 'value' must be a number"),
    ("parameters", (P, "Other.q", "value"), 7, BoundaryError, "q has invalid value: 7"),
    ("parameters", (P, "b", "lower bound"), 2, BoundaryError, "b has invalid bounds"),
    ("parameters", (P, "b", "unit"), 2, ValueError, "'b': 'unit' must be a text"),
    ("parameters", (H, "zz"), 1, KeyError, "'zz' not found"),
    ("parameters", (H, "timesteps"), -1, ValueError, "'timesteps' must be an integer"),
    ("parameters", (H, "seed"), {"$code": "x"}, ValueError, "no value that macrostat writes"),
    ("parameters", (H, "device"), "os.system", ValueError, "knows no device 'os.system'"),
    ("parameters", (D, "D", "dtype"), "torch.load", ValueError, "'torch.load' is no dtype"),
    ("parameters", (D, "D", "value"), [[1], [1, 2]], ValueError, "'D' must be nested lists"),
    ("parameters", (D, "D", "value"), [[3.0] * 3] * 2, BoundaryError, "above upper bound"),
    ("scenarios", ("ScenarioDetails", "1", "Name"), 3, ValueError, "scenario 1: 'Name' must be"),
    ("scenarios", ("ScenarioDetails", "1", "Index"), 3, ValueError, "'Index' must be a list"),
    ("scenarios", ("ScenarioDetails", "1", "IndexType"), "code", ValueError, "no 'IndexType'"),
    ("scenarios", ("ScenarioDetails", "x"), {}, ValueError, "'x' is no number of a scenario"),
    ("scenarios", ("ScenarioDetails", "1"), None, ValueError, "nothing on Scenario.1"),
    ("scenarios", ("Scenario.1",), None, ValueError, "entry 'Scenario.1' is missing"),
    ("scenarios", ("Scenario.1", "G"), [1.0], ValueError, "'G' has 1 periods in the file"),
    ("scenarios", ("Scenario.1", "G"), "x", ValueError, "scenario 1: 'G' must be nested lists"),
    ("scenarios", ("Scenario.1", "G"), [[1, 2]] * 12, ValueError, r"rows of shape \(1,\)"),
    ("scenarios", ("Scenario.1", "Z"), [1.0], KeyError, "Key Z not found"),
    ("scenarios", ("CalibrationVariables",), "G", ValueError, "must be a list of names"),
    ("variables", ("Y", "info"), None, ValueError, "entry 'info' is missing"),
    ("variables", ("Y", "info", "history"), "x", ValueError, "'Y': 'history' must be"),
    ("variables", ("Y", "info", "sectors"), {"a": 1}, ValueError, "'Y': 'sectors' must be"),
    ("variables", ("Y", "info", "sfc"), 1, ValueError, "'Y': 'sfc' must be"),
    ("variables", ("Y", "timeseries"), 1.0, ValueError, "must have a row per time"),
    ("variables", ("Y", "dtype"), "torch.int64", ValueError, "must be whole numbers"),
    ("variables", ("Y", "timeseries"), ["a"], ValueError, "'timeseries' must be nested lists"),
]


@pytest.mark.parametrize(("part", "keys", "to", "kind", "message"), BROKEN)
def test_broken_json(part: str, keys: tuple, to: Any, kind: Any, message: str, tmp_path: Path):
    """The error has the documented type and names the file, the thing and the rule."""
    model = simulated()
    path = write(getattr(model, part), "json", tmp_path / "broken.json")
    change(path, *keys, to=to)
    with pytest.raises(kind, match=rf"broken\.json: .*{message}"):
        read(getattr(model, part), "json", path)
    model.save(path)
    change(path, part, *keys, to=to)
    with pytest.raises(kind, match=rf"broken\.json: .*{message}"):
        Toy.load(path)


TABLES: list[tuple[str, str, str, str]] = [
    ("parameters", "b,p,.,0.3", "b,p,.,x", "'b': 'Value' must be a number"),
    ("parameters", ",DataParameter", ",Thing", "unknown ParameterType 'Thing'"),
    ("parameters", "D,,", "../D,,", "'../D': no file can have that name"),
    ("parameters", "[2, 3]", "[2, 2]", "'D' has 6 numbers"),
    ("parameters", "[2, 3]", "[-2, -3]", "must be a list of whole numbers"),
    ("parameters", "Lower Bound", "Lower", "column 'Lower Bound' is missing"),
    ("parameters", "Other.q,", "a,", "'a' is repeated"),
    ("parameters", "a,p,.,0.5,", "a,p,.,0.5,0.5,", "fields"),
    ("scenarios", "# {", "{", "first line"),
    ("scenarios", "# {", "# {{", "this is no JSON"),
    ("scenarios", "0,3,20.0", "0,5,20.0", "the periods of scenario 0 must be 0 to 11"),
    ("scenarios", "0,3,20.0", "0,3,", "series 'G': a cell is empty"),
    ("scenarios", "0,3,20.0", "0,3,x", "series 'G' must be a number, not 'x'"),
    ("scenarios", "Period,G,", "Period,H,", "column 'G' is missing"),
    ("variables", '"shape": [13, 1]', '"shape": [14, 1]', "has 13 rows, 14 are declared"),
    ("variables", "time,Y", "time,Z", "column 'Y' is missing"),
]


@pytest.mark.parametrize(("part", "old", "new", "message"), TABLES)
def test_broken_tables(part: str, old: str, new: str, message: str, tmp_path: Path):
    model = simulated()
    path = write(getattr(model, part), "csv", tmp_path / "broken.csv")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"broken\.csv: .*{message}"):
        read(getattr(model, part), "csv", path)


def test_nothing_that_a_file_names_is_run(tmp_path: Path):
    path = tmp_path / "m.json"
    simulated().save(path)
    for name in ("os.system", "core_cases.Toy", "/tmp/evil.py", "__class__"):
        change(path, "model", to=name)
        with pytest.raises(ValueError, match="no model of the library"):
            Model.load(path)
        with pytest.raises(ValueError, match="not a Toy"):
            Toy.load(path)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the file was run",))


def test_pickles_are_refused_with_the_way_out(tmp_path: Path):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(Trap(), protocol))
        with pytest.raises(ValueError, match=r"m\.pkl"):
            Toy.load(tmp_path / "m.pkl")
    with pytest.raises(ValueError, match=r"to_json\('converted'\), and then here Toy.from_json"):
        Toy.load(tmp_path / "m.pkl")
    torch.save({"x": Trap()}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match="no JSON"):
        Toy.load(tmp_path / "m.pt")


# Writing --------------------------------------------------------------------------------------


def every_writer(model: Toy, folder: Path) -> dict[str, Callable[[], Any]]:
    found: dict[str, Any] = {
        f"{part}.{form}": lambda part=part, form=form: write(
            getattr(model, part), form, folder / f"{part}.{form}"
        )
        for part in PARTS
        for form in FORMS
    }
    found["model.json"] = lambda: model.save(folder / "model.json")
    found["info.csv"] = lambda: model.variables.info_to_csv(folder / "info.csv")
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_interrupted_writes_leave_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for writer in every_writer(simulated(), tmp_path).values():
        writer()
    before = contents(tmp_path)

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    for name, writer in every_writer(Toy(parameters={"b": 0.4}), tmp_path).items():
        with pytest.raises(KeyboardInterrupt):
            writer()
        assert contents(tmp_path) == before, name


def test_what_a_file_cannot_hold_is_refused_before_writing(tmp_path: Path):
    model = simulated()
    for writer in every_writer(model, tmp_path).values():
        writer()
    before = contents(tmp_path)
    model.parameters.hyper["sectors"] = object()
    model.variables.info["Y"]["note"] = object()
    for form in FORMS:
        with pytest.raises(TypeError, match="hyperparameter 'sectors': a file cannot hold <object"):
            write(model.parameters, form, tmp_path / f"parameters.{form}")
        with pytest.raises(TypeError, match="'Y': 'note': a file cannot hold"):
            write(model.variables, form, tmp_path / f"variables.{form}")
    with pytest.raises(TypeError, match="'sectors'"):
        model.save(tmp_path / "model.json")
    model.scenarios.timeseries[1].pop("G")
    for form in FORMS[1:]:
        with pytest.raises(ValueError, match="Scenario 1 has other series than scenario 0"):
            write(model.scenarios, form, tmp_path / f"scenarios.{form}")
    assert contents(tmp_path) == before


def test_a_folder_must_exist_and_links_stay(tmp_path: Path):
    model = simulated()
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        model.save(tmp_path / "absent" / "m.json")
    with pytest.raises(IsADirectoryError):
        model.save(tmp_path)
    (tmp_path / "link.json").symlink_to(tmp_path / "there.json")
    model.save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert Toy.load(tmp_path / "there.json").parameters.is_equal(model.parameters)


@pytest.mark.parametrize(("form", "library"), [("excel", "openpyxl"), ("parquet", "pyarrow")])
def test_a_missing_library(
    form: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write(ToyParameters(), form, tmp_path / "p")
    monkeypatch.setitem(sys.modules, library, None)
    for call in (
        lambda: ToyParameters().__getattribute__(f"to_{form}")(path),
        lambda: read(ToyParameters(), form, path),
    ):
        with pytest.raises(ImportError, match=rf"macrostat-jax\[{form}\]"):
            call()


def test_tables_too_large_for_excel(tmp_path: Path):
    info = {"x": {"sectors": [20_000]}}
    wide = Variables(info, {"x": torch.zeros(1, 20_000)}, Parameters())
    with pytest.raises(ValueError, match="Excel takes sheets of"):
        wide.to_excel(tmp_path / "v.xlsx")
    wide.to_parquet(tmp_path / "v.parquet")
    two = {"x": {"sectors": ["a", "b"]}, "x[a]": {"sectors": ["H"]}}
    clash = Variables(two, {"x": torch.zeros(1, 2), "x[a]": torch.zeros(1, 1)}, Parameters())
    with pytest.raises(ValueError, match=r"two columns|would be named 'x\[a\]'"):
        clash.to_csv(tmp_path / "v.csv")


def test_library_model_in_every_form(tmp_path: Path):
    """What a user does: keep a model, come back, go on."""
    model = get_model("GL06SIM")(parameters={"TaxRate": 0.3}, hyperparameters={"timesteps": 10})
    path = model.simulate()
    for form in FORMS:
        parameters = again(model.parameters, form, tmp_path)
        variables = again(model.variables, form, tmp_path)
        later = type(model)(parameters=parameters)
        assert_equal(later.simulate(), path)
        assert_equal(variables.timeseries, path)
        assert variables.check_health()
