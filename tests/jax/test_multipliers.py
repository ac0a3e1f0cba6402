"""Long-run multipliers: against closed forms, symbolic algebra, long runs, and their own error bounds."""

from __future__ import annotations

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from model_cases import randomly

from macrostat_jax import (
    Model,
    Record,
    Scalar,
    accounts,
    exogenous,
    index,
    models,
    param,
    simulate,
    steady_state,
    steady_states,
)
from macrostat_jax.diff import jacobian, long_run


def without_closed_form(name):
    model = copy.copy(models.get(name))
    model.steady_state, model._variants = None, {}
    return model


SOLVED = {name: without_closed_form(name) for name in ("GL06SIM", "GL06PC", "GL06LP")}
SIM = SOLVED["GL06SIM"]


@pytest.mark.parametrize("model", [models.GL06SIM, SIM], ids=["closed", "solved"])
def test_sim_is_its_closed_form(model):
    found = long_run(model)
    assert found["national_income", "tax_rate"] == pytest.approx(-500, rel=1e-12)
    assert found["NationalIncome", "scenario.government_demand"] == pytest.approx(5, rel=1e-12)
    assert found["household_money_stock", "propensity_to_consume_income"] == pytest.approx(-200)
    assert found["national_income", "propensity_to_consume_income"] == pytest.approx(0, abs=1e-10)
    assert found.stable and found.spectral_radius == pytest.approx(1 - 0.08 / 0.52, rel=1e-12)
    assert found.elasticities().loc["national_income", "tax_rate"] == pytest.approx(-1, rel=1e-12)
    assert np.all(found.errors < 1e-9)


def portfolio_choice():
    """Model PC at rest, from the equations of the book: (unknowns, equations, symbols of the inputs)."""
    theta, a1, a2, l0, l1, l2, g, r = sp.symbols("theta a1 a2 l0 l1 l2 g r", positive=True)
    y, yd, t, v, c, b = sp.symbols("Y YD T V C B")
    equations = [
        y - (c + g),  # 4.1
        yd - (y - t + r * b),  # 4.2
        t - theta * (y + r * b),  # 4.3
        yd - c,  # 4.4, wealth at rest
        c - (a1 * yd + a2 * v),  # 4.5
        b - ((l0 + l1 * r) * v - l2 * yd),  # 4.7
    ]
    inputs = {
        "tax_rate": theta,
        "propensity_to_consume_income": a1,
        "propensity_to_consume_savings": a2,
        "wealth_share_bills_constant": l0,
        "wealth_share_bills_interest_rate": l1,
        "wealth_share_bills_income": l2,
        "scenario.government_demand": g,
        "scenario.interest_rate": r,
    }
    outputs = {"national_income": y, "wealth": v, "household_bill_stock": b, "taxes": t}
    return (y, yd, t, v, c, b), equations, inputs, outputs


def long_term_bonds():
    """Model LP at rest: chapter 5, with bond prices that are expected to stay."""
    names = "theta a1 a2 l20 l22 l23 l24 l30 l32 l33 l34 g r p"
    theta, a1, a2, l20, l22, l23, l24, l30, l32, l33, l34, g, r, p = sp.symbols(names)
    y, yd, t, v, c, b, bl = sp.symbols("Y YD T V C B BL")
    equations = [
        y - (c + g),
        yd - (y - t + r * b + bl),
        t - theta * (y + r * b + bl),
        yd - c,
        c - (a1 * yd + a2 * v),
        b - ((l20 + l22 * r + l23 / p) * v + l24 * yd),
        p * bl - ((l30 + l32 * r + l33 / p) * v + l34 * yd),
    ]
    inputs = {
        "tax_rate": theta,
        "propensity_to_consume_income": a1,
        "propensity_to_consume_savings": a2,
        "wealth_share_bills_constant": l20,
        "wealth_share_bills_bill_rate": l22,
        "wealth_share_bills_bond_return": l23,
        "wealth_share_bills_income": l24,
        "wealth_share_bonds_constant": l30,
        "wealth_share_bonds_bill_rate": l32,
        "wealth_share_bonds_bond_return": l33,
        "wealth_share_bonds_income": l34,
        "scenario.government_demand": g,
        "scenario.interest_rate_bills": r,
        "scenario.bond_price": p,
    }
    outputs = {
        "national_income": y,
        "wealth": v,
        "household_bill_stock": b,
        "household_bond_stock": bl,
    }
    return (y, yd, t, v, c, b, bl), equations, inputs, outputs


