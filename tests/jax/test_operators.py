"""Derivatives as operators: products, compositions, second derivatives, and series of any order."""

import warnings

import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest
from model_cases import disturbed

from macrostat_jax import (
    Model,
    Record,
    Scalar,
    count_compilations,
    diff,
    exogenous,
    index,
    models,
    noise,
    param,
    simulate,
)
from macrostat_jax.diff import (
    check,
    gauss_newton_operator,
    hessian_operator,
    jacobian,
    linear_operator,
    taylor,
)
from macrostat_jax.models import GL06PC, GL06SIM, GL06SIMEX, LINEAR2D

DETERMINISTIC = [m for m in map(models.get, models.names()) if not (m.random or m.random_start)]
ALL = ("params", "scenario", "initial")


def half_square(path):
    return 0.5 * (path.national_income**2).mean()


def every(model):
    return tuple(group for group in ALL if group != "scenario" or model.Scenario.fields)


LARGE = ("GL06INSOUT", "ECO3IOPC", "PichlerEtAl2022DIO")
"""The models of which a dense Jacobian takes long to compile."""


@pytest.mark.parametrize("model", [pytest.param(m, id=m.name) for m in DETERMINISTIC])
def test_adjoint_identity(model):
    J = linear_operator(model, wrt=every(model), **disturbed(model, 4))
    rng = np.random.default_rng(3)
    v, w = rng.normal(size=J.shape[1]), rng.normal(size=J.shape[0])
    pushed = np.asarray(J.mv(v))
    finite = np.isfinite(pushed)  # capacities that nothing limits are infinite
    w = np.where(finite, w, 0.0)
    pulled = np.asarray(J.rmv(w))
    left, right = pushed[finite] * w[finite], v * pulled
    # <J v, w> = <v, J' w>, up to the rounding of a few hundred terms.
    assert abs(left.sum() - right.sum()) <= 1e-13 * (np.abs(left).sum() + np.abs(right).sum())


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(m, id=m.name, marks=[pytest.mark.slow] if m.name in LARGE else [])
        for m in DETERMINISTIC
    ],
)
def test_products_are_those_of_the_dense_jacobian(model):
    given = disturbed(model, 4)
    dense = jacobian(model, wrt=every(model), **given)
    J = linear_operator(model, wrt=every(model), **given)
    matrix = dense.matrix()
    assert J.shape == matrix.shape and list(dense.values) == list(J.codomain.labels)
    rng = np.random.default_rng(3)
    v, w = rng.normal(size=J.shape[1]), rng.normal(size=J.shape[0])
    finite = np.isfinite(matrix).all(axis=1)
    w = np.where(finite, w, 0.0)
    # Derivatives are of very different sizes: rounding is that of the largest terms.
    size = np.max(np.abs(matrix[finite]))
    named = J.mv(J.domain.unpack(v))
    for label, part in J.codomain.unpack(matrix @ v).items():
        np.testing.assert_allclose(named[label], part, rtol=1e-11, atol=1e-12 * size)
    np.testing.assert_allclose(J.rmv(w), w[finite] @ matrix[finite], rtol=1e-11, atol=1e-12 * size)


@pytest.fixture(scope="module")
def operator():
    with jax.enable_x64(True):
        yield linear_operator(
            GL06PC, ("national_income", "wealth"), wrt=("params", "scenario"), periods=12
        )


