"""Levenberg and Marquardt's method against closed forms and scipy, and what it says where it cannot fit."""

from typing import Any

import numpy as np
import pytest
from scipy import optimize

from macrostat_jax.estimation import (
    LinearConstraint,
    Region,
    identifiability,
    levenberg_marquardt,
)

EPS = np.finfo(float).eps
RNG = np.random.default_rng(7)
DESIGN = RNG.normal(size=(30, 4))
DATA = RNG.normal(size=30)
SCALINGS = ("marquardt", "identity")
TIGHT: Any = {"ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15}
NAMES = ["a", "b", "c", "d"]


def linear(design, data):
    return lambda x: design @ x - data, lambda x: design


def rosenbrock(x):
    return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


def rosenbrock_jacobian(x):
    return np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])


ROSENBROCK = rosenbrock, rosenbrock_jacobian, np.array([-1.2, 1.0])


# Against closed forms and scipy -----------------------------------------------------------------


@pytest.mark.parametrize("scaling", SCALINGS)
def test_linear_least_squares(scaling):
    found = levenberg_marquardt(*linear(DESIGN, DATA), np.zeros(4), scaling=scaling)
    closed = np.linalg.lstsq(DESIGN, DATA, rcond=None)[0]
    # Converged by the gradient: |x - closed| <= |(J'J)^-1| gtol sqrt(n).
    limit = 2e-8 / np.linalg.eigvalsh(DESIGN.T @ DESIGN)[0]
    assert found.success and found.status == 2
    np.testing.assert_allclose(found.x, closed, atol=limit)
    assert found.cost == pytest.approx(np.sum((DESIGN @ closed - DATA) ** 2) / 2, rel=1e-12)
    np.testing.assert_array_equal(found.residuals, DESIGN @ found.x - DATA)
    np.testing.assert_array_equal(found.jacobian, DESIGN)
    assert found.optimality == pytest.approx(np.abs(DESIGN.T @ found.residuals).max(), rel=1e-12)
    assert found.nfev == found.nit + 1


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("init", [1e-12, 1e-3, 1e6])
def test_rosenbrock_from_any_damping(scaling, init):
    found = levenberg_marquardt(*ROSENBROCK, scaling=scaling, damping_init=init)
    assert found.success
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-6)


def test_the_steady_income_of_model_sim_gives_its_tax_rate():
    """Y* = G / theta: with G = 20, an income of 100 is a tax rate of 0.2."""
    with np.errstate(divide="ignore"):  # The first step leads to a rate of 0.
        found = levenberg_marquardt(
            lambda x: 20 / x - 100.0, lambda x: np.diag(-20 / x**2), [0.5], bounds=(0, 1)
        )
    assert found.success
    # The cost (500 dx)^2 / 2 is below ftol^2.
    np.testing.assert_allclose(found.x, [0.2], atol=np.sqrt(2) * 1e-8 / 500)


def exponential(x):
    t = np.linspace(0, 3, 40)
    return x[0] * np.exp(-x[1] * t) + x[2] - (2.0 * np.exp(-1.3 * t) + 0.5 + 0.05 * np.sin(40 * t))


def exponential_jacobian(x):
    t = np.linspace(0, 3, 40)
    return np.stack([np.exp(-x[1] * t), -x[0] * t * np.exp(-x[1] * t), np.ones(40)], axis=1)


@pytest.mark.parametrize(
    ("problem", "start", "bounds"),
    [
        ((rosenbrock, rosenbrock_jacobian), [-1.2, 1.0], ([-2, -2], [0.5, 2])),
        ((rosenbrock, rosenbrock_jacobian), [-1.2, 0.2], ([-2, -2], [2, 0.3])),
        ((rosenbrock, rosenbrock_jacobian), [0.5, 2.0], ([-2, 1.5], [0.5, 2])),
        ((exponential, exponential_jacobian), [1.0, 1.0, 0.0], ([0, 0, -1], [5, 5, 5])),
        ((exponential, exponential_jacobian), [1.0, 1.0, 0.0], ([0, 0, -1], [1.5, 5, 0.3])),
        (linear(DESIGN, DATA), np.zeros(4), (-0.05, 0.2)),
    ],
)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_bounds_agree_with_scipy(problem, start, bounds, scaling):
    tried = []

    def residuals(x):
        tried.append(x)
        return problem[0](x)

    found = levenberg_marquardt(
        residuals, problem[1], start, bounds=bounds, scaling=scaling, **TIGHT
    )
    scipy = optimize.least_squares(
        problem[0], start, problem[1], bounds, ftol=1e-15, xtol=1e-15, gtol=1e-15
    )
    low, high = bounds
    assert all(((x >= low) & (x <= high)).all() for x in tried)
    assert found.success
    # scipy stays strictly inside its bounds.
    assert found.cost <= scipy.cost * (1 + 1e-12)
    np.testing.assert_allclose(found.x, scipy.x, atol=1e-6)
    at_bound = (found.x == low) | (found.x == high)
    gradient = found.jacobian.T @ found.residuals
    assert (np.abs(gradient[~at_bound]) < 1e-6).all()
    assert (gradient[at_bound] * np.where(found.x == low, 1, -1)[at_bound] > 0).all()
    assert found.optimality < 1e-6


