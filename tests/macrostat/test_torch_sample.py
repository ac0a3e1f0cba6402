"""Samplers: files as published, runs as one by one, nothing unsampled changes, nothing is lost."""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from core_cases import Toy, ToyBehavior
from scipy import stats

from macrostat.core import BoundaryError, ConstraintError, LinearConstraint
from macrostat.models import get_model, get_model_classes
from macrostat.sample import BaseSampler, SobolSampler
from macrostat.sample import _compiled as compiled
from macrostat.sample import _files as files
from macrostat.util.batchprocessing import parallel_processor, pool_context, timeseries_worker

SIM_BOUNDS = {"TaxRate": (0.1, 0.3), "PropensityToConsumeIncome": (0.4, 0.8)}
EPS = float(torch.finfo(torch.float32).eps)


def sim(**kwargs: Any) -> Any:
    return get_model("GL06SIM")(**kwargs)


def read(path: Path | str) -> Any:
    return pd.read_csv(path, header=[0, 1], index_col=[0, 1])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def one_by_one(model: Any, points: pd.DataFrame, scenario: Any = 0) -> Any:
    """The oracle: a model of its own for each point, simulated."""
    frames = {}
    for name in points.index:
        twin = copy.deepcopy(model)
        for parameter, value in points.loc[name].items():
            twin.parameters[parameter] = value
        twin.simulate(scenario)
        frames[name] = twin.variables.to_pandas()
    return pd.concat(frames, names=["ID", "time"])