def test_dense_forms_and_chunks(operator):
    exact = jacobian(
        GL06PC, ("national_income", "wealth"), wrt=("params", "scenario"), periods=12
    ).matrix()
    for mode in ("forward", "reverse"):
        for chunk in (None, 5):  # neither 24 nor 42 is a multiple of 5
            found = operator.to_dense(mode=mode, chunk=chunk)
            np.testing.assert_allclose(found, exact, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(operator.T.to_dense(), exact.T, rtol=1e-11, atol=1e-11)
    labelled = operator.to_jacobian(chunk=7)
    np.testing.assert_allclose(labelled.matrix(), exact, rtol=1e-11, atol=1e-11)
    assert labelled["wealth", "scenario.wage_rate"].shape == (12, 12)
    table = operator.to_pandas()
    assert table.loc["wealth[11]", "scenario.government_demand[3]"] == pytest.approx(
        exact[23, 6 + 3], rel=1e-11
    )
    array = operator.to_xarray(chunk=8).sel(output="national_income[0]", input="tax_rate")
    assert float(array) == pytest.approx(exact[0, 0], rel=1e-11)


def test_labels_of_products(operator):
    permanent = operator.mv({"TaxRate": 0.01, "scenario.government_demand": 1.0})
    assert list(permanent) == ["national_income", "wealth"]
    J = operator.to_jacobian()
    expected = 0.01 * J["wealth", "tax_rate"] + J["wealth", "scenario.government_demand"].sum(1)
    np.testing.assert_allclose(permanent["wealth"], expected, rtol=1e-12)
    pulled = operator.rmv({"Wealth": np.arange(12.0)})
    assert pulled["scenario.wage_rate"].shape == (12,)
    np.testing.assert_allclose(
        pulled["tax_rate"], np.arange(12.0) @ J["wealth", "tax_rate"], rtol=1e-12
    )
    assert "24 x 42" in repr(operator) and "scenario.wage_rate[12]" not in repr(operator)


def test_compositions(operator):
    dense = operator.to_dense()
    second = operator.T @ operator
    np.testing.assert_allclose(second.to_dense(), dense.T @ dense, rtol=1e-10, atol=1e-8)
    total = 2.0 * operator + operator
    np.testing.assert_allclose(total.to_dense(), 3 * dense, rtol=1e-12, atol=1e-12)
    # Across two models: the wealth of one is what the other's government spends.
    other = linear_operator(
        GL06SIM, "national_income", wrt="scenario.government_demand", periods=12
    )
    chain = other @ linear_operator(GL06PC, "wealth", periods=12).relabel(
        {"wealth": "scenario.government_demand"}
    )
    np.testing.assert_allclose(
        chain.to_dense(), other.to_dense() @ dense[12:, :6], rtol=1e-11, atol=1e-10
    )
    assert chain.to_jacobian()["national_income", "tax_rate"].shape == (12,)


def test_lineax_solves_with_operators(operator):
    dense = operator.to_dense()
    rng = np.random.default_rng(0)
    right = rng.normal(size=dense.shape[1])
    form = operator.as_lineax()
    np.testing.assert_allclose(form.mv(jnp.asarray(right)), dense @ right, rtol=1e-11, atol=1e-11)
    newton = gauss_newton_operator(GL06PC, "national_income", wrt="scenario", periods=12)
    assert lineax.is_positive_semidefinite(newton.as_lineax())
    form = newton.as_lineax()
    damped = lineax.TaggedLinearOperator(
        form + lineax.IdentityLinearOperator(form.in_structure()), lineax.positive_semidefinite_tag
    )
    right = rng.normal(size=newton.shape[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = lineax.linear_solve(damped, jnp.asarray(right), lineax.CG(1e-12, 1e-12)).value
    exact = np.linalg.solve(newton.to_dense() + np.eye(newton.shape[0]), right)
    np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-10)


def test_second_derivatives_as_operators():
    H = hessian_operator(GL06PC, half_square, periods=12)
    exact = diff.hessian(GL06PC, half_square, periods=12).matrix()
    np.testing.assert_allclose(H.to_dense(), exact, rtol=1e-10)
    np.testing.assert_allclose(H.mv({"tax_rate": 1.0})["tax_rate"], exact[0, 0], rtol=1e-10)
    assert H.T is H
    # Half the mean square of a path is a function of the path alone, here with the weight 1 / T.
    J = jacobian(GL06PC, "national_income", periods=12).matrix()
    G = gauss_newton_operator(GL06PC, "national_income", periods=12)
    np.testing.assert_allclose(G.to_dense(), J.T @ J, rtol=1e-11)

    def quartic(outputs):
        return jnp.sum(outputs["national_income"] ** 4)

    curved = gauss_newton_operator(GL06PC, "national_income", loss=quartic, periods=12)
    path = np.asarray(
        diff.jvp(GL06PC, "national_income", {"tax_rate": 0.0}, periods=12)[0]["national_income"]
    )
    np.testing.assert_allclose(curved.to_dense(), J.T @ np.diag(12 * path**2) @ J, rtol=1e-10)
    by_lineax = curved.as_lineax().mv(jnp.ones(6))
    np.testing.assert_allclose(by_lineax, curved.to_dense() @ np.ones(6), rtol=1e-10)


def test_operators_compile_once_whatever_the_values():
    def session(rate):
        J = linear_operator(
            GL06SIMEX, "national_income", params=GL06SIMEX.params(tax_rate=rate), periods=9
        )
        return J.mv({"tax_rate": 1.0}), J.rmv({"national_income": 1.0}), J.to_dense()

    session(0.2)
    with count_compilations() as compilations:
        session(0.3)
    assert compilations.count == 0


# --- random inputs -----------------------------------------------------------------------------


class Reversion(Record):
    persistence: Scalar = param(0.9, symbol=r"\rho", bounds=(0, 1))
    scale: Scalar = param(0.3, symbol=r"\sigma", bounds=(0, 1))


class Nothing(Record):
    pass


class Draw(Record):
    news: Scalar = noise("normal", symbol=r"\xi")


class Level(Record):
    x: Scalar = index("x", r"\rho x_{-1} + \sigma \xi")


AR1 = Model(
    "AR1",
    Reversion,
    Nothing,
    Level,
    lambda params, scenario: Level(x=jnp.asarray(1.0)),
    lambda prior, params, scenario, noise: Level(
        x=params.persistence * prior.x + params.scale * noise.news
    ),
    Noise=Draw,
    periods=10,
)


def test_random_inputs():
    key = jax.random.key(4)
    J = linear_operator(AR1, "x", wrt=("noise", "params"), key=key)
    # x_t = rho^(t+1) + sum over s of rho^(t-s) sigma xi_s.
    lags = np.subtract.outer(np.arange(10), np.arange(10))
    exact = np.where(lags >= 0, 0.3 * 0.9 ** np.maximum(lags, 0), 0.0)
    dense = J.to_dense()
    np.testing.assert_allclose(dense[:, :10], exact, rtol=1e-13, atol=1e-16)
    draws = np.asarray(AR1.noise(key).news)
    np.testing.assert_allclose(dense[:, 11], exact @ draws / 0.3, rtol=1e-13)
    assert J.to_jacobian().columns()[:2] == ["noise.news[0]", "noise.news[1]"]
    series = taylor(AR1, "x", {"noise.news": 1.0, "scale": 1.0}, order=2, key=key)
    # Bilinear in the two: the second-order term is the product of the directions.
    np.testing.assert_allclose(series.coefficients["x"][2], exact.sum(axis=1) / 0.3, rtol=1e-12)


# --- series of any order -----------------------------------------------------------------------


def test_linear_system_to_all_orders():
    """x_t = (A + e E)^t x_0 is a polynomial in e: its coefficients by polynomial arithmetic."""
    periods, order = 6, 6
    A, x0 = np.array([[0.9, 0.1], [-0.2, 0.8]]), np.array([1.0, 0.0])
    E = np.array([[0.3, -0.5], [0.7, 0.2]])
    direction = {"a11": E[0, 0], "a12": E[0, 1], "a21": E[1, 0], "a22": E[1, 1]}
    series = taylor(LINEAR2D, "state", direction, order=order, periods=periods)
    assert series.method == "series through each period" and series.order == order
    polynomial = np.zeros((order + 1, 2))
    polynomial[0] = x0
    for t in range(periods):
        polynomial = polynomial @ A.T + np.vstack([np.zeros((1, 2)), polynomial[:-1] @ E.T])
        found = np.asarray(series.coefficients["state"])[:, t]
        np.testing.assert_allclose(found, polynomial, rtol=1e-12, atol=1e-14)
    # From order 6 on x_5 has no more terms: the series is the function.
    moved = LINEAR2D.params(
        **{k: getattr(LINEAR2D.params(), k) + 0.1 * d for k, d in direction.items()}
    )
    exact = simulate(LINEAR2D, moved, periods=periods).state
    np.testing.assert_allclose(series(0.1)["state"], exact, rtol=1e-12)


def test_smooth_matrix_function_identity():
    """f([[A, E], [0, A]]) has the derivative of f at A along E in its upper right block."""
    A = np.array([[0.9, 0.1], [-0.2, 0.8]])
    E = np.random.default_rng(1).normal(size=(2, 2))
    direction = {"a11": E[0, 0], "a12": E[0, 1], "a21": E[1, 0], "a22": E[1, 1]}
    moved = linear_operator(LINEAR2D, "state", periods=9).mv(direction)["state"]
    block = np.block([[A, E], [np.zeros((2, 2)), A]])
    for t in range(9):
        power = np.linalg.matrix_power(block, t + 1)
        np.testing.assert_allclose(power[:2, :2], np.linalg.matrix_power(A, t + 1), rtol=1e-13)
        # x_0 is (1, 0).
        np.testing.assert_allclose(moved[t], power[:2, 2], rtol=1e-12, atol=1e-14)


def test_both_ways_to_a_series_agree():
    direction = {"tax_rate": 0.1, "scenario.government_demand": 1.0, "initial.wealth": 5.0}
    by = {
        method: taylor(GL06PC, "national_income", direction, order=3, method=method, periods=8)
        for method in ("series", "nested")
    }
    one, other = (found.coefficients["national_income"] for found in by.values())
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    derivative = by["series"].derivative(1)["national_income"]
    exact = linear_operator(GL06PC, "national_income", wrt=tuple(direction), periods=8).mv(
        direction
    )
    np.testing.assert_allclose(derivative, exact["national_income"], rtol=1e-12)
    array = by["series"].to_xarray()["national_income"]
    assert array.dims == ("order", "time") and array.shape == (4, 8)


def test_series_of_a_model_with_a_solver():
    iopc = models.get("IOPC")
    name = next(iter(iopc.Params.fields))
    series = taylor(iopc, None, {name: 1.0}, order=1, periods=3)
    assert series.method == "tangents of tangents"
    exact = linear_operator(iopc, None, wrt=name, periods=3).mv({name: 1.0})
    for key, value in series.derivative(1).items():
        np.testing.assert_allclose(value, exact[key], rtol=1e-12, atol=1e-12)
    with pytest.raises(NotImplementedError, match=r"IOPC.*no rule for custom_linear_solve"):
        taylor(iopc, None, {name: 1.0}, order=1, periods=3, method="series")


# --- rules of the user's own -------------------------------------------------------------------


class Slope(Record):
    rate: Scalar = param(0.7, symbol="a", bounds=(0, 2))


class Push(Record):
    push: Scalar = exogenous(0.5, symbol="g")


class Value(Record):
    y: Scalar = index("y", r"\tanh(a y_{-1} + g)")


def with_rules(slope):
    """Two models whose step calls a function with a derivative rule written by hand, in either mode."""

    @jax.custom_jvp
    def forward(x):
        return jnp.tanh(x)

    @forward.defjvp
    def _(primals, tangents):
        y = jnp.tanh(primals[0])
        return y, slope * (1 - y**2) * tangents[0]

    @jax.custom_vjp
    def reverse(x):
        return jnp.tanh(x)

    reverse.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, g: (slope * (1 - y**2) * g,))

    def model(function):
        return Model(
            "RULED",
            Slope,
            Push,
            Value,
            lambda params, scenario: Value(y=jnp.asarray(0.1)),
            lambda prior, params, scenario: Value(
                y=function(params.rate * prior.y + scenario.push)
            ),
            periods=6,
        )

    return model(forward), model(reverse), model(jnp.tanh)


def test_rules_written_by_hand_pass_through_and_are_checked():
    forward, reverse, plain = with_rules(1.0)
    exact = linear_operator(plain, wrt=ALL)
    v, w = exact.domain.pack({"rate": 1.0, "scenario.push": 0.3}), np.arange(6.0)
    by_forward, by_reverse = linear_operator(forward, wrt=ALL), linear_operator(reverse, wrt=ALL)
    np.testing.assert_allclose(by_forward.mv(v), exact.mv(v), rtol=1e-13)
    np.testing.assert_allclose(by_forward.rmv(w), exact.rmv(w), rtol=1e-13)
    np.testing.assert_allclose(by_reverse.rmv(w), exact.rmv(w), rtol=1e-13)
    assert check(forward).passed
    wrong, _, _ = with_rules(1.0 + 1e-3)
    outcome = check(wrong)
    # Both modes use the rule, so they agree with each other; finite differences do not know it.
    assert not outcome.passed and outcome.verdict("rate") == "disagrees"
    agree = outcome.forward_reverse["y"]["rate"]
    assert agree.verdict == "agrees" and outcome.autodiff_numerical["y"]["rate"].rel_err > 1e-4


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda J: J.mv({"rates": 1.0}), KeyError, "'rates' is not in this space: tax_rate"),
        (lambda J: J.mv({"tax_rate": np.ones(2)}), ValueError, r"'tax_rate' needs the shape \(\)"),
        (lambda J: J.mv(np.ones(3)), ValueError, r"has the shape \(42,\), not \(3,\)"),
        (lambda J: J.rmv({"tax_rate": 1.0}), KeyError, "national_income, wealth"),
        (lambda J: J @ J, ValueError, "they do not compose. See relabel"),
        (lambda J: J @ np.ones(42), TypeError, "for a product with ndarray use mv"),
        (lambda J: J + J.T, ValueError, "they do not add"),
        (lambda J: J.to_dense(mode="fwd"), ValueError, "auto, forward, reverse"),
        (lambda J: J.to_dense(chunk=0), ValueError, "at least one product, not 0"),
        (lambda J: J.T.to_jacobian(), TypeError, "not the inputs of one model"),
        (
            lambda J: linear_operator(GL06PC, params=GL06PC.params(tax_rate=np.array([0.2, 0.3]))),
            ValueError,
            "one run, not of a batch",
        ),
        (lambda J: hessian_operator(GL06PC, lambda p: p.wealth), TypeError, "one real number"),
        (lambda J: taylor(GL06PC, None, {"tax_rate": 1.0}, order=0), ValueError, "at least 1"),
        (
            lambda J: taylor(GL06PC, None, {"tax_rate": 1.0}, method="jet"),
            ValueError,
            "auto, series, nested",
        ),
    ],
)
def test_bad_input(operator, call, error, message):
    with pytest.raises(error, match=message):
        call(operator)
