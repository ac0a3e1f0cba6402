"""Sparsity and colours of a step, and the derivatives of paths that are made of those of periods."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import disturbed

from macrostat_jax import (
    Axis,
    Model,
    Record,
    Scalar,
    Vector,
    exogenous,
    index,
    models,
    param,
    simulate,
    steady_state,
)
from macrostat_jax.causality import dependencies
from macrostat_jax.diff import (
    impulse_responses,
    jacobian,
    sequence_space_jacobian,
    step_jacobian,
    step_sparsity,
)
from macrostat_jax.models import GL06PC, GL06SIM, LINEAR2D

DETERMINISTIC = [m for m in map(models.get, models.names()) if not (m.random or m.random_start)]
LARGE = ("GL06INSOUT", "GL06LP2", "GL06LP3", "ECO3IOPC", "PichlerEtAl2022DIO", "IOPC")
"""The models of which a dense Jacobian takes long to compile."""


def cases(large):
    return [
        pytest.param(m, id=m.name, marks=[pytest.mark.slow] if m.name in large else [])
        for m in DETERMINISTIC
    ]


def every(model):
    return tuple(
        group
        for group in ("params", "scenario", "initial")
        if group != "scenario" or model.Scenario.fields
    )


@pytest.mark.parametrize("model", cases(LARGE))
def test_the_recursion_is_dense_forward_mode(model):
    given = disturbed(model, 6)
    exact = jacobian(model, wrt=every(model), mode="forward", **given)
    found = sequence_space_jacobian(model, wrt=every(model), **given)
    finite = np.isfinite(exact.matrix()).all(axis=1)  # what nothing limits is infinite
    largest = np.abs(exact.matrix()[finite]).max()
    assert list(found.values) == list(exact.values) and found.columns() == exact.columns()
    np.testing.assert_allclose(
        found.matrix()[finite], exact.matrix()[finite], rtol=1e-12, atol=1e-12 * largest
    )


@pytest.mark.parametrize("model", [pytest.param(m, id=m.name) for m in DETERMINISTIC])
def test_the_pattern_holds_every_nonzero_element(model):
    """The traced pattern against the products themselves: with twice the colours there would be no
    difference, with an element too few another column's derivative would show up in its place."""
    found = step_sparsity(model, every(model))
    assert found.products <= min(found.pattern.shape)
    # Each colour is one of lines that have no element in common.
    lines = found.pattern.toarray() if found.by == "rows" else found.pattern.toarray().T
    for colour in range(found.products):
        assert lines[found.colours == colour].sum(axis=0).max() == 1
    # By field it is what the trace of the step itself says, without what has no derivative.
    used = dependencies(model)
    table, row = found.pattern.toarray(), 0
    for block in found.rows.blocks:
        column = 0
        for one, inputs in zip(found.columns.inputs or (), found.columns.blocks, strict=True):
            part = table[row : row + block.size, column : column + inputs.size]
            group = "prior" if one.group == "initial" else one.group
            if not model.constraints:  # a constraint passes one parameter on to another
                assert not part.any() or f"{group}.{one.key}" in used[block.label]
            column += inputs.size
        row += block.size


def test_products_of_the_portfolio_model():
    found = step_sparsity(GL06PC)
    assert found.products == 6 and found.pattern.shape == (14, 14)
    assert "6 products by columns" in repr(found)
    table = found.to_pandas()
    assert table.loc["wealth", "initial.wealth"] and not table.loc["wealth", "initial.taxes"]
    state = steady_state(GL06PC)
    step = step_jacobian(GL06PC)
    exact = jacobian(
        GL06PC, wrt=("initial", "params", "scenario"), initial=state, mode="forward", periods=1
    )
    np.testing.assert_allclose(step.matrix(), exact.matrix(), rtol=1e-13, atol=1e-13)
    assert step.mode == "12 products by rows for 23 inputs" and step.columns() == exact.columns()
    # A pattern from elsewhere serves as well; one that is too full only takes more products.
    full = step_jacobian(GL06PC, "initial", sparsity=np.ones((14, 14)))
    assert full.mode == "14 products by columns for 14 inputs"
    np.testing.assert_allclose(full.matrix(), step.matrix()[:, :14], rtol=1e-13, atol=1e-13)


# --- a step that moves elements about ------------------------------------------------------------

FIRM = Axis("firm", size=4)


class Weights(Record):
    matrix: jax.Array = param(0.1, symbol="a", shape=(FIRM, FIRM))
    rate: Vector = param(0.5, symbol="b", shape=FIRM)
    scale: Scalar = param(2.0, symbol="c")


class Orders(Record):
    order: Vector = exogenous(1.0, symbol="o", shape=FIRM)


