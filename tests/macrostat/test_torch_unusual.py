"""Library models where torch is not as it usually is: other devices and modes, forked processes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest
import torch

from macrostat.core import Model
from macrostat.diff import (
    JacobianAutograd,
    JacobianNumerical,
    check_model_differentiability,
    diagnose,
)
from macrostat.estimation import LevenbergMarquardt, mse_loss
from macrostat.models import get_model, get_model_classes
from macrostat.sample import SobolSampler

SIZES: dict[str, dict[str, Any]] = {
    "GL06PC": {},
    "PichlerEtAl2022DIO": {},
    "Mark0COVID": {"N_firms": 8},
    "KirmansAnts": {"dt": 0.1, "substeps": 10},
    "RandomWalk": {},
}


def made(name: str = "GL06PC", behavior: Any = None) -> Any:
    hyper = {"timesteps": 6, **SIZES[name]}
    return get_model(name)(hyperparameters=hyper, behavior=behavior)


def eager() -> Any:
    base: Any = get_model_classes("GL06PC").Behavior

    class Eager(base):
        def step(self, t, scenario, params=None, **kwargs):
            super().step(t, scenario, params)

    return Eager


def income(output: dict[str, torch.Tensor]) -> torch.Tensor:
    return output["NationalIncome"][-1].square().sum()


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key].nan_to_num(), b[key].nan_to_num()) for key in a | b)


# Another default device -----------------------------------------------------------------------
# "meta" has no values: what would end up there is lost, as on a GPU it would be on the wrong device.


@pytest.mark.parametrize("name", SIZES)
def test_a_default_device_is_for_the_users_own_tensors(name: str):
    expected = made(name).simulate()
    with torch.device("meta"):
        found = made(name).simulate()
    assert same(found, expected)


@pytest.mark.parametrize("behavior", [None, eager()], ids=["library", "eager"])
def test_derivatives_under_a_default_device(behavior: Any):
    model = made(behavior=behavior)
    calls: list[Callable[[], Any]] = [
        lambda: JacobianAutograd(model).compute(income),
        lambda: JacobianAutograd(model).compute(income, mode="fwd"),
        lambda: JacobianNumerical(model).compute(income),
        lambda: JacobianNumerical(model).compute(lambda output: income(output).float()),
    ]
    for call in calls:
        expected = call()
        with torch.device("meta"):
            assert same(call(), expected)
    with torch.device("meta"):
        assert check_model_differentiability(model, income).passed


def fitted(target: dict[str, Any]) -> Any:
    model = made()
    model.parameters["TaxRate"] = 0.25
    loss = functools.partial(mse_loss, target=target, variables=["NationalIncome"])
    return LevenbergMarquardt(model, loss).optimize()


def test_results_and_files_under_a_default_device(tmp_path: Path):
    model = made()
    path = model.simulate()
    data = {name: values.numpy() for name, values in path.items()}
    with torch.device("meta"):
        assert model.variables.check_health()
        model.save(tmp_path / "model.json")
        loaded = Model.load(tmp_path / "model.json")
        assert same(loaded.variables.timeseries, path)
        for kind in ("parameters", "scenarios", "variables"):
            component = getattr(model, kind)
            component.to_csv(tmp_path / f"{kind}.csv")
            arguments = () if kind == "parameters" else (model.parameters,)
            type(component).from_csv(tmp_path / f"{kind}.csv", *arguments)
        sampler = SobolSampler(
            model, {"TaxRate": (0.1, 0.3)}, 1, save_to_disk=False, output_folder=tmp_path
        )
        table: Any = sampler.sample()
        assert np.isfinite(table.to_numpy(float)).all()
        found = fitted(data)
    assert found.residuals.device.type == "cpu"
    assert same(found.params, fitted(data).params)


# Inference mode -------------------------------------------------------------------------------


@pytest.mark.parametrize("behavior", [None, eager()], ids=["library", "eager"])
@pytest.mark.parametrize("mode", ["rev", "fwd"])
@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad])
def test_derivatives_where_torch_records_none(behavior: Any, mode: Any, context: Any):
    model = made(behavior=behavior)
    expected = JacobianAutograd(model).compute(income, mode=mode)
    assert expected["TaxRate"] != 0
    with context():
        assert same(JacobianAutograd(model).compute(income, mode=mode), expected)
        inside = made(behavior=behavior)
    assert same(JacobianAutograd(inside).compute(income, mode=mode), expected)


def test_a_fit_in_inference_mode():
    target = made().simulate()
    with torch.inference_mode():
        found = fitted(target)
    assert found.nit > 1
    assert same(found.params, fitted(target).params)


# Memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_are_contiguous_and_do_not_hold_each_other(dtype: torch.dtype):
    firms = 500
    hyper = {"timesteps": 4, "N_firms": firms, "dtype": dtype}
    model = get_model("Mark0COVID")(hyperparameters=hyper)
    industries = get_model("IOPC")(hyperparameters={"timesteps": 4, "dtype": dtype})
    for path in (
        model.simulate(),
        model.get_model_training_instance()(),
        industries.simulate(),
    ):
        assert all(values.is_contiguous() for values in path.values())
    unemployment = model.simulate()["Unemployment"]
    # That of all firms in one period is more than all aggregates in all periods.
    assert unemployment.untyped_storage().nbytes() < firms * dtype.itemsize


def test_health_is_judged_in_the_precision_of_the_results(tmp_path: Path):
    model = get_model("GL06PC")(hyperparameters={"timesteps": 60})
    model.simulate()
    model.save(tmp_path / "model.json")
    assert model.variables.check_health()
    torch.set_default_dtype(torch.float64)
    try:
        assert model.variables.check_health()
        assert Model.load(tmp_path / "model.json").variables.check_health()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_writing_into_one_output_leaves_the_graph_of_the_others(dtype: torch.dtype):
    """They travel in one tensor, and a script need not know."""
    model = get_model("GL06PC")(hyperparameters={"timesteps": 6, "dtype": dtype})

    def written(output: dict[str, torch.Tensor]) -> torch.Tensor:
        squares = output["NationalIncome"].square().sum()
        output["Taxes"][:3] = 0.0
        return squares + output["Taxes"].sum()

    def plain(output: dict[str, torch.Tensor]) -> torch.Tensor:
        return output["NationalIncome"].square().sum() + output["Taxes"][3:].sum()

    gradients = []
    for loss in (written, plain):
        behavior = model.get_model_training_instance()
        loss(behavior()).backward()
        gradients.append({name: p.grad for name, p in behavior.params.items()})
    assert same(*gradients)
    modes: tuple[Any, ...] = ("rev", "fwd")
    for mode in modes:
        found = [JacobianAutograd(model).compute(loss, mode=mode) for loss in (written, plain)]
        assert same(*found)


def test_batches_and_forward_mode_keep_the_batch(monkeypatch: pytest.MonkeyPatch):
    model = made()
    behavior = model.get_model_training_instance()

    def final(rate: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(behavior, {"params.TaxRate": rate}, ())["Wealth"][-1]

    rates = torch.tensor([0.2, 0.3])
    each = torch.stack([final(rate) for rate in rates])
    torch.testing.assert_close(torch.func.vmap(final)(rates), each)
    monkeypatch.delattr("macrostat.diff._compiled._one_by_one")
    assert JacobianAutograd(model).compute(income, mode="fwd")["TaxRate"] != 0


# Threads --------------------------------------------------------------------------------------


def test_draws_of_a_behavior_in_threads_are_those_of_its_seed():
    """Torch's generator is one for all threads."""
    base = eager()

    class Lucky(base):
        def step(self, t, scenario, params=None, **kwargs):
            super().step(t, scenario, params)
            self.state["NationalIncome"] = self.state["NationalIncome"] + torch.rand(1)

    expected, state = made(behavior=Lucky).simulate(), torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: made(behavior=Lucky).simulate(), range(12)))
    assert all(same(run, expected) for run in runs)
    assert torch.equal(torch.random.get_rng_state(), state)


