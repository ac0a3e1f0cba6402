"""Losses and Levenberg-Marquardt on models: recovery, bounds, constraints, sectors, users' behaviors."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from core_cases import Toy
from diff_cases import default_dtype, own_model
from scipy import optimize

from macrostat.core import BoundaryError, LinearConstraint
from macrostat.diff import JacobianAutograd, JacobianNumerical
from macrostat.estimation import (
    EstimationResult,
    LevenbergMarquardt,
    composite_loss,
    mse_loss,
    weighted_residuals,
)
from macrostat.models import from_definition, get_model
from macrostat_jax import AddingUp, Axis, Model, Record, Scalar, Vector, exogenous, index, param

SECTORS = Axis("sector", ("S1", "S2"))


class Params(Record):
    carry: Scalar = param(0.5, bounds=(0, 1))
    share: Vector = param([0.3, 0.7], bounds=(0, 1), shape=SECTORS)


class Scenario(Record):
    demand: Scalar = exogenous(10.0)


class State(Record):
    output: Vector = index("x", "c x_{-1} + s D", shape=SECTORS)


def initial_state(params: Params, scenario: Scenario) -> State:
    return State.filled(0.0)


def step(prior: State, params: Params, scenario: Scenario) -> State:
    return State(output=params.carry * prior.output + params.share * scenario.demand)


SECTORAL = Model("Sectoral", Params, Scenario, State, initial_state, step)
SHARES = ("share[0]", "share[1]")


def sectoral(**kwargs: Any) -> Any:
    return from_definition(SECTORAL)(hyperparameters={"timesteps": 12}, **kwargs)


def fit(model: Any, target: Any, **kwargs: Any) -> EstimationResult:
    names = kwargs.pop("variables", None)
    return LevenbergMarquardt(model, lambda o: mse_loss(o, target, names), **kwargs).optimize()


def exact(model: Any) -> dict[str, torch.Tensor]:
    """The model's outputs, not rounded to float32."""
    twin = copy.deepcopy(model)
    twin.parameters["dtype"] = torch.float64
    return twin.simulate()


def values(model: Any) -> dict[str, float]:
    return dict(model.parameters.get_values())


# Losses -----------------------------------------------------------------------------------------

OUTPUT = {
    "B": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    "A": torch.tensor([[1.0], [2.0], [4.0]]),
    "C": torch.zeros(3, 1),
}
TARGET = {"A": torch.zeros(3, 1), "B": torch.ones(3, 2), "D": torch.zeros(3, 1)}


def test_residuals_are_ordered_by_name_or_as_asked_for():
    a, b = [1.0, 2, 4], [0.0, 1, 2, 3, 4, 5]
    assert mse_loss(OUTPUT, TARGET).tolist() == a + b
    assert mse_loss(OUTPUT, TARGET, variables=["B", "A"]).tolist() == b + a
    assert mse_loss(OUTPUT, TARGET, ["B"], slice(-1, None)).tolist() == [4, 5]
    assert mse_loss(OUTPUT, {"A": torch.tensor(1.0)}, timesteps=slice(1, 3)).tolist() == [1, 3]


def test_reductions():
    assert mse_loss(OUTPUT, TARGET, reduction="sum").item() == 21 + 55
    assert mse_loss(OUTPUT, TARGET, reduction="mean").item() == pytest.approx(76 / 9)


def test_weights_sum_to_the_number_of_variables():
    plain = mse_loss(OUTPUT, TARGET)
    weighted = weighted_residuals(OUTPUT, TARGET, {"A": 3.0, "C": 9.0})
    torch.testing.assert_close(weighted**2, plain**2 * torch.tensor([1.5] * 3 + [0.5] * 6))
    total = weighted_residuals(OUTPUT, TARGET, {"A": 3.0}, reduction="sum")
    assert total.item() == pytest.approx(1.5 * 21 + 0.5 * 55)