class Given(BaseSampler):
    """A sampler at points that it is given."""

    def __init__(self, model: Any, points: dict[str, list[float]], **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.given = pd.DataFrame(points)

    def generate_parameters(self) -> pd.DataFrame:
        return self.given


# Points


def test_points_are_scipys_sobol_sequence(tmp_path):
    sampler = SobolSampler(sim(), SIM_BOUNDS, sample_power=3, sobol_seed=5, output_folder=tmp_path)
    unit = stats.qmc.Sobol(2, rng=5).random_base2(3)
    points = sampler.generate_parameters()
    assert list(points.columns) == list(SIM_BOUNDS) and list(points.index) == list(range(8))
    expected = stats.qmc.scale(unit, [0.1, 0.4], [0.3, 0.8])
    np.testing.assert_allclose(points, expected, rtol=1e-15)


def test_logspace_of_either_sign(tmp_path):
    bounds = {"TaxRate": (0.01, 1.0)}
    points = SobolSampler(
        sim(), bounds, 4, logspace=True, output_folder=tmp_path
    ).generate_parameters()
    unit = stats.qmc.Sobol(1, rng=0).random_base2(4)[:, 0]
    np.testing.assert_allclose(points["TaxRate"], 10 ** (2 * unit - 2), rtol=1e-13)
    negative = {"WealthShareBills_Income": (-10.0, -0.1)}
    sampler = SobolSampler(
        get_model("GL06PC")(), negative, 4, logspace=True, output_folder=tmp_path
    )
    np.testing.assert_allclose(sampler.generate_parameters(), -(10 ** (1 - 2 * unit[:, None])))


def test_all_free_parameters_by_default(tmp_path):
    sampler = SobolSampler(Toy(), output_folder=tmp_path)
    assert list(sampler.bounds) == ["a", "b", "S2.w", "S1.w", "S1.S2.m", "Other.q"]
    assert sampler.sample_power == 10 and sampler.sobol_seed == 0 and sampler.cpu_count == 1
    with pytest.raises(NotImplementedError, match="should be implemented in a subclass"):
        BaseSampler(Toy(), output_folder=tmp_path).sample()


@pytest.mark.parametrize(
    ("bounds", "logspace", "message"),
    [
        ({"X": (0, 1)}, False, "Parameter X not in the model's parameters"),
        ({"timesteps": (1, 10)}, False, "Parameter timesteps not in the model's parameters"),
        ({"a": (0, 0.5, 1)}, False, "list-like of length 2. a: "),
        ({"a": (0.3, 0.1)}, False, "smaller than the upper bound. a"),
        ({"a": (0.1, float("inf"))}, False, "finite.* a"),
        ({"a": (-0.1, 0.1)}, True, "both positive or both negative. a"),
        ({"a": (0.0, 0.1)}, True, "cannot be zero when using logspace. a"),
        ({"c": (0.1, 0.2)}, False, "Parameter c is derived by a constraint"),
    ],
)
def test_bounds_that_cannot_be_sampled(tmp_path, bounds, logspace, message):
    with pytest.raises(ValueError, match=message):
        SobolSampler(Toy(), bounds, logspace=logspace, output_folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpu_count": 0}, "cpu_count must be at least 1"),
        ({"batchsize": 0}, "batchsize must be at least 1"),
        ({"sample_power": -1}, "sample_power must be a whole number"),
        ({"sample_power": 2.5}, "sample_power must be a whole number"),
        ({"output_filetype": "xls"}, "Invalid output filetype: xls"),
        ({"output_compression": "rar"}, "Unrecognized compression type"),
    ],
)
def test_arguments_that_cannot_hold_are_refused_before_anything_runs(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        SobolSampler(sim(), output_folder=tmp_path, **arguments)


@pytest.mark.parametrize(
    ("points", "error", "message"),
    [
        ({"X": [0.1]}, KeyError, "Parameter 'X' not found"),
        ({"TaxRate": []}, ValueError, "no points"),
        ({"TaxRate": [np.nan]}, ValueError, "must be finite"),
        (
            {"TaxRate": [0.2, 0.5]},
            BoundaryError,
            r"TaxRate has invalid value: 0.5 \(bounds: 0.1, 0.3",
        ),
        ({"PropensityToConsumeSavings": [7.0]}, BoundaryError, "PropensityToConsumeSavings"),
    ],
)
def test_points_that_cannot_be_run(tmp_path, points, error, message):
    sampler = Given(sim(), points, bounds=SIM_BOUNDS, output_folder=tmp_path)
    with pytest.raises(error, match=message):
        sampler.sample()
    assert not list(tmp_path.iterdir())


# Files


def test_files_are_laid_out_as_published(tmp_path):
    sampler = SobolSampler(sim(), sample_power=2, batchsize=3, output_folder=tmp_path / "new")
    assert sampler.sample() is None
    names = {"outputs_0.csv", "outputs_1.csv", "parameters_0.csv", "parameters_1.csv"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names | {"manifest.json"}
    lines = (tmp_path / "new" / "outputs_1.csv").read_text().splitlines()
    assert lines[0].startswith(",,ConsumptionDemand,") and lines[0].endswith(",NationalIncome")
    assert lines[1].startswith(",,Household,") and lines[1].endswith(",Macroeconomy")
    assert lines[2] == "ID,time" + "," * 14 and lines[3].startswith("3,0,")
    assert len(lines) == 3 + 101
    header, row = (tmp_path / "new" / "parameters_1.csv").read_text().splitlines()
    assert header == "id,TaxRate,PropensityToConsumeIncome,PropensityToConsumeSavings"
    assert row.split(",")[1:] == [repr(float(x)) for x in sampler.points.loc[3]]


def test_batches_are_parts_of_one_table(tmp_path):
    for size, folder in ((None, "one"), (3, "three")):
        arguments: Any = {"batchsize": size, "output_folder": tmp_path / folder}
        SobolSampler(sim(), SIM_BOUNDS, sample_power=3, **arguments).sample()
    parts = [read(tmp_path / "three" / f"outputs_{i}.csv") for i in range(3)]
    assert [len(part) for part in parts] == [303, 303, 202]
    pd.testing.assert_frame_equal(pd.concat(parts), read(tmp_path / "one" / "outputs_0.csv"))


def test_in_memory(tmp_path):
    points = {"TaxRate": [0.1, 0.2, 0.3]}
    sampler = Given(sim(), points, save_to_disk=False, batchsize=2, output_folder=tmp_path)
    found = sampler.sample()
    assert found is not None and found.index.names == ["batch", "ID", "time"]
    assert found.index[-1] == (1, 2, 100) and set(found.dtypes) == {np.dtype("float32")}
    assert {path.name for path in tmp_path.iterdir()} == {"parameters_0.csv", "parameters_1.csv"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_read_back_as_they_are(tmp_path, dtype):
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((200, 5)) * 10.0 ** rng.integers(-30, 30, (200, 5))).astype(dtype)
    values[:, 1] = np.arange(200)
    values[3, 2], values[4, 2], values[5, 1] = np.nan, np.inf, -np.inf
    values[:, 4] = 0
    index = pd.MultiIndex.from_product([[5, 3], range(100)], names=["ID", "time"])
    table = pd.DataFrame(values, index, pd.MultiIndex.from_product([["v"], [*"abcd", 7]]))
    files.write(table, tmp_path / "x.csv", "csv", None)
    table.to_csv(tmp_path / "pandas.csv")
    ours, pandas = (
        pd.read_csv(tmp_path / name, header=[0, 1], index_col=[0, 1])
        for name in ("x.csv", "pandas.csv")
    )
    assert ours.index.equals(pandas.index) and ours.columns.equals(pandas.columns)
    assert set(ours.dtypes) == {np.dtype("float64")}
    np.testing.assert_array_equal(ours.to_numpy().astype(dtype), values)
    lines = [(tmp_path / name).read_text().splitlines()[:3] for name in ("x.csv", "pandas.csv")]
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("filetype", "compression"), [("csv", "gzip"), ("parquet", None), ("parquet", "gzip")]
)
def test_other_kinds_of_files(tmp_path, filetype, compression):
    if filetype == "parquet":
        pytest.importorskip("pyarrow")
    arguments: Any = {"output_filetype": filetype, "output_compression": compression}
    model = get_model("LINEAR2D")()
    bounds = {next(iter(model.parameters.values)): (0.1, 0.2)}
    sampler = SobolSampler(model, bounds, 1, output_folder=tmp_path, **arguments)
    sampler.sample()
    path = tmp_path / f"outputs_0.{filetype}"
    if filetype == "parquet":
        found = pd.read_parquet(path)
    else:
        found = pd.read_csv(path, header=[0, 1], index_col=[0, 1], compression="gzip")
    columns_close(found, _as_read(one_by_one(model, sampler.points)))


def test_parquet_takes_labels_that_are_no_text(tmp_path):
    pytest.importorskip("pyarrow")
    columns = pd.MultiIndex.from_tuples([("State", 0), ("State", 1)])
    files.write(pd.DataFrame(np.eye(2), columns=columns), tmp_path / "x", "parquet", None)
    assert list(pd.read_parquet(tmp_path / "x").columns) == [("State", "0"), ("State", "1")]


def test_a_missing_library_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "fastparquet", None)
    with pytest.raises(ImportError, match="pyarrow"):
        SobolSampler(sim(), output_folder=tmp_path, output_filetype="parquet")