def test_a_parameter_between_equal_bounds_stays():
    found = levenberg_marquardt(
        *linear(DESIGN, DATA), [0.0, 0.7, 0.0, 0.0], bounds=([-9, 0.7, -9, -9], [9, 0.7, 9, 9])
    )
    rest = [0, 2, 3]
    closed = np.linalg.lstsq(DESIGN[:, rest], DATA - 0.7 * DESIGN[:, 1], rcond=None)[0]
    assert found.success and found.x[1] == 0.7
    np.testing.assert_allclose(found.x[rest], closed, atol=1e-9)


def test_limits_on_sums_agree_with_an_elimination():
    """x0 + x1 <= 1 binds Rosenbrock's function: along x1 = 1 - x0 it is a problem of one parameter."""
    limit = LinearConstraint(np.ones((1, 2)), np.array([-5.0]), np.array([1.0]))
    found = levenberg_marquardt(*ROSENBROCK, constraint=limit, **TIGHT)
    line: Any = optimize.minimize_scalar(
        lambda a: np.sum(rosenbrock(np.array([a, 1 - a])) ** 2), bracket=(0.5, 0.7), tol=1e-12
    )
    assert found.success
    assert found.x.sum() <= 1 + 4 * EPS
    np.testing.assert_allclose(found.x, [line.x, 1 - line.x], atol=1e-7)
    assert found.optimality < 1e-6


def test_limits_on_sums_and_bounds_together_against_slsqp():
    limit = LinearConstraint(
        np.array([[1.0, 1, 1, 0], [0, 1, 1, 1]]), np.array([0.1, -1]), np.array([0.2, -0.3])
    )
    start = np.array([0.9, -0.1, -0.7, 0.4])
    residuals, jacobian = linear(DESIGN, DATA)
    found = levenberg_marquardt(
        residuals, jacobian, start, bounds=(-0.75, 0.95), constraint=limit, **TIGHT
    )
    other: Any = optimize.minimize(
        lambda x: np.sum(residuals(x) ** 2) / 2,
        start,
        jac=lambda x: DESIGN.T @ residuals(x),
        method="SLSQP",
        bounds=[(-0.75, 0.95)] * 4,
        constraints=optimize.LinearConstraint(*limit),  # type: ignore[arg-type]
        tol=1e-14,
    )
    assert found.success
    assert Region(4, (-0.75, 0.95), limit).contains(found.x)
    np.testing.assert_allclose(found.x, other.x, atol=1e-6)
    assert found.cost <= other.fun * (1 + 1e-9)


def test_units_do_not_matter():
    """With Marquardt's scaling, parameters in other units take the same steps, bounds included."""
    units = np.array([1e-6, 1.0, 1e6, 1e3])
    costs = []
    for scale in (np.ones(4), units):
        path = []
        design = DESIGN * scale
        found = levenberg_marquardt(
            lambda x, design=design: np.sinh(design @ x - DATA),
            lambda x, design=design: np.cosh(design @ x - DATA)[:, None] * design,
            np.zeros(4),
            bounds=(-0.05 / scale, 0.2 / scale),
            gtol=0,
            callback=lambda step, path=path: path.append(step.cost),
        )
        assert found.success
        costs.append(path)
    # Not to the last digit: rounding is amplified by the condition of the steps.
    np.testing.assert_allclose(costs[0][:8], costs[1][:8], rtol=1e-9)


# The damping options mean something -------------------------------------------------------------


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_first_step_is_the_damped_one(scaling):
    tried, init = [], 0.3
    residuals, jacobian = linear(DESIGN, DATA)

    def watched(x):
        tried.append(x)
        return residuals(x)

    levenberg_marquardt(
        watched, jacobian, np.zeros(4), scaling=scaling, damping_init=init, max_nfev=2
    )
    square = DESIGN.T @ DESIGN
    damped = np.diag(np.diag(square)) if scaling == "marquardt" else np.eye(4) * square.max()
    closed = np.linalg.solve(square + init * damped, DESIGN.T @ DATA)
    np.testing.assert_allclose(tried[1], closed, rtol=1e-12)