# Forked processes -----------------------------------------------------------------------------


@forks.needed
def test_a_forked_process_says_so_instead_of_hanging():
    """The workers of a DataLoader are forks, and JAX's threads are not in them."""
    model = made()
    model.simulate()
    assert 'multiprocessing_context="spawn"' in forks.error_of(model.simulate)


# Classes with more in them than the model -----------------------------------------------------


def extended() -> Any:
    classes: Any = get_model_classes("GL06PC")

    class Parameters(classes.Parameters):
        def get_default_parameters(self):
            entry = {"value": 1.0, "lower bound": 0.0, "upper bound": 2.0}
            return super().get_default_parameters() | {"Extra": entry}

    class Variables(classes.Variables):
        def get_default_variables(self):
            return super().get_default_variables() | {"Mine": {"sectors": [3]}}

    parameters = Parameters(hyperparameters={"timesteps": 6})
    return classes.Model(parameters=parameters, variables=Variables(parameters=parameters))


def test_parameters_and_variables_that_the_equations_do_not_know(tmp_path: Path):
    """A declared variable that is never set is 0; a parameter that nothing reads has the derivative 0."""
    model = extended()
    path = model.simulate()
    assert path["Mine"].shape == (7, 3) and not path["Mine"].any()
    assert len(model.variables.to_pandas()) == 7
    both = JacobianAutograd(model).compute(income), JacobianNumerical(model).compute(income)
    for found in both:
        assert found["Extra"] == 0 and found["TaxRate"] != 0
    assert check_model_differentiability(model, income).passed
    vector = JacobianAutograd(model).compute(lambda output: output["Wealth"][:, 0])
    assert vector["Extra"].shape == (7,)
    bounds = {"Extra": (0.5, 1.5)}
    sampler = SobolSampler(model, bounds, 1, save_to_disk=False, output_folder=tmp_path)
    table: Any = sampler.sample()
    runs = table["NationalIncome"].to_numpy().reshape(2, 7)
    assert np.array_equal(runs[0], runs[1]) and np.array_equal(
        runs[0], path["NationalIncome"][:, 0].numpy()
    )


