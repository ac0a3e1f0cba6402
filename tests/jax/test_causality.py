"""What depends on what: by the code, by the equations, and where they disagree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from macrostat_jax import (
    Axis,
    Matrix,
    Model,
    Record,
    Scalar,
    Vector,
    exogenous,
    index,
    models,
    param,
)
from macrostat_jax.causality import dependencies, equation_mismatches


@pytest.mark.parametrize("name", models.names())
def test_equations_say_what_the_code_does(name):
    assert [str(mismatch) for mismatch in equation_mismatches(models.get(name))] == []


def test_dependencies_of_simex():
    found = dependencies(models.GL06SIMEX)
    assert list(found) == list(models.GL06SIMEX.State.fields)
    assert found["consumption_demand"] == {
        "params.propensity_to_consume_income",
        "params.propensity_to_consume_savings",
        "prior.disposable_income",
        "prior.household_money_stock",
    }
    assert found["wages"] == {"scenario.wage_rate"}
    assert "params.tax_rate" in found["government_money_stock"]
    assert "params.tax_rate" not in found["national_income"]


class Params(Record):
    a: Scalar = param(0.5, symbol="a")
    b: Scalar = param(0.5, symbol=r"\beta")
    c: Scalar = param(0.5, symbol="c")


class Scenario(Record):
    g: Scalar = exogenous(1.0, symbol="G")


def two(first, second, step, *, symbols=("X_h", "Y^e")):
    """A model of two variables with these equations, and this step."""

    class State(Record):
        x: Scalar = index(symbols[0], first)
        y: Scalar = index(symbols[1], second)

    def whole(prior, params, scenario):
        x, y = step(prior, params, scenario)
        return State(x=x, y=y)

    start = State.filled(0.0)
    return Model("TWO", Params, Scenario, State, lambda params, scenario: start, whole)


@pytest.mark.parametrize(
    "function",
    [
        jax.jit(lambda a, b, c: (a * b, c)),
        jax.checkpoint(lambda a, b, c: (a * b, c)),  # type: ignore[attr-defined]
        lambda a, b, c: (jnp.where(a > 0, b, 0.0), c),
        lambda a, b, c: (jax.lax.cond(a > 0, lambda b: b, jnp.zeros_like, b), c),
        lambda a, b, c: (jax.lax.fori_loop(0, 3, lambda i, x: x * b, a), c),
        lambda a, b, c: (jax.lax.while_loop(lambda x: x < b, lambda x: x + 1.0, a), c),
        lambda a, b, c: jax.lax.scan(lambda x, _: ((x[0] * b, x[1]), None), (a, c), length=3)[0],
        lambda a, b, c: (jax.nn.relu(a) + jnp.logaddexp(a, b), jax.nn.relu(c)),
        lambda a, b, c: (jnp.linalg.solve(jnp.array([[a, 1.0], [b, 2.0]]), jnp.ones(2))[0], c),
    ],
    ids=["jit", "checkpoint", "where", "cond", "fori", "while", "scan", "custom_jvp", "solve"],
)
def test_the_trace_is_followed_into_every_call(function):
    def step(prior, params, scenario):
        return function(params.a, params.b, params.c)

    found = dependencies(two("", "", step))
    assert found == {"x": {"params.a", "params.b"}, "y": {"params.c"}}


def test_what_travels_round_a_loop_is_followed():
    def rotate(carry, _):
        a, b, c = carry
        return (b, c, a), None

    def step(prior, params, scenario):
        (x, _, _), _ = jax.lax.scan(rotate, (params.a, params.b, params.c), length=5)
        return x, scenario.g

    found = dependencies(two("", "", step))
    assert found == {"x": {"params.a", "params.b", "params.c"}, "y": {"scenario.g"}}


def linear(prior, params, scenario):
    x = params.a * prior.x + scenario.g
    return x, params.b * x + prior.y


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("a X_{h,-1} + G", r"\beta X_h + Y^e_{-1}"),
        (r"a \cdot X_{h,-1} + G", r"\beta X_{h} + Y_{-1}^e"),
        (r"\left( a\,X_{h,-1} \right) + \frac{G}{1}", r"Y^{e}_{-1} + \beta X_h"),
        (r"G + \max(0, a) X_{h,-1} \times 1.5", r"Y^e_{-1} + \text{all of } \beta X_h"),
        ("X_h - X_h + a X_{h,-1} + G", r"\beta X_h + Y^e_{-1}"),  # an implicit equation
    ],
)
def test_right_equations_pass_however_they_are_written(x, y):
    assert equation_mismatches(two(x, y, linear)) == []


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (
            "a X_{h,-1}",
            r"\beta X_h + Y^e_{-1}",
            "x = a X_{h,-1}: the equation does not lead to scenario.g, which the code uses.",
        ),
        (
            "a c X_{h,-1} + G",
            r"\beta X_h + Y^e_{-1}",
            "the equation leads to params.c, which the code does not use.",
        ),
        ("a X_h + G", r"\beta X_h + Y^e_{-1}", "does not lead to prior.x"),
        ("a X_{h,-1} + G", r"\beta X_{h,-1} + Y^e_{-1}", "does not lead to params.a, scenario.g"),
        ("a X_{g,-1} + G", r"\beta X_h + Y^e_{-1}", "names X, _, g, which nothing declares"),
        (r"\alpha X_{h,-1} + G", r"\beta X_h + Y^e_{-1}", r"names \alpha, which nothing declares"),
        (r"a X_{h,-1} + G_{-1}", r"\beta X_h + Y^e_{-1}", "which nothing declares"),
        (r"a X_{h,-2} + G", r"\beta X_h + Y^e_{-1}", "which nothing declares"),
    ],
)
def test_wrong_equations_are_caught(x, y, message):
    found = equation_mismatches(two(x, y, linear))
    assert found and any(message in str(mismatch) for mismatch in found)


def test_a_wrong_equation_in_a_registered_model_is_caught():
    sim = models.GL06SIM

    class State(sim.State):
        tax_demand: Scalar = index("T_d", r"\alpha_1 W N_s", sector="Government")

    def step(prior, params, scenario):
        return State(**vars(sim.step(prior, params, scenario)))

    model = Model(
        "WRONG", sim.Params, sim.Scenario, State, lambda params, scenario: State.filled(0.0), step
    )
    found = {mismatch.variable: mismatch for mismatch in equation_mismatches(model)}
    assert found["tax_demand"].only_code == ("params.tax_rate",)


def test_an_increment_names_both_periods():
    def step(prior, params, scenario):
        x = params.a * scenario.g
        return x, prior.y + x - prior.x

    assert equation_mismatches(two("a G", r"Y^e_{-1} + \Delta X_h", step)) == []
    (found,) = equation_mismatches(two("a G", r"Y^e_{-1} + X_h", step))
    assert found.only_code == ("prior.x",)


def test_a_variable_may_have_the_symbol_of_what_sets_it():
    def step(prior, params, scenario):
        return scenario.g, prior.x * scenario.g

    assert equation_mismatches(two("G", "G_{-1} G", step, symbols=("G", "Y"))) == []


def test_a_variable_that_is_a_lag_has_a_lag():
    def step(prior, params, scenario):
        return scenario.g + prior.y, prior.x

    model = two("G + M_{s,-2}", "M_{s,-1}", step, symbols=("M_s", "M_{s,-1}"))
    assert equation_mismatches(model) == []


def vectors(first, second):
    """A model of two vectors, of which the first is found from a matrix and a vector."""

    class VectorParams(Record):
        a: Matrix = param(0.1, symbol="a_{i,j}", shape=(INDUSTRIES, INDUSTRIES))
        b: Vector = param(0.5, symbol=r"\beta_{C,i}", shape=INDUSTRIES)

    class State(Record):
        x: Vector = index("x_i", first, shape=INDUSTRIES)
        y: Scalar = index("Y", second)

    def step(prior, params, scenario):
        x = jnp.linalg.solve(jnp.eye(2, dtype=params.a.dtype) - params.a, prior.x + scenario.g)
        return State(x=x, y=params.b @ x)

    start = State.filled(0.0)
    return Model("VECTORS", VectorParams, Scenario, State, lambda params, scenario: start, step)


INDUSTRIES = Axis("sector", ("A", "B"))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (r"x_{i,-1} + G + \sum_j a_{i,j} x_j", r"\sum_i \beta_{C,i} x_i"),
        (r"x_{i,-1} + G + \sum_{j=1}^n x_j a_{j,i}", r"\sum_{k} \beta_{C,k} x_k"),
    ],
)
def test_indices_have_any_name(x, y):
    assert equation_mismatches(vectors(x, y)) == []


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (r"x_{i,-1} + G", r"\sum_i \beta_{C,i} x_i", "does not lead to params.a"),
        (r"x_{j,-1} + G + \sum_j a_{i,j} x_j", r"\sum_i x_i", "does not lead to params.b"),
        (r"x_{i,-1} + G + \sum_j a_{i,l} x_j", r"\beta_{C,i} x_i", "names a, _, i, l"),
        (r"x_{i,-1} + G + \sum_j a_{i,i} x_j", r"\beta_{C,i} x_i", "names a, _, i, i"),
    ],
)
def test_wrong_equations_of_vectors_are_caught(x, y, message):
    found = equation_mismatches(vectors(x, y))
    assert found and any(message in str(mismatch) for mismatch in found)