@pytest.mark.parametrize("factor", [2.0, 5.0])
def test_rejected_steps_raise_the_damping_ever_faster(factor):
    residuals, _ = linear(DESIGN, DATA)
    seen = []
    levenberg_marquardt(
        residuals,
        lambda x: -DESIGN,
        np.zeros(4),
        damping_init=1e-3,
        damping_update_factor=factor,
        max_nfev=4,
        callback=seen.append,
    )
    assert [step.accepted for step in seen] == [False] * 3
    expected = 1e-3 * factor ** np.array([1, 3, 6])
    np.testing.assert_allclose([step.damping for step in seen], expected, rtol=1e-12)


def test_good_steps_lower_it_by_a_third():
    seen = []
    levenberg_marquardt(*linear(DESIGN, DATA), np.zeros(4), damping_init=9.0, callback=seen.append)
    # A linear problem: the model is exact, the ratio of reductions 1.
    np.testing.assert_allclose([s.damping for s in seen[:3]], [3, 1, 1 / 3], rtol=1e-9)


def test_heavy_damping_is_not_taken_for_convergence():
    found = levenberg_marquardt(*linear(DESIGN, DATA), np.zeros(4), damping_init=1e12)
    closed = np.linalg.lstsq(DESIGN, DATA, rcond=None)[0]
    assert found.success
    np.testing.assert_allclose(found.x, closed, atol=1e-6)


# How it ends ------------------------------------------------------------------------------------


def test_starting_at_the_optimum():
    found = levenberg_marquardt(rosenbrock, rosenbrock_jacobian, [1.0, 1.0])
    assert (found.status, found.nit, found.nfev) == (2, 0, 1)
    assert found.success and found.cost == 0 and (found.x == 1).all()


@pytest.mark.parametrize("tolerance", ["ftol", "xtol", "gtol"])
def test_each_tolerance_ends_it_with_its_status(tolerance):
    off: Any = {"ftol": 0.0, "xtol": 0.0, "gtol": 0.0}
    found = levenberg_marquardt(*linear(DESIGN, DATA), np.zeros(4), **(off | {tolerance: 1e-6}))
    assert found.status == ["ftol", "xtol", "gtol"].index(tolerance)
    assert found.message.startswith(f"{tolerance} termination condition satisfied: ")
    assert found.nit < 10


def test_without_tolerances_it_ends_at_what_rounding_resolves():
    found = levenberg_marquardt(*linear(DESIGN, DATA), np.zeros(4), ftol=0, xtol=0, gtol=0)
    closed = np.linalg.lstsq(DESIGN, DATA, rcond=None)[0]
    assert found.success and found.nfev < 60
    np.testing.assert_allclose(found.x, closed, atol=1e-7)


@pytest.mark.parametrize("start", [np.ones(4), np.array([0.3, 1.7, -2.0, 0.1])])
def test_rounding_of_the_residuals_ends_it(start):
    """float32 residuals, exact and started at the optimum or not: rejected steps must end the search."""
    coarse = DESIGN.astype(np.float32)
    data = coarse @ np.ones(4, np.float32)
    found = levenberg_marquardt(
        lambda x: coarse @ x.astype(np.float32) - data, lambda x: DESIGN, start
    )
    assert found.success and found.nfev < 30
    np.testing.assert_allclose(found.x, 1, atol=1e-6)


def test_the_budget_is_kept():
    calls = []

    def residuals(x):
        calls.append(x)
        return rosenbrock(x)

    found = levenberg_marquardt(residuals, rosenbrock_jacobian, [-1.2, 1.0], max_nfev=5)
    assert (found.status, found.success, found.nfev, len(calls)) == (-1, False, 5, 5)
    assert found.message.startswith("maximum function evaluations reached")


def test_no_step_that_raises_the_cost_is_taken():
    costs, best = [], []

    def residuals(x):
        found = rosenbrock(x)
        costs.append(found @ found / 2)
        return found

    found = levenberg_marquardt(
        residuals, rosenbrock_jacobian, [-1.2, 1.0], damping_init=1e-9, callback=best.append
    )
    assert any(not step.accepted for step in best)
    assert all(step.cost == min(costs[: step.nfev]) for step in best)
    assert found.cost == min(costs)
    np.testing.assert_array_equal(rosenbrock(found.x), found.residuals)


