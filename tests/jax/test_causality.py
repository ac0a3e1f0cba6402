"""What depends on what: by the code, by the equations, and where they disagree."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import (
    Axis,
    Matrix,
    Model,
    Record,
    Scalar,
    Vector,
    causal_graph,
    exogenous,
    index,
    models,
    param,
)
from macrostat_jax.causality import dependencies, direct_dependencies, equation_mismatches


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


# Direct dependencies


@pytest.mark.parametrize("name", models.names())
def test_direct_dependencies_lead_to_all_dependencies(name):
    model = models.get(name)
    direct = {key: set(found) for key, found in direct_dependencies(model).items()}
    for key, inputs in dependencies(model).items():
        assert followed(key, direct) == inputs, key


def followed(start, direct):
    """The inputs that a variable leads to through variables of the same period."""
    reached, seen, waiting = set(), set(), [start]
    while waiting:
        for source in direct[waiting.pop()]:
            if not source.startswith("now."):
                reached.add(source)
            elif source not in seen:
                seen.add(source)
                waiting.append(source.removeprefix("now."))
    return reached


def test_direct_dependencies_of_simex():
    found = direct_dependencies(models.GL06SIMEX)
    assert found["consumption_supply"] == {"now.consumption_demand"}  # one and the same value
    assert found["disposable_income"] == {"now.labour_income", "now.tax_demand"}
    assert found["tax_demand"] == {"params.tax_rate", "now.labour_income"}
    assert found["wages"] == {"scenario.wage_rate"}
    by_text = direct_dependencies(models.GL06SIMEX, by="equations")
    assert by_text["disposable_income"] == {"now.labour_income", "now.tax_supply"}


def test_code_has_no_circles_and_equations_may():
    model = models.GL06SIM
    assert causal_graph.circular(causal_graph.adjacency(model)) == []
    (group,) = causal_graph.circular(causal_graph.adjacency(model, "equations"))
    assert {"state:disposable_income", "state:tax_supply", "state:consumption_demand"} <= set(group)
    assert "state:household_money_stock" not in group


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_variables_within_a_call_are_known(wrap):
    @wrap
    def equations(a, b, g):
        x = a * g
        return x, b + x

    def step(prior, params, scenario):
        return equations(params.a, params.b, scenario.g)

    found = direct_dependencies(two("", "", step))
    assert found == {"x": {"params.a", "scenario.g"}, "y": {"params.b", "now.x"}}


def test_values_that_are_no_variables_of_the_period_are_inputs():
    def step(prior, params, scenario):
        return prior.y, jnp.zeros_like(prior.x)

    assert direct_dependencies(two("", "", step)) == {"x": {"prior.y"}, "y": set()}
    with pytest.raises(ValueError, match="by must be 'code' or 'equations', not 'text'"):
        direct_dependencies(models.GL06SIM, "text")  # type: ignore[arg-type]


# Graphs

A, B, C, D = (("state", name) for name in "ABCD")


def test_a_matrix_and_its_edges():
    matrix = causal_graph.from_edges([(A, B), (A, B), (C, B)], [D])
    assert list(matrix.index) == list(matrix.columns) == [A, B, C, D]
    assert matrix.to_numpy().sum() == matrix.loc[A, B] + matrix.loc[C, B] == 2.0
    edges = causal_graph.edge_list(matrix)
    assert edges[["source", "target"]].to_numpy().tolist() == [
        ["state:A", "state:B"],
        ["state:C", "state:B"],
    ]
    assert causal_graph.edge_list(causal_graph.from_edges([])).empty


def test_levels_are_those_of_the_chain():
    chain = causal_graph.from_edges([(A, B), (B, C), (C, D)])
    np.testing.assert_allclose(causal_graph.trophic_levels(chain), [0, 1, 2, 3], atol=1e-12)
    # D hangs on A and C, two levels apart: least squares puts everything in between. Minimising
    # (b-a-1)^2 + (c-b-1)^2 + (d-c-1)^2 + (d-a-1)^2 by hand gives steps of 1/2 and d = a + 3/2.
    loop = causal_graph.from_edges([(A, B), (B, C), (C, D), (A, D)])
    np.testing.assert_allclose(causal_graph.trophic_levels(loop), [0, 0.5, 1, 1.5], atol=1e-12)
    circle = causal_graph.from_edges([(A, B), (B, A)])
    np.testing.assert_allclose(causal_graph.trophic_levels(circle), [0, 0], atol=1e-12)
    apart = causal_graph.from_edges([(A, B), (C, D)])
    np.testing.assert_allclose(causal_graph.trophic_levels(apart), [0, 1, 0, 1], atol=1e-12)
    assert len(causal_graph.trophic_levels(causal_graph.from_edges([]))) == 0


def test_networkx_has_the_same_graph():
    nx = pytest.importorskip("networkx")
    matrix = causal_graph.adjacency(models.GL06SIMEX)
    graph = causal_graph.to_networkx(matrix)
    assert nx.is_directed_acyclic_graph(graph)
    assert graph.number_of_edges() == len(causal_graph.edge_list(matrix))
    assert graph.nodes["prior:disposable_income"] == {"kind": "prior"}


def test_cycles():
    pytest.importorskip("networkx")
    matrix = causal_graph.from_edges([(B, A), (A, B), (B, C), (C, B), (C, A), (D, D)])
    assert causal_graph.cycles(matrix) == [
        ["state:D"],
        ["state:A", "state:B"],
        ["state:B", "state:C"],
        ["state:A", "state:B", "state:C"],
    ]
    assert causal_graph.circular(matrix) == [["state:A", "state:B", "state:C"], ["state:D"]]


def test_a_picture_has_every_node_and_edge():
    matrix = causal_graph.adjacency(models.GL06SIM)
    (axes,) = causal_graph.picture(matrix).axes
    texts = [text.get_text() for text in axes.texts]
    assert sorted(filter(None, texts)) == sorted(name for _, name in matrix.index)
    assert texts.count("") == matrix.to_numpy().sum()  # an arrow is a text without words
    assert causal_graph.picture(causal_graph.from_edges([])).axes