def test_composite_losses():
    def data(output, target):
        return mse_loss(output, target)

    def prior(output, target):
        assert target is None
        return output["A"].flatten() - 1

    given = OUTPUT, [TARGET, None], [data, prior]
    joined = composite_loss(*given, [1.0, 3.0])
    parts = data(OUTPUT, TARGET), prior(OUTPUT, None)
    torch.testing.assert_close(joined, torch.cat([parts[0] * 0.5**0.5, parts[1] * 1.5**0.5]))
    torch.testing.assert_close(composite_loss(*given), torch.cat(parts))
    # As published: means and sums are those of what the losses return.
    for reduction in ("mean", "sum"):
        found = composite_loss(*given, [1.0, 3.0], reduction)
        each = [getattr(part, reduction)() for part in parts]
        torch.testing.assert_close(found, 0.5 * each[0] + 1.5 * each[1])
    scalars = [lambda o, t: mse_loss(o, t, reduction="mean"), lambda o, t: 2.0]
    found = composite_loss(OUTPUT, [TARGET, None], scalars, reduction="mean")
    assert found.item() == pytest.approx(76 / 9 + 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mse_loss(OUTPUT, TARGET, ["A", "X"]), "Variables not in output: {'X'}"),
        (lambda: mse_loss(OUTPUT, TARGET, ["C"]), "Variables not in target: {'C'}"),
        (lambda: mse_loss(OUTPUT, TARGET, "A"), "list of names"),
        (lambda: mse_loss(OUTPUT, TARGET, []), "list of names"),
        (lambda: mse_loss(OUTPUT, {"D": torch.zeros(3)}), "no variable in common"),
        (lambda: mse_loss(OUTPUT, {"A": torch.zeros(3)}), r"target of A .* \(3,\).* \(3, 1\)"),
        (lambda: mse_loss(OUTPUT, {"A": torch.zeros(2, 1)}), "must agree"),
        (lambda: mse_loss(OUTPUT, TARGET, timesteps=slice(9, 12)), "no row of A"),
        (lambda: mse_loss(OUTPUT, TARGET, reduction="all"), "Invalid reduction mode: all"),  # type: ignore[arg-type]
        (lambda: weighted_residuals(OUTPUT, TARGET, {"X": 1.0}), "not in output: {'X'}"),
        (lambda: weighted_residuals(OUTPUT, TARGET, {"A": -1.0}), "that of A is -1"),
        (lambda: weighted_residuals(OUTPUT, TARGET, {"A": 0, "B": 0}), "All weights are 0"),
        (lambda: composite_loss(OUTPUT, [], []), "empty"),
        (
            lambda: composite_loss(OUTPUT, [TARGET], [mse_loss, mse_loss]),
            "targets and loss_fns must have the same length",
        ),
        (
            lambda: composite_loss(OUTPUT, [TARGET], [mse_loss], [1.0, 2.0]),
            "loss_fns and loss_weights must have the same length",
        ),
        (
            lambda: composite_loss(OUTPUT, [TARGET], [lambda o, t: o["A"]]),
            "With reduction='none', loss functions must return 1D tensors",
        ),
        (
            lambda: composite_loss(OUTPUT, [TARGET], [mse_loss], reduction="x"),  # type: ignore[arg-type]
            "Invalid reduction mode: x",
        ),
    ],
)
def test_losses_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Library models ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rev", "fwd"])
@pytest.mark.parametrize("damping", [1e-7, 1e-3])
def test_the_demonstration_of_model_sim(mode, damping):
    """Two wrong propensities, found again from the path of consumption and income."""
    truth = {"PropensityToConsumeIncome": 0.6, "PropensityToConsumeSavings": 0.4}
    model = get_model("GL06SIM")(parameters=truth)
    target = model.simulate()
    model.parameters["PropensityToConsumeIncome"] = 0.7
    model.parameters["PropensityToConsumeSavings"] = 0.3

    def loss_fn(output):
        names = ["ConsumptionDemand", "DisposableIncome"]
        return mse_loss(output, target, variables=names, timesteps=slice(5, 40))

    search = LevenbergMarquardt(
        model, loss_fn, max_nfev=100, damping_init=damping, jacobian_mode=mode
    )
    result = search.optimize()
    assert result.success and result.status in (0, 1, 2)
    assert result.nit <= 15 and result.nfev == result.nit + 1
    assert (search.nfev, search.njev, search.nit) == (result.nfev, result.njev, result.nit)
    for name, value in (truth | {"TaxRate": 0.2}).items():
        # The data are float32: of 1 in 1e7, amplified by a condition of about 15.
        assert result.params[name].item() == pytest.approx(value, rel=1e-6)
        assert result.params[name].dtype == torch.float64
        assert model.parameters[name] == result.params[name].item()
        assert result.jacobian is not None and result.jacobian[name].shape == (70,)
    assert result.residuals.shape == (70,) and result.residuals.dtype == torch.float32
    assert result.cost == pytest.approx(0.5 * (result.residuals**2).sum().item(), rel=1e-3)


