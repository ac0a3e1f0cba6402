"""Finite differences against exact derivatives: orders, error bars, refusals."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import Model, Record, Scalar, count_compilations, index, models, param, smooth
from macrostat_jax.diff import check, finite_differences, jacobian
from macrostat_jax.diff._stencil import Stencil

METHODS = ("forward", "backward", "central", "five-point", "richardson")
ANALYTIC = ("LINEAR2D", "NK3E", "GL06SIM", "GL06LP")


class Params(Record):
    a: Scalar = param(0.7, bounds=(-5, 5))
    b: Scalar = param(-1.3, bounds=(-5, 5))


class Scenario(Record):
    pass


class State(Record):
    y: Scalar = index("y", "")
    z: Scalar = index("z", "")


def toy(function):
    """A model of two variables, half of the last y and `function(a, b)`."""

    def step(prior, params, scenario):
        y = 0.5 * prior.y + function(params.a, params.b)
        return State(y=y, z=y * params.b)

    return Model("TOY", Params, Scenario, State, lambda p, s: State.filled(0.0), step, periods=6)


@pytest.fixture(scope="module")
def wavy():
    return toy(lambda a, b: jnp.sin(3 * a) * jnp.exp(b) + b**3)


def bars(found):
    """The error bars, which finite differences always have."""
    assert found.errors is not None
    return found.errors


@pytest.mark.parametrize("space", ["log", "direct", "relative"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", [None, "auto"])
def test_error_bars_hold_the_exact_derivative(wavy, method, space, step):
    exact = jacobian(wavy)
    found = finite_differences(wavy, method=method, space=space, step=step)
    for output, columns in found.values.items():
        for name, value in columns.items():
            error = np.abs(value - exact.values[output][name])
            bar = bars(found)[output][name]
            # 2: the bar is exact to leading order.
            assert np.all(error <= 2 * bar + 1e-15), (output, name)
            # And it is a bar, not an excuse: one-sided differences err by half the step.
            most = 5e-2 if method in ("forward", "backward") else 1e-4
            assert np.all(bar <= most), (output, name)


@pytest.mark.parametrize(("method", "order"), [("forward", 1), ("central", 2), ("five-point", 4)])
@pytest.mark.parametrize("space", ["log", "direct", "relative"])
def test_orders(method, order, space):
    x = np.array([0.8])
    errors = []
    for h in (0.04, 0.02):
        stencil = Stencil(x, method, space, h, halved=False)
        (slope,), _ = stencil.combine(np.exp(stencil.points()[:, 0]), 2.0**-52)
        errors.append(abs(slope - np.exp(0.8)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_richardson_reaches_what_no_single_step_does():
    x = np.array([0.8])
    stencil = Stencil(x, "richardson", "direct")
    (slope,), (error,) = stencil.combine(np.exp(stencil.points()[:, 0]), 2.0**-52)
    assert abs(slope - np.exp(0.8)) < 1e-12 * np.exp(0.8)
    assert abs(slope - np.exp(0.8)) <= error < 1e-10


def test_automatic_steps_follow_the_dtype(wavy):
    exact = jacobian(wavy)
    params = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), wavy.params())
    for method, most in (("forward", 2e-2), ("central", 2e-3), ("five-point", 1e-3)):
        found = finite_differences(wavy, "y", method=method, step="auto", params=params)
        value, bar = found["a"], bars(found)["y"]["a"]
        assert np.all(np.abs(value - exact["y", "a"]) <= 2 * bar)
        assert np.max(bar) < most * np.max(np.abs(value)), method


@pytest.mark.parametrize("name", ANALYTIC)
def test_the_complex_step_is_exact(name):
    model = models.get(name)
    exact, found = (
        jacobian(model, periods=12),
        finite_differences(model, method="complex", periods=12),
    )
    scale = np.abs(exact.matrix()).max()
    np.testing.assert_allclose(found.matrix(), exact.matrix(), rtol=0, atol=1e-14 * scale)
    for output, columns in found.values.items():
        for label, value in columns.items():
            off = np.abs(value - exact.values[output][label])
            assert np.all(off <= bars(found)[output][label] + 1e-15 * scale)


def test_the_complex_step_passes_through_calls_loops_and_solvers():
    @jax.jit
    def inner(a):
        return jnp.tanh(a)

    @jax.custom_jvp
    def ruled(a):
        return a**2.5

    ruled.defjvp(lambda p, t: (ruled(p[0]), 7.0 * t[0]))  # not looked at

    def function(a, b):
        looped = jax.lax.scan(lambda c, i: (c * a + i * 0.1, None), b, jnp.arange(3.0))[0]
        chosen = jax.lax.cond(True, lambda v: v**2, lambda v: v, a)
        matrix = jnp.stack([jnp.stack([a, b]), jnp.stack([b, 2 * a])])
        solved = jnp.linalg.solve(matrix, jnp.stack([a * b, a]))
        return inner(a) + ruled(a) + looped + chosen + solved.sum() + jnp.where(True, a, b)

    model = toy(function)
    found = finite_differences(model, "y", method="complex")
    second = finite_differences(model, "y", method="richardson")
    for name in ("a", "b"):
        off = np.abs(found[name] - second[name])
        assert np.all(off <= 2 * bars(second)["y"][name]), name


REFUSED = {
    "max": lambda a, b: jnp.maximum(a, b),
    "abs": lambda a, b: jnp.abs(b) * a,
    "gt": lambda a, b: jnp.where(a > b, a, b),
    "sign": lambda a, b: jnp.sign(a),
    "floor": lambda a, b: jnp.floor(a),
    "stop_gradient": lambda a, b: jax.lax.stop_gradient(a) * b,
    "convert_element_type": lambda a, b: a.astype(int).astype(float) * b,
    "max (in clip)": lambda a, b: jnp.clip(a, 0.0, 1.0),
}


@pytest.mark.parametrize("operation", REFUSED)
def test_the_complex_step_refuses_what_is_not_analytic(operation):
    function = REFUSED[operation]
    line = inspect.getsourcelines(function)[1]
    with pytest.raises(ValueError, match="needs an analytic program") as raised:
        finite_differences(toy(function), method="complex")
    message = str(raised.value)
    assert f"the operation {operation} at {__file__}:{line} (" in message


def test_a_switch_on_what_does_not_move_is_no_hindrance():
    model = toy(lambda a, b: jnp.where(b > 0, a, 2 * a))
    found = finite_differences(model, "y", wrt="a", method="complex")
    assert found["a"][0] == 2.0
    with pytest.raises(ValueError, match="operation gt"):
        finite_differences(model, "y", wrt="b", method="complex")


def test_registered_models_with_switches_are_refused_by_line():
    with pytest.raises(ValueError, match=r"operation gt at .*gl06lp2\.py:\d+ \(return jnp\.where"):
        finite_differences(models.GL06LP2, method="complex", periods=5)


def test_two_jumps_in_one_difference_do_not_make_it_certain():
    """Equal jumps at 0.45 and 0.9 of the step: the difference at half the step is the same."""
    h = 1e-3

    def stairs(a, b):
        up = jnp.where(a > 0.7 + 0.45 * h, 1.0, 0.0) + jnp.where(a > 0.7 + 0.9 * h, 1.0, 0.0)
        down = jnp.where(a < 0.7 - 0.45 * h, 1.0, 0.0) + jnp.where(a < 0.7 - 0.9 * h, 1.0, 0.0)
        return a + up - down

    found = finite_differences(toy(stairs), "y", wrt="a", space="direct", step=h)
    assert np.all(found["a"] > 1000)  # so far is it from 1, and its bar says so
    assert np.all(bars(found)["y"]["a"] >= np.abs(found["a"] - 1.0) * 0.3)
    report = check(toy(stairs), wrt="a", space="direct", step=h)
    assert report.verdict("a") == "inconclusive"


def test_check_with_any_method(wavy):
    for method in (*METHODS, "complex"):
        report = check(wavy, method=method)
        assert report.passed, report.summary()

    @jax.custom_jvp
    def term(x):
        return jnp.sin(x)

    term.defjvp(lambda p, t: (term(p[0]), (1 + 1e-6) * jnp.cos(p[0]) * t[0]))
    model = toy(lambda a, b: term(a) * b)
    for method in ("five-point", "richardson", "complex"):
        assert check(model, method=method, rtol=1e-8).verdict("a") == "disagrees", method
    assert check(model, method="complex", rtol=1e-8).verdict("b") == "agrees"


def test_all_perturbations_are_one_program(wavy):
    for method in (*METHODS, "complex"):
        finite_differences(wavy, "y", method=method, periods=9)
        with count_compilations() as compilations:
            finite_differences(
                wavy, "y", method=method, periods=9, params=wavy.params(a=0.1, b=2.0)
            )
        assert compilations.count == 0, method


def test_smooth_alternatives_are_not_analytic_where_they_guard_themselves():
    model = toy(lambda a, b: smooth.maximum(a, b, 10.0))
    with pytest.raises(ValueError, match=r"test_finite_differences\.py"):
        finite_differences(model, method="complex")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "seven"}, "There are: central, .*richardson, complex"),
        ({"step": "fine"}, "a number or 'auto'"),
        ({"method": "complex", "step": 1e-3}, "at most 1e-12"),
        ({"method": "richardson", "step": -1.0}, "greater than 0"),
    ],
)
def test_bad_input(wavy, arguments, message):
    with pytest.raises(ValueError, match=message):
        finite_differences(wavy, **arguments)


def test_relative_space_needs_a_value():
    with pytest.raises(ValueError, match="Cannot use relative-space with zero parameters"):
        finite_differences(models.LINEAR2D, space="relative")
