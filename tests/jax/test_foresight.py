"""Perfect foresight: linear rational expectations in closed form, Ramsey's saddle path, and what fails."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import Record, Scalar, index
from macrostat_jax.foresight import block_tridiagonal, perfect_foresight
from macrostat_jax.solve import root, sensitivity


def cagan(prior, now, ahead, params, row):
    """p = a p(+1) + (1 - a) m: the price level today is a discounted sum of all money to come."""
    return {"price": params["a"] * ahead["p"] + (1 - params["a"]) * row["money"] - now["p"]}


@jax.jit
def prices(a, money, end):
    money = jnp.asarray(money)
    series = {"money": money}
    return perfect_foresight(cagan, {"p": 0.0}, {"p": end}, params={"a": a}, scenario=series)["p"]


def test_a_forward_looking_price_is_the_discounted_sum():
    a, periods = 0.8, 25
    money = 1 + 0.1 * np.random.default_rng(0).standard_normal(periods)
    ahead = np.arange(periods)[None] - np.arange(periods)[:, None] * 1.0
    weights = np.where(ahead >= 0, (1 - a) * a ** np.maximum(ahead, 0.0), 0.0)
    expected = weights @ money + a ** np.arange(periods, 0, -1) * 1.5
    np.testing.assert_allclose(prices(a, money, 1.5), expected, rtol=1e-13)
    # Every price by every money to come; by the end; and twice by a.
    for transform in (jax.jacfwd, jax.jacrev):
        by_money, by_end = jax.jit(transform(prices, (1, 2)))(a, jnp.asarray(money), 1.5)
        np.testing.assert_allclose(by_money, weights, atol=1e-14)
        np.testing.assert_allclose(by_end, a ** np.arange(periods, 0, -1), rtol=1e-12)

    def discounted(a):
        powers = jnp.where(ahead >= 0, (1 - a) * a ** jnp.maximum(ahead, 0.0), 0.0)
        return powers @ money + a ** jnp.arange(float(periods), 0, -1) * 1.5

    def from_solver(a):
        return prices(a, money, 1.5)

    for second in (lambda f: jax.jacfwd(jax.jacrev(f)), lambda f: jax.jacrev(jax.jacrev(f))):
        ours, exact = (jax.jit(second(f))(a) for f in (from_solver, discounted))
        np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-10)


def test_a_variable_with_a_lag_and_a_lead_follows_its_stable_root():
    """x = b x(-1) + f x(+1): from x(0), x(t) = λ^t x(0), λ the root of f λ² - λ + b inside the circle."""
    b, f = 0.4, 0.5

    def equations(prior, now, ahead, params, row):
        return params[0] * prior + params[1] * ahead - now

    def path(b, f, x0):
        return perfect_foresight(equations, x0, 0.0, params=(b, f), periods=200)

    def stable(b, f, x0):
        lam = (1 - jnp.sqrt(1 - 4 * b * f)) / (2 * f)
        return lam ** jnp.arange(1.0, 201) * x0

    np.testing.assert_allclose(path(b, f, 2.0), stable(b, f, 2.0), rtol=1e-12, atol=1e-14)
    ours, exact = (jax.jit(jax.jacrev(g, (0, 1, 2)))(b, f, 2.0) for g in (path, stable))
    for mine, other in zip(ours, exact, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)


class Economy(Record):
    capital: Scalar = index("K", "A K_{-1}^\\alpha + (1 - \\delta) K_{-1} - C", unit="goods")
    consumption: Scalar = index("C", "", unit="goods")


def ramsey(prior, now, ahead, params, row):
    """Capital at the end of the period, and Euler's equation with log utility."""
    alpha, beta, delta = params["alpha"], params["beta"], params["delta"]
    output = row["technology"] * prior.capital**alpha
    rent = row["technology_ahead"] * alpha * now.capital ** (alpha - 1)
    return {
        "resources": output + (1 - delta) * prior.capital - now.consumption - now.capital,
        "euler": 1 / now.consumption - beta * (rent + 1 - delta) / ahead.consumption,
    }


def rest_of(params):
    k = (params["alpha"] / (1 / params["beta"] - 1 + params["delta"])) ** (
        1 / (1 - params["alpha"])
    )
    return Economy(capital=k, consumption=k ** params["alpha"] - params["delta"] * k)