@pytest.mark.parametrize(
    ("name", "book"), [("GL06PC", portfolio_choice), ("GL06LP", long_term_bonds)]
)
def test_the_book_s_equations_solved_and_differentiated_symbolically(name, book):
    unknowns, equations, inputs, outputs = book()
    params = randomly(models.get(name), 5)
    found = long_run(SOLVED[name], list(outputs), wrt=list(inputs), params=params)
    at = dict(zip(inputs.values(), found.at, strict=True))
    system, right = sp.linear_eq_to_matrix(equations, unknowns)
    exact = {s: sp.Float(float(value), 30) for s, value in at.items()}
    inverse = system.subs(exact).inv()
    solution = inverse * right.subs(exact)
    levels = dict(zip(unknowns, solution, strict=True))
    for label, symbol in inputs.items():
        # A x = b: dx = A^-1 (db - dA x), the derivatives of A and b symbolic.
        moved = inverse * (sp.diff(right, symbol) - sp.diff(system, symbol) * solution).subs(exact)
        for output, unknown in outputs.items():
            expected = float(moved[unknowns.index(unknown)])
            slope = found[output, label]
            bound = found.errors[found.rows.index(output), found.columns.index(label)]
            assert abs(slope - expected) <= bound + 1e-14 * abs(expected), (output, label)
            assert bound <= 1e-8 * (1 + abs(expected))
            assert float(levels[unknown]) == pytest.approx(
                found.levels[found.rows.index(output)], rel=1e-11
            )


@pytest.mark.parametrize("name", ["GL06SIMEX", "GL06LP2"])
def test_a_long_run_differentiated_ends_there(name):
    model = models.get(name)
    found = long_run(model, ["national_income", "disposable_income"], wrt="params")
    path = jacobian(model, ["national_income", "disposable_income"], periods=400)
    for label in found.columns:
        for output in found.outputs:
            assert found[output, label] == pytest.approx(
                float(path[output, label][-1]), rel=1e-9, abs=1e-8
            ), (output, label)


@pytest.mark.parametrize("name", ["GL06SIM", "GL06PC", "GL06LP2"])
def test_every_accounting_identity_holds_of_the_multipliers(name):
    """What must be zero in every state has a derivative of zero along the steady states."""
    model = models.get(name)
    found = long_run(model)

    @functools.partial(jax.jit, static_argnums=0)
    def moved(residuals, tangent):
        return jax.jvp(residuals, (found.state,), (tangent,))[1]

    tangents = [
        model.State(**{key: jnp.asarray(found[key, label]) for key in model.State.fields})
        for label in found.columns
        if label not in found.undefined
    ]

    def balance(state):
        path = jax.tree.map(lambda x: jnp.stack([x, x]), state)
        return accounts.residuals(model, path)

    for tangent in tangents:
        largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(tangent))
        for leaf in jax.tree.leaves(moved(balance, tangent)):
            assert float(jnp.max(jnp.abs(leaf))) <= 1e-11 * (1 + largest)


def test_it_is_what_jax_makes_of_the_steady_state():
    slopes = jax.jacrev(lambda p: steady_state(SIM, p).household_money_stock)(SIM.params())
    found = long_run(SIM, "household_money_stock", wrt="params")
    for key in SIM.Params.fields:
        assert found[key] == pytest.approx(float(getattr(slopes, key)), rel=1e-9, abs=1e-7)


class Params(Record):
    growth: Scalar = param(2.0, symbol="g", bounds=(-10, 10), unit=".")