# Runs


def columns_close(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Equal to float32 rounding, at the scale of each column."""
    assert found.index.equals(expected.index) and found.columns.equals(expected.columns)
    scale = expected.abs().max().to_numpy()
    gaps = (found.to_numpy() - expected.to_numpy()) / np.where(scale == 0, 1, scale)
    assert np.abs(gaps).max() <= 4 * EPS


@pytest.mark.parametrize("name", ["GL06SIM", "GL06PC", "IOPC"])
def test_runs_are_those_of_the_model_at_each_point(tmp_path, name):
    model = get_model(name)(hyperparameters={"timesteps": 30})
    values = list(model.parameters.values.items())[:4]
    bounds = {k: (i["value"] * 0.98, i["value"] * 1.02 + 1e-3) for k, i in values}
    sampler = SobolSampler(model, bounds, 2, output_folder=tmp_path)
    sampler.sample()
    columns_close(read(tmp_path / "outputs_0.csv"), _as_read(one_by_one(model, sampler.points)))


def _as_read(table: pd.DataFrame) -> pd.DataFrame:
    """Labels as a CSV file has them: text."""
    labels = [tuple(map(str, label)) for label in table.columns]
    return table.set_axis(pd.MultiIndex.from_tuples(labels), axis=1)


def test_what_is_not_sampled_keeps_its_value(tmp_path):
    model = sim(parameters={"TaxRate": 0.35}, hyperparameters={"timesteps": 25})
    model.scenarios.add_scenario({"GovernmentDemand": 40.0}, name="more")
    arguments: Any = {"simulation_args": ("more",), "output_folder": tmp_path}
    sampler = SobolSampler(model, {"PropensityToConsumeIncome": (0.5, 0.6)}, 2, **arguments)
    sampler.sample()
    table = pd.read_csv(tmp_path / "parameters_0.csv", index_col="id")
    assert set(table["TaxRate"]) == {0.35}
    expected = one_by_one(model, sampler.points, "more")
    columns_close(read(tmp_path / "outputs_0.csv"), expected)
    assert not np.allclose(expected, one_by_one(model, sampler.points))


def test_the_model_stays_as_it_is(tmp_path):
    model = sim()
    model.simulate()
    before = copy.deepcopy((model.parameters.values, dict(model.variables.timeseries)))
    SobolSampler(model, SIM_BOUNDS, 2, output_folder=tmp_path).sample()
    assert model.parameters.values == before[0]
    assert all(torch.equal(model.variables.timeseries[k], v) for k, v in before[1].items())


def test_bounds_of_the_sampler_may_exceed_those_of_the_model(tmp_path):
    bounds = {"PropensityToConsumeIncome": (0.9, 1.3)}
    SobolSampler(sim(), bounds, 3, output_folder=tmp_path).sample()
    table: Any = pd.read_csv(tmp_path / "parameters_0.csv")
    assert table["PropensityToConsumeIncome"].max() > 1.0


def test_results_have_the_dtype_of_the_model(tmp_path):
    model = sim(hyperparameters={"dtype": torch.float64, "timesteps": 20})
    points = {"TaxRate": [0.25]}
    found = Given(model, points, save_to_disk=False, output_folder=tmp_path).sample()
    assert found is not None and set(found.dtypes) == {np.dtype("float64")}
    np.testing.assert_allclose(found.loc[0], one_by_one(model, pd.DataFrame(points)), rtol=1e-14)


def test_ids_are_those_of_the_points(tmp_path):
    points = pd.DataFrame({"TaxRate": [0.1, 0.2]}, index=["low", "high"])
    sampler = SobolSampler(sim(), SIM_BOUNDS, output_folder=tmp_path)
    sampler.sample(points=points)
    assert list(read(tmp_path / "outputs_0.csv").index.levels[0]) == ["high", "low"]
    assert pd.read_csv(tmp_path / "parameters_0.csv")["id"].tolist() == ["low", "high"]


def test_constraints_hold_in_every_run(tmp_path):
    class Parameters(type(sim().parameters)):
        def get_constraints(self):
            names = ("PropensityToConsumeIncome", "PropensityToConsumeSavings")
            return (LinearConstraint(names, 1.0),)

    model = sim(parameters=Parameters())
    sampler = SobolSampler(model, SIM_BOUNDS, 2, output_folder=tmp_path)
    sampler.sample()
    table = pd.read_csv(tmp_path / "parameters_0.csv", index_col="id")
    np.testing.assert_allclose(
        table["PropensityToConsumeSavings"], 1 - table["PropensityToConsumeIncome"], rtol=1e-14
    )
    columns_close(read(tmp_path / "outputs_0.csv"), one_by_one(model, sampler.points))


def test_points_that_break_a_constraint_are_refused(tmp_path):
    points = {"a": [0.1, 0.6, 0.7], "b": [0.2, 0.6, 0.7]}
    with pytest.raises(ConstraintError, match="2 of 3 points would drive derived parameter 'c'"):
        Given(Toy(), points, output_folder=tmp_path).sample()


def test_more_runs_than_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("macrostat_jax.sample._chunks.CHUNK", {"cpu": 8})
    sampler = SobolSampler(sim(), SIM_BOUNDS, 5, output_folder=tmp_path)
    sampler.sample()
    some = sampler.points.iloc[[0, 7, 8, 31]]
    found = read(tmp_path / "outputs_0.csv")
    columns_close(found.loc[list(some.index)], one_by_one(sampler.model, some))


def test_tables_and_outputs_of_ones_own(tmp_path):
    class Sums(BaseSampler):
        def generate_parameters(self):
            return pd.DataFrame({"TaxRate": [0.1, 0.2]})

        def transform_outputs(self, raw_outputs, batch):
            assert [len(raw) for raw in raw_outputs] == [3, 3]
            return pd.DataFrame({i: f["NationalIncome"].sum() for i, _, f in raw_outputs}).T

    sampler = Sums(sim(), simulation_args=(0,), save_to_disk=False, output_folder=tmp_path)
    sums: Any = sampler.sample()
    expected = one_by_one(sim(), sampler.points)["NationalIncome"].groupby("ID").sum()
    np.testing.assert_allclose(sums, expected, rtol=1e-6)


def test_progress(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    SobolSampler(sim(), SIM_BOUNDS, 1, output_folder=tmp_path / "a").sample(verbose=True)
    assert "Sampling GL06SIM: a progress bar needs tqdm" in capsys.readouterr().err
    SobolSampler(sim(), SIM_BOUNDS, 1, output_folder=tmp_path / "b").sample()
    assert capsys.readouterr() == ("", "")


# Behaviors and workers of the user's own


TOY_POINTS: dict[str, list[float]] = {"a": [0.3, 0.5], "S1.w": [0.2, 0.4]}


def test_a_behavior_of_ones_own_keeps_data_and_constraints(tmp_path):
    model = Toy()
    model.parameters["D"] = torch.full((2, 3), 0.25)
    Given(model, TOY_POINTS, output_folder=tmp_path).sample()
    columns_close(
        read(tmp_path / "outputs_0.csv"), _as_read(one_by_one(model, pd.DataFrame(TOY_POINTS)))
    )
    table = pd.read_csv(tmp_path / "parameters_0.csv", index_col="id")
    np.testing.assert_allclose(table["c"], [0.4, 0.2], rtol=1e-14)
    assert not model.variables.timeseries


BehaviorGL06SIM: Any = get_model_classes("GL06SIM").Behavior


class Capped(BehaviorGL06SIM):
    def step(self, t, scenario, params=None, **kwargs):
        super().step(t, scenario, params)
        self.state["NationalIncome"] = self.state["NationalIncome"].clamp(max=60.0)


def last_income(task):
    """A worker of a user's own."""
    name, model, *arguments = task
    income = model.simulate(*arguments)["NationalIncome"][-1]
    return (name, *arguments, pd.DataFrame({"Income": income.numpy(), "pid": [os.getpid()]}))


def test_a_behavior_given_to_an_instance_is_the_one_that_runs(tmp_path):
    model = sim(behavior=Capped, hyperparameters={"timesteps": 20})
    points = {"TaxRate": [0.1, 0.2]}
    arguments: Any = {"save_to_disk": False, "output_folder": tmp_path}
    here = Given(model, points, **arguments).sample()
    assert here is not None and here["NationalIncome"].to_numpy().max() == 60.0
    elsewhere: Any = Given(model, points, cpu_count=2, **arguments).sample()
    pd.testing.assert_frame_equal(here, elsewhere)


def test_workers_of_ones_own_run_in_other_processes(tmp_path):
    points = {"TaxRate": [0.1, 0.2]}
    sampler = Given(sim(), points, worker_function=last_income, output_folder=tmp_path, batchsize=1)
    sampler.sample()
    found: Any = [pd.read_csv(tmp_path / f"outputs_{i}.csv") for i in range(2)]
    assert list(found[0].columns) == ["ID", "index1", "Income", "pid"]
    pids = {int(table["pid"][0]) for table in found}
    assert len(pids) == 1 and os.getpid() not in pids  # one process serves all batches
    expected = one_by_one(sim(), pd.DataFrame(points))["NationalIncome"].groupby("ID").last()
    incomes = [table["Income"][0] for table in found]
    np.testing.assert_allclose(incomes, expected.to_numpy()[:, 0], rtol=1e-6)


def dies(task):
    os._exit(3)


def fails(task):
    raise ArithmeticError(f"task {task}")


def test_workers_that_fail():
    with pytest.raises(ValueError, match="No tasks to process"):
        parallel_processor([])
    with pytest.raises(ValueError, match="cpu_count must be at least 1"):
        parallel_processor([1], fails, cpu_count=0)
    with pytest.raises(TypeError, match="top level of a module"):
        parallel_processor([1], lambda task: task)
    with pytest.raises(ArithmeticError, match="task 7"):
        parallel_processor([7], fails)
    with pytest.raises(RuntimeError, match="ended before its task did"):
        parallel_processor([1, 2], dies)


def test_pools_are_spawned():
    with pool_context(processes=1) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert type(pool._ctx).__name__ == "SpawnContext"
    model = sim(hyperparameters={"timesteps": 5})
    name, scenario, table = timeseries_worker(("me", model, 0))
    assert (name, scenario) == ("me", 0) and len(table) == 6


# Resuming


@pytest.fixture
def simulated(monkeypatch):
    """The numbers of points that were simulated."""
    counts: list[int] = []
    table = compiled.Runs.table

    def counted(self, index, advance):
        counts.append(len(index))
        return table(self, index, advance)

    monkeypatch.setattr(compiled.Runs, "table", counted)
    return counts


def sampled(folder: Path, model: Any = None, kind: Any = SobolSampler, **kwargs: Any) -> None:
    given = {"bounds": SIM_BOUNDS, "sample_power": 3, "batchsize": 3, **kwargs}
    kind(model or sim(), output_folder=folder, **given).sample()


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch, simulated):
    write = files.write

    def interrupted(table, path, *args):
        write(table, path, *args)
        if path.name == "outputs_1.csv":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sampled(tmp_path / "new")
    names = {"manifest.json", "parameters_0.csv", "outputs_0.csv", "parameters_1.csv"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    monkeypatch.setattr(files, "write", write)
    simulated.clear()
    sampled(tmp_path / "new")
    assert simulated == [3, 2]
    sampled(tmp_path / "whole")
    assert contents(tmp_path / "new") == contents(tmp_path / "whole")
    simulated.clear()
    sampled(tmp_path / "new")
    assert simulated == []


def test_a_torn_file_is_computed_again(tmp_path, simulated):
    sampled(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "outputs_2.csv").write_bytes(before["outputs_2.csv"][:-100])
    (tmp_path / "parameters_0.csv").unlink()
    simulated.clear()
    sampled(tmp_path)
    assert simulated == [3, 2] and contents(tmp_path) == before


def _with_another_default_scenario() -> Any:
    model = sim()
    model.scenarios.timeseries[0]["GovernmentDemand"] += 1.0
    return model


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"bounds": {**SIM_BOUNDS, "TaxRate": (0.1, 0.31)}}, "bounds.TaxRate: "),
        ({"sobol_seed": 1}, "sobol_seed: 0 there, 1 here"),
        ({"sample_power": 4}, "sample_power: 3 there, 4 here"),
        ({"batchsize": 4}, "batchsize: 3 there, 4 here"),
        ({"logspace": True}, "logspace: "),
        ({"output_compression": "gzip"}, "output_compression: None there, gzip here"),
        ({"simulation_args": (0,)}, "simulation_args"),
        ({"model": lambda: sim(parameters={"PropensityToConsumeSavings": 0.5})}, "parameters.Prop"),
        (
            {"model": lambda: sim(hyperparameters={"timesteps": 90})},
            "hyperparameters.timesteps: 100",
        ),
        ({"model": lambda: sim(hyperparameters={"dtype": torch.float64})}, "hyperparameters.dtype"),
        ({"model": lambda: sim(behavior=Capped)}, "code.behavior"),
        ({"model": lambda: get_model("GL06SIMEX")()}, "model: "),
        ({"model": _with_another_default_scenario}, "scenarios.Scenario.0.GovernmentDemand: "),
    ],
)
def test_a_folder_with_another_design_is_refused_by_name(tmp_path, change, named):
    sampled(tmp_path)
    before = contents(tmp_path)
    change = dict(change)
    model = change.pop("model", sim)()
    with pytest.raises(ValueError, match="results of another design") as error:
        sampled(tmp_path, model, **change)
    assert named in str(error.value)
    assert contents(tmp_path) == before