def test_nan_rejects_a_step():
    residuals, jacobian = linear(DESIGN, DATA)
    closed = np.linalg.lstsq(DESIGN, DATA, rcond=None)[0]
    seen = []

    def holes(x):
        """Undefined beyond 1.2 times the way to the optimum, which the first, long step passes."""
        return 3 * residuals(x) if np.abs(x).max() <= 1.2 * np.abs(closed).max() else DATA * np.nan

    found = levenberg_marquardt(
        holes, lambda x: jacobian(x) * (3 if x.any() else 1), np.zeros(4), callback=seen.append
    )
    assert not seen[0].accepted and np.isfinite(seen[0].cost)
    assert found.success
    # Converged by the cost: |J (x - closed)|^2 is of the order of ftol F.
    np.testing.assert_allclose(found.x, closed, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_where_the_way_down_leads_out_of_the_domain(bad):
    residuals, jacobian = linear(DESIGN, DATA)
    closed = np.linalg.lstsq(DESIGN, DATA, rcond=None)[0]

    def edge(x):
        return residuals(x) if x @ closed < closed @ closed / 2 else np.full(30, bad)

    found = levenberg_marquardt(edge, jacobian, np.zeros(4))
    assert found.status == -2 and "not finite" in found.message
    assert np.isfinite(found.residuals).all()


@pytest.mark.parametrize("wrong", [lambda j: -j, lambda j: j * [1.0, -1.0], lambda j: j[::-1]])
def test_a_wrong_jacobian_is_no_success(wrong):
    found = levenberg_marquardt(rosenbrock, lambda x: wrong(rosenbrock_jacobian(x)), [-1.2, 1.0])
    assert found.status == -2 and "not the derivative" in found.message


def test_a_jacobian_with_nan():
    def jacobian(x):
        found = rosenbrock_jacobian(x)
        if x[0] > -1.2:
            found[0, 1] = np.nan
        return found

    found = levenberg_marquardt(rosenbrock, jacobian, [-1.2, 1.0])
    assert found.status == -2 and found.message.endswith("not finite in its columns [1].")
    assert np.isnan(found.optimality)


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scaling": "other"}, "Unknown scaling: other"),
        ({"ftol": -1.0}, "ftol"),
        ({"xtol": np.nan}, "xtol"),
        ({"gtol": np.inf}, "gtol"),
        ({"max_nfev": 0}, "max_nfev"),
        ({"damping_init": 0.0}, "damping_init"),
        ({"damping_update_factor": 1.0}, "damping_update_factor"),
        ({"bounds": (0.5, 1.0)}, "not within the bounds"),
        ({"bounds": (1.0, -1.0)}, "low at most its high"),
        ({"bounds": ([0, 0], [1, 1])}, r"bounds must be \(low, high\)"),
        ({"start": [np.nan] * 4}, "finite numbers"),
        ({"start": 1.0}, "vector"),
        ({"residuals": lambda x: np.full(30, np.nan)}, "30 of 30 residuals are not finite"),
        ({"residuals": lambda x: np.zeros((3, 2))}, "vector of one length"),
        ({"residuals": lambda x: DATA[: 30 - int(x.any())]}, "vector of one length"),
        ({"jacobian": lambda x: DESIGN.T}, "shape"),
        ({"constraint": LinearConstraint(np.ones((1, 3)), np.zeros(1), np.ones(1))}, "constraint"),
        ({"constraint": LinearConstraint(np.ones((1, 4)), np.ones(1), np.ones(1))}, "within"),
    ],
)
def test_bad_input(change, message):
    residuals, jacobian = linear(DESIGN, DATA)
    given: Any = {"residuals": residuals, "jacobian": jacobian, "start": np.zeros(4)} | change
    with pytest.raises(ValueError, match=message):
        levenberg_marquardt(**given)


# Identifiability --------------------------------------------------------------------------------


def known_of(design, data=DATA, **more):
    names = [chr(ord("a") + i) for i in range(design.shape[1])]
    length = np.linalg.norm(design, axis=0)
    units = np.where(length > 0, length, 1.0)
    values = np.linalg.lstsq(design / units, data, rcond=None)[0] / units
    return identifiability(design, design @ values - data, values, names, **more)


def test_standard_errors_are_those_of_linear_regression():
    known = known_of(DESIGN)
    squares = np.linalg.lstsq(DESIGN, DATA, rcond=None)[1]
    closed = squares[0] / 26 * np.linalg.inv(DESIGN.T @ DESIGN)
    np.testing.assert_allclose(known.covariance, closed, rtol=1e-10)
    np.testing.assert_allclose(known.standard_errors, np.sqrt(np.diag(closed)), rtol=1e-10)
    weights = np.array([1.0, -2, 0, 3])
    assert known.error_of(weights) == pytest.approx(np.sqrt(weights @ closed @ weights), rel=1e-10)
    assert known.unidentified == () and str(known).startswith("All parameters are identified")