class Scenario(Record):
    level: Scalar = exogenous(1.0, symbol="l", unit=".")


class State(Record):
    x: Scalar = index("x", "", unit=".")


def one_variable(name, law, start=0.3):
    def step(prior, params, scenario):
        return State(x=law(prior.x, params.growth, scenario.level))

    return Model(
        name, Params, Scenario, State, lambda p, s: State(x=jnp.asarray(start)), step, periods=20
    )


HERON = one_variable("HERON", lambda x, g, level: 0.7 * x + 0.15 * (x + g * level / x), 1.0)
"""Rests at sqrt(g l), which a share of a Newton step approaches by a factor 0.7 per period."""


def test_error_bounds_hold_and_are_no_excuse():
    """The state of a run that has not settled: the bound covers the error, and not by far.

    Differentiating the iterations themselves, as a backward pass through them would, converges too, but
    lags: after k periods it still misses about k times what the state misses (the tolerance of a solver
    enters a derivative either way; only here is it known).
    """
    path = simulate(HERON, periods=40)
    exact = 0.5 / np.sqrt(2.0)
    through = jacobian(HERON, "x", periods=40)["growth"]
    for periods in (22, 26, 30, 34, 38):
        found = long_run(HERON, "x", wrt="growth", state=path[periods - 1])
        error, bound = abs(found["growth"] - exact), found.errors[0, 0]
        assert error <= bound <= 10 * error + 1e-13
        assert abs(through[periods - 1] - exact) > 3 * error
        assert found.residual > 1e-8
    settled = long_run(HERON, "x", wrt="growth")
    assert abs(settled["growth"] - exact) <= settled.errors[0, 0] < 1e-13


def test_a_state_that_is_not_at_rest_is_refused():
    path = simulate(HERON, periods=5)
    with pytest.raises(ValueError, match=r"HERON: the state given is not at rest: .* x from"):
        long_run(HERON, state=path[1])


def test_a_wrong_closed_form_is_refused():
    wrong = copy.copy(models.GL06SIM)
    wrong._variants = {}
    right = models.GL06SIM.steady_state
    assert right is not None
    wrong.steady_state = lambda p, s: right(p, s).replace(household_money_stock=70.0)
    with pytest.raises(RuntimeError, match=r"closed form .* is not at rest: a period changes"):
        long_run(wrong)


CUBIC = one_variable("CUBIC", lambda x, g, level: x + 0.25 * g * (x - x**3))
"""Rests at 0, unstable, and at -1 and 1."""


def test_several_steady_states_are_found_and_told_apart():
    found = steady_states(CUBIC, starts=24)
    assert sorted(np.asarray(found.states.x)) == pytest.approx([-1, 0, 1], abs=1e-12)
    assert float(found.states.x[0]) == pytest.approx(1)  # that of the run
    radii = dict(zip(np.round(np.asarray(found.states.x)), found.spectral_radii, strict=True))
    # The slope is 1 + g/4 (1 - 3 x^2): 0 at both ends, 3/2 in between.
    assert [radii[-1], radii[0], radii[1]] == pytest.approx([0, 1.5, 0], abs=1e-9)
    assert found.counts.sum() + found.failed == 24 and len(found) == 3
    assert "3 steady states" in str(found) and "UNSTABLE, spectral radius 1.5" in str(found)
    one = steady_states(models.GL06SIM, starts=8)
    assert len(one) == 1 and one.counts[0] == 8
    assert "continuum: the step conserves household_money_stock - gov" in str(one)


def test_starts_of_your_own():
    found = steady_states(CUBIC, starts=State(x=jnp.array([-2.0, -1.5])))
    assert sorted(np.asarray(found.states.x)) == pytest.approx([-1, 1])
    assert found.counts.tolist() == [0, 2]
    with pytest.raises(ValueError, match="at least one start"):
        steady_states(CUBIC, starts=0)
    with pytest.raises(TypeError, match="CUBIC expects State"):
        steady_states(CUBIC, starts=[1.0])