def around(variables: Any = None) -> Any:
    """A model of the user's own that has a library behavior: no class of the library's."""
    classes: Any = get_model_classes("GL06PC")
    parameters = classes.Parameters(hyperparameters={"timesteps": 6})
    return Model(
        parameters=parameters,
        scenarios=classes.Scenarios(parameters=parameters),
        variables=(variables or classes.Variables)(parameters=parameters),
        behavior=classes.Behavior,
    )


def test_a_model_of_ones_own_with_a_library_behavior(tmp_path: Path):
    model, right = around(), made()
    assert same(model.simulate(), right.simulate())
    assert same(JacobianAutograd(model).compute(income), JacobianAutograd(right).compute(income))
    assert same(JacobianNumerical(model).compute(income), JacobianNumerical(right).compute(income))
    assert check_model_differentiability(model, income).passed
    assert diagnose(model, lambda path: path.national_income[-1], wrt="tax_rate").passed
    bounds = {"TaxRate": (0.1, 0.3)}
    sampler = SobolSampler(model, bounds, 1, save_to_disk=False, output_folder=tmp_path)
    table: Any = sampler.sample()
    assert np.isfinite(table.to_numpy(float)).all()
    loss = functools.partial(mse_loss, target=right.simulate(), variables=["NationalIncome"])
    model.parameters["TaxRate"] = 0.25
    assert LevenbergMarquardt(model, loss).optimize().success


def test_variables_that_record_in_a_way_of_their_own_are_heeded():
    base: Any = get_model_classes("GL06PC").Variables

    class Ratios(base):
        def gather_timeseries(self):
            found = super().gather_timeseries()
            return found | {"Ratio": found["Wealth"] / (1.0 + found["NationalIncome"])}

    def ratio(output: dict[str, torch.Tensor]) -> torch.Tensor:
        return output["Wealth"][-1] / (1.0 + output["NationalIncome"][-1])

    def recorded(output: dict[str, torch.Tensor]) -> torch.Tensor:
        return output["Ratio"][-1]

    model = around(Ratios)
    torch.testing.assert_close(recorded(model.simulate()), ratio(made().simulate()))
    torch.testing.assert_close(
        dict(JacobianAutograd(model).compute(recorded)),
        dict(JacobianAutograd(made()).compute(ratio)),
    )
    assert JacobianNumerical(model).compute(recorded)["TaxRate"] != 0


# What scripts against the published package select by -----------------------------------------


def test_published_names_of_scenarios_find_them():
    model = get_model("GL06LP")()
    assert same(model.simulate("Scenario.2: Drop in alpha1"), model.simulate("Drop in alpha1"))
    with pytest.raises(ValueError, match=r"Scenario Scenario\.1: Drop in alpha1 not found"):
        model.simulate("Scenario.1: Drop in alpha1")


def test_columns_of_tables_that_have_numbers():
    hyper = {"timesteps": 3, "N_firms": 4}
    mark0 = get_model("Mark0COVID")(hyperparameters=hyper)
    path = mark0.simulate()
    table: Any = mark0.variables.to_pandas()
    assert list(table["Unemployment"]) == [0] and list(table["FirmPrice"]) == [0, 1, 2, 3]
    assert np.array_equal(table["Unemployment", 0], path["Unemployment"][:, 0].numpy())
    linear = get_model("LINEAR2D")()
    linear.simulate()
    assert list(linear.variables.to_pandas()["State"]) == [0, 1]


def test_details_of_a_check_have_the_published_entries():
    details = check_model_differentiability(made(), income).details
    assert details["autograd_rev"] == {"nan_or_inf": False}
    for name, gap in (
        ("autograd_fwd", "max_abs_diff_fwd_rev"),
        ("numerical", "max_abs_diff_autodiff_num"),
    ):
        assert details[name]["ok"] and details[name][gap] == details[name]["max_abs_diff"]
        assert details[name]["rel_err"] >= 0


# What is no model, and settings that are none -------------------------------------------------


def test_what_is_refused_by_name():
    cls = get_model("GL06PC")
    for of in (
        JacobianAutograd,
        JacobianNumerical,
        lambda model: LevenbergMarquardt(model, income),
    ):
        with pytest.raises(TypeError, match=r"must be an instance, GL06PC\(\), not the class"):
            of(cls)
    for dtype in (torch.int64, torch.bool, torch.complex64):
        with pytest.raises(ValueError, match=f"dtype must be of real numbers, not {dtype}"):
            cls(hyperparameters={"dtype": dtype})
    with pytest.raises(TypeError, match=r"an optimiser takes behavior\.params\.values\(\)"):
        made().get_model_training_instance().parameters()
    model = made()
    model.parameters.hyper["timesteps_initialization"] = 1.7  # not by []=, which would say so
    with pytest.raises(ValueError, match="'timesteps_initialization' must be an integer >= 0"):
        model.simulate()


def test_tables_of_a_precision_that_pandas_lacks():
    hyper = {"timesteps": 6, "dtype": torch.bfloat16}
    model = get_model("GL06PC")(hyperparameters=hyper)
    path = model.simulate()
    table = model.variables.to_pandas()["NationalIncome"].to_numpy()
    assert np.array_equal(table, path["NationalIncome"].float().numpy())