def test_standard_errors_follow_units():
    units = np.array([1e-9, 1.0, 1e9, 1e3])
    plain, scaled = known_of(DESIGN), known_of(DESIGN * units)
    np.testing.assert_allclose(scaled.standard_errors * units, plain.standard_errors, rtol=1e-9)
    assert scaled.condition == pytest.approx(plain.condition, rel=1e-9)


def test_unidentified_directions_are_named():
    design = np.column_stack([DESIGN[:, :3], 2 * DESIGN[:, 1], np.zeros(30)])
    known = known_of(design)
    assert {frozenset(one) for one in known.unidentified} == {frozenset("bd"), frozenset("e")}
    pair = next(one for one in known.unidentified if "b" in one)
    assert pair["d"] / pair["b"] == pytest.approx(-0.5, rel=1e-12)
    assert np.isinf(known.standard_errors[[1, 3, 4]]).all() and known.condition > 1e15
    # The others as if the pair were one parameter.
    alone = known_of(design[:, :3])
    np.testing.assert_allclose(
        known.standard_errors[[0, 2]], alone.standard_errors[[0, 2]], rtol=1e-9
    )
    # What moves along no such direction is identified: b + 2 d is what the data see.
    assert known.error_of(np.array([0, 1.0, 0, 2.0, 0])) == pytest.approx(
        alone.standard_errors[1], rel=1e-9
    )
    assert np.isinf(known.error_of(np.array([0, 1.0, 0, 0, 0])))
    assert "b" in str(known) and "e" in str(known)


def test_two_confusions_are_told_apart():
    """a with d, and b with c, by the same factor: any mixture of the two is a null direction too."""
    design = np.column_stack([DESIGN[:, :2], 3 * DESIGN[:, 1], 3 * DESIGN[:, 0]])
    assert {frozenset(one) for one in known_of(design).unidentified} == {
        frozenset("ad"),
        frozenset("bc"),
    }


def test_fewer_residuals_than_parameters():
    known = known_of(DESIGN[:2], DATA[:2])
    assert len(known.unidentified) == 2 and len(known.singular_values) == 4
    for direction in known.unidentified:
        moved = np.array([direction.get(name, 0.0) for name in NAMES])
        assert np.abs(DESIGN[:2] @ moved).max() < 1e-12
    assert np.isnan(known.covariance).all()


def test_what_is_at_a_bound_is_left_out():
    held = np.array([False, True, False, False])
    known, rest = known_of(DESIGN, at_bound=held), [0, 2, 3]
    residuals = known_of(DESIGN)
    alone = np.linalg.inv(DESIGN[:, rest].T @ DESIGN[:, rest])
    ratio = known.covariance[np.ix_(rest, rest)] / alone
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-9)
    assert np.isnan(known.standard_errors[1]) and known.at_bound == ("b",)
    assert "At a bound: b" in str(known) and residuals.at_bound == ()
    assert "No parameter is free" in str(known_of(DESIGN, at_bound=np.ones(4, bool)))


def test_a_reached_sum_takes_a_direction_away():
    """a + b = constant: the regression on a alone, of the difference of their columns."""
    known = known_of(DESIGN, reached_sums=np.array([[1.0, 1, 0, 0]]))
    design = np.column_stack([DESIGN[:, 0] - DESIGN[:, 1], DESIGN[:, 2:]])
    alone = np.linalg.inv(design.T @ design)
    ratio = known.covariance[np.ix_([0, 2, 3], [0, 2, 3])] / alone
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-8)
    assert np.isnan(known.error_of(np.array([1.0, 1, 0, 0])))  # it is at its limit
    assert known.error_of(np.array([1.0, 0, 0, 0])) == pytest.approx(known.standard_errors[0])
    assert len(known.singular_values) == 3


def test_the_only_one_that_could_move_in_a_reached_sum_cannot():
    held = np.array([True, False, False, False])
    known = known_of(DESIGN, at_bound=held, reached_sums=np.array([[1.0, 1, 0, 0]]))
    assert known.at_bound == ("a", "b") and np.isnan(known.standard_errors[:2]).all()
    both = known_of(DESIGN, at_bound=np.array([True, True, False, False]))
    np.testing.assert_allclose(known.standard_errors, both.standard_errors)


def test_identifiability_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="do not fit"):
        identifiability(DESIGN, DATA, np.zeros(4), ["a"])
    with pytest.raises(ValueError, match="not finite"):
        identifiability(DESIGN * np.nan, DATA, np.zeros(4), NAMES)