def test_an_unstable_steady_state_is_said():
    with pytest.warns(RuntimeWarning, match=r"unstable \(spectral radius 1.5\)"):
        found = long_run(CUBIC, state=State(x=jnp.asarray(0.0)))
    assert not found.stable and "UNSTABLE" in str(found)


@pytest.mark.parametrize(
    ("law", "start", "says"),
    [
        (lambda x, g, level: x + g, 0.0, r"changes x from 7802 to 7804, .* radius 1 with .* a trend"),
        (lambda x, g, level: 3 * x + g, 0.3, "The run diverges: x ended infinite"),
        (lambda x, g, level: jnp.where(x > 0, -g, g), 0.3, "from -?2 to -?2, .* 0: it may cycle"),
    ],
)  # fmt: skip
def test_no_steady_state_says_what_newton_saw(law, start, says):
    with pytest.raises(RuntimeError, match=f"NONE: no steady state was found .* {says}"):
        steady_state(one_variable("NONE", law, start))


def test_an_input_that_leaves_no_steady_state_has_no_multiplier():
    model = one_variable("DRIFT", lambda x, g, level: x + g * (level - 1))
    found = long_run(model, state=State(x=jnp.asarray(0.3)), params=model.params(growth=0.0))
    assert found.undefined == ("scenario.level",) or np.isfinite(found.matrix).all()
    found = long_run(model)
    assert found.undefined == ("scenario.level",)
    assert np.isnan(found["scenario.level"]) and found["growth"] == pytest.approx(0)
    assert "No steady state with any other value of scenario.level" in str(found)


def test_vectors_are_labelled():
    found = long_run(models.get("IOPC"), ["national_income"])
    assert any("[" in label for label in found.columns)
    assert found.matrix.shape == (len(found.rows), len(found.columns))
    at = {label: value for label, value in zip(found.columns, found.at, strict=True)}
    shapes = {one.label: np.shape(found["national_income", one.label]) for one in found.inputs}
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == len(at)


def test_tables():
    found = long_run(models.GL06SIM, ["national_income", "household_money_stock"])
    frame, data = found.to_pandas(), found.to_xarray()
    assert frame.loc["national_income", "tax_rate"] == pytest.approx(-500)
    assert float(
        data.derivative.sel(variable="national_income", input="tax_rate")
    ) == pytest.approx(-500)
    assert float(data.level.sel(variable="household_money_stock")) == pytest.approx(80)
    text = str(found)
    assert "steady state" in text and "-500" in text and "household_money_stock" in text
    assert "returns to it (spectral radius 0.8462)" in text


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"not by 'initial.household_money_stock'"):
        long_run(models.GL06SIM, wrt="initial.household_money_stock")
    with pytest.raises(KeyError, match="national_incom"):
        long_run(models.GL06SIM, "national_incom")
    with pytest.raises(TypeError, match="long_run takes names of variables"):
        long_run(models.GL06SIM, lambda path: path)
    with pytest.raises(
        TypeError, match=r"within jax\.jit, jax\.grad and the like use steady_state"
    ):
        jax.grad(lambda t: long_run(models.GL06SIM, params=models.GL06SIM.params(tax_rate=t)))(0.2)
    with pytest.raises(ValueError, match=r"for many, put jax\.vmap around steady_state"):
        long_run(models.GL06SIM, params=models.GL06SIM.params(tax_rate=jnp.array([0.2, 0.3])))
    with pytest.raises(KeyError, match="was not differentiated"):
        long_run(models.GL06SIM, "national_income", wrt="tax_rate")["propensity_to_consume_income"]


def test_single_precision(float32):
    found = long_run(SIM, "household_money_stock", wrt="tax_rate")
    with jax.enable_x64(True):
        exact = long_run(models.GL06SIM, "household_money_stock", wrt="tax_rate")["tax_rate"]
    assert abs(found["tax_rate"] - exact) <= found.errors[0, 0] <= 1e-2 * abs(exact)