@jax.jit
def transition(params, k0):
    ones = jnp.ones(60)
    return perfect_foresight(
        ramsey,
        Economy(capital=k0, consumption=k0),
        rest_of(params),
        params=params,
        scenario={"technology": ones, "technology_ahead": ones},
    )


FULL = {"alpha": 0.33, "beta": 0.95, "delta": 1.0}


def test_ramsey_with_full_depreciation_is_its_closed_form():
    """Capital that lasts one period: households save the share αβ of output, always (Brock, Mirman)."""

    def closed(params, k0):
        alpha, saved = params["alpha"], params["alpha"] * params["beta"]
        t = jnp.arange(1.0, 61)
        log_rest = jnp.log(saved) / (1 - alpha)
        return jnp.exp(log_rest + alpha**t * (jnp.log(k0) - log_rest))

    path = transition(FULL, 0.05)
    np.testing.assert_allclose(path.capital, closed(FULL, 0.05), rtol=1e-10)
    output = np.concatenate([[0.05], path.capital[:-1]]) ** 0.33
    np.testing.assert_allclose(path.consumption, (1 - 0.33 * 0.95) * output, rtol=1e-10)
    ours = jax.jit(jax.jacrev(lambda p, k: transition(p, k).capital, (0, 1)))(FULL, 0.05)
    exact = jax.jacfwd(closed, (0, 1))(FULL, 0.05)
    for key in ("alpha", "beta"):
        np.testing.assert_allclose(ours[0][key], exact[0][key], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(ours[1], exact[1], rtol=1e-8, atol=1e-12)


def test_ramsey_s_saddle_path():
    params = {"alpha": 0.33, "beta": 0.96, "delta": 0.08}
    end = rest_of(params)
    path = transition(params, 0.7 * float(end.capital))
    assert np.all(np.diff(path.capital[:50]) > 0) and np.all(np.diff(path.consumption[:50]) > 0)
    assert float(path.capital[-1]) == pytest.approx(float(end.capital), rel=1e-3)
    # Near the end capital approaches at the stable root of Euler's and the resource equation, linearised.
    alpha, beta = params["alpha"], params["beta"]
    k, c = float(end.capital), float(end.consumption)
    curve = beta * c * alpha * (1 - alpha) * k ** (alpha - 2)
    trace = 1 + 1 / beta + curve
    stable = (trace - np.sqrt(trace**2 - 4 / beta)) / 2
    gaps = np.asarray(path.capital) - k
    assert gaps[35] / gaps[34] == pytest.approx(stable, rel=1e-3)
    # Derivatives against central differences of the solver itself.
    slope = jax.jvp(lambda b: transition({**params, "beta": b}, 3.0).capital, (beta,), (1.0,))[1]
    h = 1e-5
    low, high = (transition({**params, "beta": beta + s * h}, 3.0).capital for s in (-1, 1))
    np.testing.assert_allclose(slope, (high - low) / (2 * h), rtol=1e-6, atol=1e-6)


def test_batches_and_the_horizon():
    starts = jnp.array([0.05, 0.1, 0.3])
    many = jax.vmap(lambda k: transition(FULL, k).capital)(starts)
    np.testing.assert_allclose(many[1], transition(FULL, 0.1).capital, rtol=1e-12)
    for periods in (1, 2):
        money = np.ones(periods)
        np.testing.assert_allclose(prices(0.5, money, 1.0), 1.0, rtol=1e-14)
        assert jax.jit(jax.jacrev(prices))(0.5, money, 1.0).shape == (periods,)


def test_block_tridiagonal_against_a_dense_solve():
    rng = np.random.default_rng(1)
    lower, diagonal, upper = rng.standard_normal((3, 6, 3, 3))
    diagonal += 4 * np.eye(3)
    dense = np.zeros((18, 18))
    for t in range(6):
        for s, block in ((t - 1, lower), (t, diagonal), (t + 1, upper)):
            if 0 <= s < 6:
                dense[3 * t : 3 * t + 3, 3 * s : 3 * s + 3] = block[t]
    right = rng.standard_normal((6, 3))
    found = block_tridiagonal(*(jnp.asarray(x) for x in (lower, diagonal, upper, right)))
    np.testing.assert_allclose(np.ravel(found), np.linalg.solve(dense, right.ravel()), rtol=1e-11)


def test_single_precision(float32):
    path = transition(FULL, 0.05)
    assert path.capital.dtype == jnp.float32
    rest = (0.33 * 0.95) ** (1 / 0.67)
    assert float(path.capital[-1]) == pytest.approx(rest, rel=1e-5)


def test_no_path_says_what_newton_saw():
    def square(prior, now, ahead, params, row):
        return {"height": now["x"] ** 2 + 1.0 + 0 * ahead["x"]}

    ends = {"x": 1.0}, {"x": 1.0}
    with pytest.raises(
        RuntimeError, match=r"No path was found.*largest residual .* 'height' in period"
    ):
        perfect_foresight(square, *ends, periods=3)
    assert np.isnan(
        jax.jit(lambda e: perfect_foresight(square, e, e, periods=3)["x"])(ends[0])
    ).all()

    def free(prior, now, ahead, params, row):
        return {"sum": now["x"] + now["y"] - 1, "again": 2 * now["x"] + 2 * now["y"] - 2.5}

    both = {"x": 0.0, "y": 0.0}
    with pytest.raises(RuntimeError, match="singular block"):
        perfect_foresight(free, both, both, periods=2)

    def root_of_negative(prior, now, ahead, params, row):
        return {"law": jnp.sqrt(now["x"] - 5.0)}

    with pytest.raises(RuntimeError, match="equation 'law' is not finite in period 0"):
        perfect_foresight(root_of_negative, *ends, periods=2)


def test_what_it_refuses():
    def two(prior, now, ahead, params, row):
        return {"one": now["p"], "two": now["p"]}

    start, path = {"p": 0.0}, {"money": np.ones(4)}
    for kwargs, says in (
        (dict(), "horizon must be given, once: it is missing"),
        (dict(scenario=path, periods=5), r"it is \[4, 5\]"),
        (dict(scenario={"money": 1.0}, periods=5), "constants go to params"),
        (dict(periods=0), "at least one period"),
        (
            dict(scenario=path, params={"a": 0.5}, guess={"p": np.ones(3)}),
            "guess must have 4 periods",
        ),
    ):
        with pytest.raises(ValueError, match=says):
            perfect_foresight(cagan, start, start, **kwargs)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="same variables"):
        perfect_foresight(cagan, start, {"q": 1.0}, periods=3)
    with pytest.raises(ValueError, match="1 unknowns per period need as many equations, not 2"):
        perfect_foresight(two, start, start, periods=3)