def test_the_steady_state_of_model_sim_gives_its_tax_rate():
    """Y* = G / theta: an observed income of 80 with G = 20 is a tax rate of 0.25."""
    model = get_model("GL06SIM")()
    for name in ("PropensityToConsumeIncome", "PropensityToConsumeSavings"):
        model.parameters.set_bound(name, (model.parameters[name], model.parameters[name]))
    result = LevenbergMarquardt(model, lambda o: o["NationalIncome"][-1] - 80.0).optimize()
    assert result.success
    # The last period is within 1e-8 of the steady state.
    assert result.params["TaxRate"].item() == pytest.approx(0.25, abs=1e-7)
    assert result.params["PropensityToConsumeIncome"].item() == 0.6
    assert result.identifiability is not None
    assert result.identifiability.at_bound == (
        "PropensityToConsumeIncome",
        "PropensityToConsumeSavings",
    )


def test_the_direction_that_model_pc_does_not_identify_is_named():
    """Without shocks the interest rate is constant: the bill share's constant and its reaction to the
    rate r cannot be told apart, only their sum constant + r * reaction.
    """
    model = get_model("GL06PC")()
    rate = model.simulate()["InterestRate"][-1].item()
    target = exact(model)
    truth = values(model)
    for name in model.parameters.get_free_param_names():
        model.parameters[name] = 0.95 * model.parameters[name]
    result = fit(model, target, variables=["NationalIncome", "HouseholdBillStock"])
    assert result.success and result.identifiability is not None
    (direction,) = result.identifiability.unidentified
    constant, reaction = "WealthShareBills_Constant", "WealthShareBills_InterestRate"
    assert set(direction) == {constant, reaction}
    assert direction[constant] / direction[reaction] == pytest.approx(-rate, rel=1e-6)
    for name, value in truth.items():
        if name in (constant, reaction):
            assert result.standard_errors[name] == np.inf
        else:
            assert result.params[name].item() == pytest.approx(value, rel=1e-6)
    seen = result.params[constant].item() + rate * result.params[reaction].item()
    assert seen == pytest.approx(truth[constant] + rate * truth[reaction], rel=1e-6)
    assert constant in str(result) and "Not identified" in str(result)


@pytest.mark.parametrize("mode", ["rev", "fwd"])
@pytest.mark.parametrize("scaling", ["marquardt", "identity"])
def test_starting_at_the_optimum(mode, scaling):
    model = get_model("GL06PC")()
    target, before = model.simulate(), values(model)
    result = fit(model, target, jacobian_mode=mode, scaling=scaling)
    assert result.success and result.nfev < 20
    assert values(model) == pytest.approx(before, rel=1e-5)
    assert all(torch.isfinite(value) for value in result.params.values())


def test_an_optimum_at_a_bound_agrees_with_scipy():
    model = get_model("GL06SIM")()
    target = model.simulate()
    model.parameters["TaxRate"] = 0.3
    model.parameters.set_bound("TaxRate", (0.25, 1.0))

    def loss_fn(output):
        return mse_loss(output, target, ["NationalIncome"])

    def residuals(x):
        twin = get_model("GL06SIM")(hyperparameters={"dtype": torch.float64})
        for name, value in zip(names, x, strict=True):
            twin.parameters[name] = float(value)
        return loss_fn(twin.simulate()).numpy()

    names = model.parameters.get_free_param_names()
    start = [model.parameters[name] for name in names]
    bounds = np.array([model.parameters.get_bounds()[name] for name in names]).T
    other = optimize.least_squares(residuals, start, bounds=tuple(bounds), xtol=1e-14, ftol=1e-14)
    result = LevenbergMarquardt(model, loss_fn, ftol=1e-14).optimize()
    assert result.success
    assert result.params["TaxRate"].item() == 0.25 == model.parameters["TaxRate"]
    assert result.cost <= other.cost * (1 + 1e-9)
    np.testing.assert_allclose([result.params[n].item() for n in names], other.x, atol=1e-4)
    assert np.isnan(result.standard_errors["TaxRate"])