def test_changed_code_is_another_design(tmp_path):
    class First(ToyBehavior):
        def step(self, t, scenario, params):
            super().step(t, scenario, params)
            self.state["Y"] = self.state["Y"] * 1.0

    class Second(ToyBehavior):
        def step(self, t, scenario, params):
            super().step(t, scenario, params)
            self.state["Y"] = self.state["Y"] * 2.0

    Given(Toy(behavior=First), TOY_POINTS, output_folder=tmp_path).sample()
    Given(Toy(behavior=First), TOY_POINTS, output_folder=tmp_path).sample()
    with pytest.raises(ValueError, match=r"code\.behavior"):
        Given(Toy(behavior=Second), TOY_POINTS, output_folder=tmp_path).sample()
    changed = Toy(behavior=First)
    changed.parameters["D"] = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"data\.D"):
        Given(changed, TOY_POINTS, output_folder=tmp_path).sample()


def test_files_of_unknown_origin_are_left_alone(tmp_path):
    (tmp_path / "outputs_0.csv").write_text("precious")
    with pytest.raises(ValueError, match=r"unknown origin \(outputs_0.csv"):
        sampled(tmp_path)
    assert contents(tmp_path) == {"outputs_0.csv": b"precious"}


def test_the_manifest_says_what_the_files_are(tmp_path):
    sampled(tmp_path)
    design = json.loads((tmp_path / "manifest.json").read_text())["design"]
    assert design["model"].endswith("GL06SIM") and design["sobol_seed"] == 0
    assert design["bounds"]["TaxRate"] == [0.1, 0.3]
    assert design["parameters"] == {"PropensityToConsumeSavings": 0.4}