class Firms(Record):
    mixed: Vector = index("m", "a x_{-1}", shape=FIRM)
    shifted: Vector = index("s", "x_{-1}", shape=FIRM)
    picked: Vector = index("p", "x_{-1}", shape=FIRM)
    running: Vector = index("r", "x_{-1}", shape=FIRM)
    total: Scalar = index("y", "x_{-1}")
    switched: Vector = index("w", "x_{-1}", shape=FIRM)
    stopped: Vector = index("z", "x_{-1}", shape=FIRM)
    table: jax.Array = index("t", "x_{-1}", shape=(FIRM, FIRM))


def firms_step(prior, params, scenario):
    x = prior.shifted + scenario.order * params.rate
    stacked = jnp.stack([x, prior.picked]).T.reshape(-1)[:4]
    return Firms(
        mixed=jnp.einsum("ij,j->i", params.matrix, x),
        shifted=jnp.concatenate([x[1:], x[:1] * params.scale]),
        picked=x[jnp.array([3, 0, 0, 2])] + jnp.pad(x[1:3], 1)[::-1],
        running=jnp.cumsum(stacked) / jnp.arange(1.0, 5.0),
        total=jnp.sum(prior.mixed) + jax.nn.softplus(prior.total),
        switched=jnp.where(prior.total > 0, jnp.sin(x), prior.running),
        stopped=jax.lax.stop_gradient(x) * prior.stopped,
        table=x[:, None] * prior.table.T + jax.lax.dynamic_slice(x, (1,), (1,))[0],
    )


FIRMS = Model(
    "FIRMS",
    Weights,
    Orders,
    Firms,
    lambda params, scenario: Firms.filled(0.3),
    firms_step,
    periods=4,
)


def test_elements_are_followed_one_by_one():
    found = step_sparsity(FIRMS, ("initial", "params", "scenario"))
    rng = np.random.default_rng(5)
    shapes = {key: field.shape for key, field in FIRMS.State.fields.items()}
    state = Firms(**{key: jnp.asarray(rng.normal(size=shape)) for key, shape in shapes.items()})
    params = FIRMS.params(matrix=rng.normal(size=(4, 4)), rate=rng.normal(size=4))
    given: dict[str, Any] = dict(params=params, initial=state, periods=1)
    wrt = ("initial", "params", "scenario")
    exact = jacobian(FIRMS, wrt=wrt, mode="forward", **given).matrix()
    pattern = found.pattern.toarray()
    assert not np.any((exact != 0) & ~pattern)
    # Exact here, but for the branch of the switch that is not taken.
    more = np.argwhere(pattern & (exact == 0))
    rows, columns = found.rows.slots(), found.columns.slots()
    assert {rows[i].partition("[")[0] for i, _ in more} == {"switched"}
    step = step_jacobian(FIRMS, wrt, params=params, initial=state)
    np.testing.assert_allclose(step.matrix(), exact, rtol=1e-13, atol=1e-15)
    assert columns[0] == "initial.mixed[0]" and found.products < 20
    path = sequence_space_jacobian(FIRMS, wrt=wrt, params=params, initial=state)
    dense = jacobian(FIRMS, wrt=wrt, mode="forward", params=params, initial=state)
    for output, by_input in dense.values.items():
        for label, value in by_input.items():
            size = np.abs(value).max()
            np.testing.assert_allclose(path.values[output][label], value, atol=1e-12 * size + 1e-15)


# --- long runs and steady states -----------------------------------------------------------------


def test_long_run_of_sim():
    """Y* = G / theta and H* = (1 - alpha_1) (1 - theta) G / (alpha_2 theta), from the path's derivative."""
    J = sequence_space_jacobian(
        GL06SIM,
        ("national_income", "household_money_stock"),
        wrt=("params", "scenario.government_demand"),
        periods=400,
    )
    assert J["national_income", "tax_rate"][-1] == pytest.approx(-500.0, rel=1e-10)
    demand = J["national_income", "scenario.government_demand"]
    assert demand[-1].sum() == pytest.approx(5.0, rel=1e-10)
    money = J["household_money_stock", "propensity_to_consume_income"]
    assert money[-1] == pytest.approx(-200.0, rel=1e-10)
    # The same from the response to an impulse at the steady state, summed over time.
    lasting = impulse_responses(
        GL06SIM, wrt=("params", "scenario.government_demand"), periods=400
    ).permanent()
    income = lasting["national_income"]
    assert income["tax_rate"][-1] == pytest.approx(-500.0, rel=1e-10)
    assert income["scenario.government_demand"][-1] == pytest.approx(5.0, rel=1e-10)
    assert lasting["household_money_stock"]["propensity_to_consume_income"][-1] == pytest.approx(
        -200.0, rel=1e-10
    )