def test_no_start_outside_of_the_options():
    model = get_model("GL06SIM")()
    for change in ({"scaling": "x"}, {"jacobian_mode": "x"}, {"max_nfev": 0}, {"ftol": -1}):
        with pytest.raises(ValueError, match=r"x|max_nfev|ftol"):
            LevenbergMarquardt(model, lambda o: o["NationalIncome"], **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nope"):
        LevenbergMarquardt(model, lambda o: o["NationalIncome"], scenario="nope")
    with pytest.raises(KeyError):
        LevenbergMarquardt(model, lambda o: o["NationalIncome"], scenario=7)


def test_a_scalar_loss_is_refused():
    model = get_model("GL06SIM")()
    search = LevenbergMarquardt(model, lambda o: o["NationalIncome"].mean())
    with pytest.raises(ValueError, match="reduction='none'"):
        search.optimize()


def test_missing_data_are_counted():
    model = get_model("GL06SIM")()
    target = {"NationalIncome": model.simulate()["NationalIncome"].clone()}
    target["NationalIncome"][3:5] = torch.nan
    with pytest.raises(ValueError, match="2 of 101 residuals are not finite at the start"):
        fit(model, target)


def test_a_loss_of_two_dimensions_is_flattened():
    model = get_model("GL06SIM")()
    target = model.simulate()["NationalIncome"]
    model.parameters["TaxRate"] = 0.3
    result = LevenbergMarquardt(model, lambda o: o["NationalIncome"] - target).optimize()
    assert result.success and result.residuals.shape == (101,)
    assert result.params["TaxRate"].item() == pytest.approx(0.2, rel=1e-6)


def test_a_loss_that_refuses_float64():
    model = get_model("GL06SIM")()
    weights = torch.eye(101)
    target = model.simulate()["NationalIncome"]
    model.parameters["TaxRate"] = 0.3

    def loss_fn(output):
        return (weights @ (output["NationalIncome"] - target)).flatten()

    with pytest.warns(UserWarning, match="refuses float64"):
        result = LevenbergMarquardt(model, loss_fn).optimize()
    # Rounded residuals: only rejected steps can end it.
    assert result.success and result.nfev < 60
    assert result.params["TaxRate"].item() == pytest.approx(0.2, rel=1e-5)


def test_results_are_in_the_models_dtype():
    model = get_model("GL06SIM")(hyperparameters={"dtype": torch.float64})
    target = model.simulate()
    model.parameters["TaxRate"] = 0.3
    result = fit(model, target)
    assert result.residuals.dtype == torch.float64
    # Exact data: nothing but the solver's tolerance is left.
    assert result.params["TaxRate"].item() == pytest.approx(0.2, rel=1e-9)
    assert result.cost < 1e-12


def test_the_jacobian_is_the_one_of_the_result():
    model = get_model("GL06SIM")(hyperparameters={"dtype": torch.float64})
    target = model.simulate()

    def loss_fn(output):
        return mse_loss(output, target, ["NationalIncome"]) - 1.0

    model.parameters["TaxRate"] = 0.3
    result = LevenbergMarquardt(model, loss_fn).optimize()
    again = JacobianAutograd(model).compute(loss_fn)
    numerical = JacobianNumerical(model).compute(loss_fn)
    assert result.jacobian is not None and set(result.jacobian) == set(again)
    for name, column in result.jacobian.items():
        torch.testing.assert_close(column, again[name], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(column, numerical[name], rtol=1e-3, atol=0.05)
    columns = torch.stack(list(result.jacobian.values()), dim=1)
    gradient = columns.T @ result.residuals
    assert result.optimality == pytest.approx(gradient.abs().max().item(), rel=1e-3, abs=1e-9)


# Sectors and constraints ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rev", "fwd"])
def test_sectors_are_estimated_slot_by_slot(mode):
    model = sectoral()
    target, truth = exact(model), values(model)
    for name, value in {"S1.Share": 0.5, "S2.Share": 0.4, "Carry": 0.3}.items():
        model.parameters[name] = value
    result = fit(model, target, jacobian_mode=mode)
    assert result.success
    assert list(result.params) == ["Carry", "S1.Share", "S2.Share"]
    assert values(model) == pytest.approx(truth, abs=1e-9)
    assert result.jacobian is not None and result.jacobian["S2.Share"].shape == (26,)


@pytest.mark.parametrize("mode", ["rev", "fwd"])
def test_a_constraint_holds_all_the_way(mode):
    cls = from_definition(SECTORAL.with_constraints((AddingUp(SHARES, 1.0),)))
    model = cls(hyperparameters={"timesteps": 12})
    target = exact(model)
    model.parameters["S1.Share"] = 0.6
    seen = []

    def loss_fn(output):
        found = output["Output"].detach()[2]
        seen.append((found / found.sum()).sum().item())
        return mse_loss(output, target)

    result = LevenbergMarquardt(model, loss_fn, jacobian_mode=mode).optimize()
    assert result.success
    assert list(result.params) == ["Carry", "S1.Share", "S2.Share"]
    assert result.params["S1.Share"].item() == pytest.approx(0.3, abs=1e-9)
    assert result.params["S2.Share"].item() == pytest.approx(0.7, abs=1e-9)
    assert result.standard_errors["S1.Share"] == result.standard_errors["S2.Share"]
    assert result.identifiability is not None
    assert result.identifiability.names == ("Carry", "S1.Share")
    assert result.jacobian is not None and not result.jacobian["S2.Share"].any()


def test_what_a_constraint_derives_stays_within_its_bounds():
    """The data want c = 1 - a - b below its lower bound: the fit ends at it, at the best a and b there."""
    truth = {"a": 0.5, "b": 0.6, "c": -0.1}
    constraint = (LinearConstraint(("a", "b", "c"), 1.0),)

    def move(behavior, params, scenario):
        state = params["a"] * behavior.prior["Y"] + params["b"] * scenario["G"]
        return state + 7.0 * params["c"]

    start = torch.ones(1)
    model = own_model(move, truth, constraint, timesteps=9, initial=lambda behavior: start)
    target = exact(model)
    model.parameters["a"], model.parameters["b"] = 0.3, 0.3
    model.parameters.enforce_constraints()
    model.parameters.set_bound("c", (0.0, 1.0))
    result = fit(model, target)
    assert result.success
    assert abs(result.params["c"].item()) <= 1e-9 and values(model)["c"] >= -1e-9
    assert values(model)["a"] + values(model)["b"] == pytest.approx(1.0, abs=1e-9)

    def along(a):
        """The cost where b = 1 - a and c = 0, by a loop of its own."""
        data, path = target["Y"].flatten().numpy(), [1.0]
        for _ in range(len(data) - 1):
            path.append(a * path[-1] + (1 - a) * 10.0)
        return 0.5 * np.sum((np.array(path) - data) ** 2)

    best: Any = optimize.minimize_scalar(
        along, bounds=(0, 1), method="bounded", options={"xatol": 1e-10}
    )
    assert result.cost == pytest.approx(best.fun, rel=1e-6)
    assert values(model)["a"] == pytest.approx(best.x, abs=1e-4)


def test_a_derived_parameter_out_of_bounds_is_refused():
    constraint = (LinearConstraint(("a", "b", "c"), 1.0),)
    model = own_model(values={"a": 0.4, "b": 0.3, "c": 0.3}, constraints=constraint)
    model.parameters.set_bound("c", (0.0, 1.0))
    model.parameters["a"] = 0.9
    with pytest.raises(BoundaryError, match="Parameter c"):
        LevenbergMarquardt(model, lambda o: o["Y"]).optimize()


# A user's own behavior --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rev", "fwd"])
def test_a_users_own_behavior(mode):
    model = Toy()
    target = exact(model)
    model.parameters["a"], model.parameters["S1.w"] = 0.4, 0.3
    result = fit(model, target, variables=["Y", "W", "M"], jacobian_mode=mode)
    assert result.success
    expected = values(Toy())
    found = {name: value.item() for name, value in result.params.items()}
    assert found == pytest.approx(expected, abs=1e-7)
    # `q` is used nowhere; `D`, which is data, stays.
    assert result.standard_errors["Other.q"] == np.inf
    assert result.identifiability is not None
    assert result.identifiability.unidentified == ({"Other.q": 1.0},)
    assert torch.equal(model.parameters["D"], Toy().parameters["D"])


def test_a_kink_is_no_success():
    def bent(behavior, params, scenario):
        return behavior.prior["Y"] + (params["a"] - 0.3).abs() + 1.0

    model = own_model(bent, {"a": 0.5}, initial=lambda behavior: torch.zeros(1))
    result = LevenbergMarquardt(model, lambda o: o["Y"][1:]).optimize()
    assert result.params["a"].item() == pytest.approx(0.3, abs=1e-5)
    assert not result.success and result.status == -2 and "kink" in result.message


def test_an_interruption_leaves_the_best_parameters():
    model = get_model("GL06SIM")()
    target = model.simulate()
    model.parameters["TaxRate"] = 0.4
    before = mse_loss(model.simulate(), target, ["NationalIncome"], reduction="sum")

    def loss_fn(output):
        if model.parameters["TaxRate"] != 0.4:
            raise KeyboardInterrupt
        return mse_loss(output, target, ["NationalIncome"])

    with pytest.raises(KeyboardInterrupt):
        LevenbergMarquardt(model, loss_fn).optimize()
    assert mse_loss(model.simulate(), target, ["NationalIncome"], reduction="sum") < before
    assert model.parameters["TaxRate"] != 0.4


def test_the_model_is_never_at_a_rejected_candidate():
    """Seen from within the loss: the model's cost at each evaluation is the lowest so far."""
    model = get_model("GL06SIM")()
    target = model.simulate()
    model.parameters["PropensityToConsumeIncome"] = 0.95
    model.parameters["PropensityToConsumeSavings"] = 0.02
    model.parameters["TaxRate"] = 0.9
    visited = []

    def loss_fn(output):
        visited.append(tuple(values(model).values()))
        return mse_loss(output, target, ["NationalIncome"])

    search = LevenbergMarquardt(model, loss_fn, damping_init=1e-9)
    result = search.optimize()

    def cost(point):
        twin = get_model("GL06SIM")(hyperparameters={"dtype": torch.float64})
        for name, value in zip(values(model), point, strict=True):
            twin.parameters[name] = value
        return mse_loss(twin.simulate(), target, ["NationalIncome"], reduction="sum").item() / 2

    path = [cost(point) for point in dict.fromkeys(visited)]
    assert result.nit > len(path) - 1, "no step was rejected: the test shows nothing"
    assert path == sorted(path, reverse=True)
    assert cost(tuple(values(model).values())) == pytest.approx(result.cost, rel=1e-9)


# Printing ---------------------------------------------------------------------------------------


def test_a_result_prints_as_a_sentence_and_a_table():
    result = EstimationResult(
        True, 0, "ftol termination condition satisfied", {"alpha": torch.tensor(0.8)}, 0.0012,
        torch.zeros(100), None, 45, 12, 12, 1e-9,
    )  # fmt: skip
    lines = str(result).splitlines()
    assert lines[0] == "Converged after 12 steps: ftol termination condition satisfied"
    assert "Cost 0.0012" in lines[1] and "45 simulations" in lines[1]
    assert lines[-1].split() == ["alpha", "0.80000001"]


def test_verbose_prints_a_line_per_step(capsys):
    model = get_model("GL06SIM")()
    target = model.simulate()
    model.parameters["TaxRate"] = 0.3
    result = fit(model, target, verbose=2)
    printed = capsys.readouterr().out
    assert sum("accepted" in line or "rejected" in line for line in printed.splitlines()) == (
        result.nit
    )
    assert printed.count("TaxRate = ") == result.nit and printed.endswith(f"{result}\n")
    fit(model, target)
    assert capsys.readouterr().out == ""


def test_nothing_is_warned_of_and_no_setting_changed():
    model = get_model("GL06SIM")()
    target = model.simulate()
    with warnings.catch_warnings(), default_dtype(torch.float64):
        warnings.simplefilter("error")
        assert fit(model, target).residuals.dtype == torch.float64
    assert torch.get_default_dtype() == torch.float32