def test_the_tolerance_of_a_solver_enters_a_derivative_and_is_bounded():
    """y² = a, solved badly: the implicit derivative 1 / 2y is off as y is, and the bound says how far."""

    def square(y, a):
        return y**2 - a

    for off in (1e-2, 1e-4, 1e-8, 0.0):
        found = sensitivity(square, np.sqrt(2.0) + off, 2.0)
        error = abs(found.derivatives[0, 0] - 0.5 / np.sqrt(2.0))
        assert error <= found.errors[0, 0] <= 4 * error + 1e-14
        assert found.residual == pytest.approx(2 * np.sqrt(2) * off + off**2, abs=1e-14)
    assert np.isinf(sensitivity(square, 1e-3, 2.0).errors).all()  # Newton leaps from there
    exact = jax.grad(lambda a: root(square, jnp.asarray(1.0), a))(2.0)
    assert sensitivity(square, np.sqrt(2.0), 2.0).derivatives[0, 0] == pytest.approx(float(exact))


def test_sensitivity_of_a_path_of_perfect_foresight():
    """The stacked equations are an equation like any other: the path's derivatives, with their errors."""
    money = jnp.linspace(1.0, 2.0, 8)
    path = prices(0.8, money, 2.0)

    def stacked(p, a):
        ahead = jnp.concatenate([p[1:], jnp.array([2.0])])
        return a * ahead + (1 - a) * money - p

    found = sensitivity(stacked, path, 0.8)
    slope = jax.jacfwd(prices)(0.8, money, 2.0)
    np.testing.assert_allclose(found.derivatives[:, 0], slope, rtol=1e-11)
    assert np.all(found.errors < 1e-13)


def test_sensitivity_refuses():
    with pytest.raises(ValueError, match="2 unknowns need as many equations, not 1"):
        sensitivity(lambda y, a: y[0] - a, np.ones(2), 1.0)
    with pytest.raises(ValueError, match="do not determine the solution"):
        sensitivity(lambda y, a: jnp.stack([y[0] + y[1], y[0] + y[1]]) - a, np.ones(2), 2.0)