def test_linear_system_responds_with_powers_of_its_matrix():
    A = np.array([[0.9, 0.1], [-0.2, 0.8]])
    J = sequence_space_jacobian(LINEAR2D, wrt="initial", periods=7)["state", "initial.state"]
    for t in range(7):
        np.testing.assert_allclose(J[t], np.linalg.matrix_power(A, t + 1), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("model", [GL06SIM, GL06PC, models.get("GL06LP")], ids=lambda m: m.name)
def test_at_a_steady_state_one_response_is_the_whole_derivative(model):
    state = steady_state(model)
    exact = jacobian(model, wrt="scenario", initial=state, mode="forward", periods=9)
    found = sequence_space_jacobian(model, at="steady state", periods=9)
    largest = np.abs(exact.matrix()).max()
    np.testing.assert_allclose(found.matrix(), exact.matrix(), rtol=1e-12, atol=1e-12 * largest)
    for columns in found.values.values():
        for value in columns.values():
            assert np.all(value[~np.tri(9, dtype=bool)] == 0)  # no effect before the shock
    kernel = impulse_responses(model, "national_income", periods=9)
    label = "scenario.government_demand"
    np.testing.assert_array_equal(
        kernel["NationalIncome", label], found["national_income", label][:, 0]
    )


def test_responses_to_parameters_are_those_to_shocks():
    kernel = impulse_responses(GL06PC, "wealth", wrt=("tax_rate", "scenario"), periods=6)
    state = steady_state(GL06PC)
    h = 1e-5

    def run(size):
        shocks = GL06PC.shocks(periods=6, tax_rate_add=np.array([size]), start=0)
        return np.asarray(simulate(GL06PC, shocks=shocks, initial=state, periods=6).wealth)

    slope = (run(h) - run(-h)) / (2 * h)
    # Truncation of order h^2 = 1e-10, rounding of order 1e-14 * 80 / h = 1e-7: of some 100.
    np.testing.assert_allclose(kernel["wealth", "tax_rate"], slope, rtol=1e-6, atol=1e-6)
    assert kernel.to_jacobian()["wealth", "tax_rate"].shape == (6,)
    array = kernel.to_xarray()["wealth"]
    assert array.dims == ("lag", "input")
    np.testing.assert_allclose(
        array.sel(input="tax_rate"), kernel["wealth", "tax_rate"], rtol=1e-15
    )


def test_paths_with_shocks_of_parameters_and_results_as_tables():
    shocks = GL06PC.shocks(
        periods=8, tax_rate_add=0.02, propensity_to_consume_income_multiply=1.1, start=3
    )
    given: dict[str, Any] = dict(wrt=("params", "scenario"), shocks=shocks, periods=8)
    exact = jacobian(GL06PC, ("wealth", "taxes"), mode="forward", **given)
    found = sequence_space_jacobian(GL06PC, ("wealth", "taxes"), **given)
    largest = np.abs(exact.matrix()).max()
    np.testing.assert_allclose(found.matrix(), exact.matrix(), rtol=1e-12, atol=1e-12 * largest)
    dataset, table = found.to_xarray(), found.to_pandas()
    assert dataset["wealth"].dims == ("time", "input") and dataset.attrs["mode"] == found.mode
    assert table.loc["wealth", "tax_rate"].to_numpy() == pytest.approx(found["wealth", "tax_rate"])
    assert found.mode == "recursion over 8 periods, 12 products for 15 inputs in each"


def running(path):
    return path.wealth


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sequence_space_jacobian(GL06PC, running), TypeError, "running is a function"),
        (lambda: sequence_space_jacobian(GL06PC, at="rest"), ValueError, "'path', 'steady state'"),
        (
            lambda: sequence_space_jacobian(GL06PC, wrt="params", at="steady state"),
            ValueError,
            "only exogenous series have a time axis",
        ),
        (
            lambda: sequence_space_jacobian(
                GL06PC,
                at="steady state",
                scenario=GL06PC.scenario(periods=9, government_demand=25.0, start=4),
            ),
            ValueError,
            "'government_demand' moves: at a steady state it is constant",
        ),
        (
            lambda: impulse_responses(GL06PC, initial=GL06PC.State.filled(1.0)),
            ValueError,
            "not a steady state: a period changes 'consumption_household'",
        ),
        (
            lambda: impulse_responses(GL06PC, wrt="initial"),
            ValueError,
            "of a series or a parameter",
        ),
        (lambda: impulse_responses(GL06PC, periods=0), ValueError, "at least 1, not 0"),
        (
            lambda: step_jacobian(GL06PC, "initial", sparsity=np.ones((3, 3))),
            ValueError,
            r"has the shape \(3, 3\), the step's derivative \(14, 14\)",
        ),
        (lambda: step_jacobian(models.get("RandomWalk")), TypeError, "is random"),
        (
            lambda: sequence_space_jacobian(
                GL06PC, params=GL06PC.params(tax_rate=np.array([0.2, 0.3]))
            ),
            ValueError,
            "one run, not of a batch",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
