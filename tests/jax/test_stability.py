"""Eigenvalues at rest: against hand formulas, responses to shocks, and finite differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import Model, Record, Scalar, exogenous, index, models, param, simulate
from macrostat_jax.diff import long_run, stability

LINEAR = models.LINEAR2D


def matrix(a11, a12, a21, a22):
    return LINEAR.params(a11=a11, a12=a12, a21=a21, a22=a22)


def test_sim_has_one_eigenvalue_known_by_hand():
    """Money follows H = H_{-1} (1 - α₂ θ / (1 - α₁ (1 - θ))) + ...; the rest is zero or conserved."""
    found = stability(models.GL06SIM)
    theta, a1, a2 = 0.2, 0.6, 0.4
    d = 1 - a1 * (1 - theta)
    assert found.spectral_radius == pytest.approx(1 - a2 * theta / d, rel=1e-13)
    assert found.kinds.count("conserved") == 1 and found.kinds.count("zero") == 12
    at = found.kinds.index("simple")
    assert found.half_lives[at] == pytest.approx(np.log(0.5) / np.log(1 - 0.08 / 0.52))
    slopes = found.sensitivity("real").iloc[[1]].iloc[0]
    assert slopes["tax_rate"] == pytest.approx(-a2 * (1 - a1) / d**2, rel=1e-12)
    assert slopes["propensity_to_consume_income"] == pytest.approx(
        -a2 * theta * (1 - theta) / d**2, rel=1e-12
    )
    assert slopes["propensity_to_consume_savings"] == pytest.approx(-theta / d, rel=1e-12)
    assert slopes["scenario.government_demand"] == pytest.approx(0, abs=1e-14)
    assert found.conserved == ("household_money_stock - government_money_stock",)
    assert found.variables[np.argmax(found.participation[at])] == "household_money_stock"


def test_linear2d_is_its_matrix():
    """λ = (τ ± sqrt(τ² - 4 δ)) / 2 with trace τ and determinant δ: a pair here, and its derivatives."""
    found = stability(LINEAR)
    a = np.array([[0.9, 0.1], [-0.2, 0.8]])
    np.testing.assert_allclose(found.jacobian, a, rtol=1e-15)
    trace, det = 1.7, 0.74
    root = np.sqrt(complex(trace**2 - 4 * det))
    values = np.array([trace + root, trace - root]) / 2
    np.testing.assert_allclose(found.eigenvalues, values, rtol=1e-13)
    assert found.cycles[0] == pytest.approx(2 * np.pi / np.angle(values[0]))
    # dλ = λ dτ - dδ over 2 λ - τ.
    rises = {"a11": (1, 0.8), "a12": (0, 0.2), "a21": (0, -0.1), "a22": (1, 0.9)}
    for label, (of_trace, of_det) in rises.items():
        expected = (values * of_trace - of_det) / (2 * values - trace)
        column = found.slopes[:, found.columns.index(label)]
        np.testing.assert_allclose(column, expected, rtol=1e-12)
    np.testing.assert_allclose(found.slopes[0], found.slopes[1].conj(), rtol=1e-12)
    assert np.all(found.slopes[:, found.columns.index("x0_1")] == 0)


@pytest.mark.parametrize("of", ["modulus", "half_life", "cycle", "real", "imag"])
def test_sensitivities_of_a_pair_against_finite_differences(of):
    parts = {"modulus": "moduli", "half_life": "half_lives", "cycle": "cycles"}

    def value(a12):
        found = stability(LINEAR, params=LINEAR.params(a12=a12), wrt="a12")
        name = parts.get(of)
        return getattr(found, name)[0] if name else getattr(found.eigenvalues, of)[0]

    h = 1e-4
    numerical = (value(0.1 + h) - value(0.1 - h)) / (2 * h)
    # The truncation of a central difference, h² / 6 times a third derivative, and rounding / h.
    exact = stability(LINEAR, wrt="a12").sensitivity(of)["a12"].iloc[0]
    assert exact == pytest.approx(numerical, rel=1e-4, abs=1e-8)
    with pytest.raises(ValueError, match="no sensitivity of 'colour'"):
        stability(LINEAR).sensitivity("colour")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ["GL06PC", "GL06LP2"])
def test_sensitivities_against_differences_of_steady_states(name):
    model = models.get(name)
    base = model.params()
    found = stability(model)
    simple = [i for i, kind in enumerate(found.kinds) if kind == "simple"]

    def values(key, value, group):
        scenario = model.scenario(periods=1)[0]
        params = base
        if group:
            scenario = scenario.replace(**{key: value})
        else:
            params = base.replace(**{key: value})
        return stability(model, params=params, scenario=scenario, wrt="tax_rate").eigenvalues[
            simple
        ]

    for label in ("tax_rate", "propensity_to_consume_savings", "scenario.government_demand"):
        group, _, key = label.rpartition(".")
        at = float(getattr(model.scenario(periods=1)[0] if group else base, key))
        h = 1e-4 * at
        numerical = (values(key, at + h, group) - values(key, at - h, group)) / (2 * h)
        column = found.slopes[simple, found.columns.index(label)]
        np.testing.assert_allclose(column, numerical, rtol=1e-5, atol=1e-7, err_msg=label)


def test_a_shock_dies_out_at_the_rate_of_the_largest_eigenvalue():
    """The path after a disturbance of the steady state, against the eigenvalue: an independent run."""
    for name, wealth in (
        ("GL06SIM", "household_money_stock"),
        ("GL06PC", "wealth"),
        ("GL06LP", "wealth"),
    ):
        model = models.get(name)
        found = stability(model)
        disturbed = found.state.replace(**{wealth: found.state[wealth] + 1e-3})
        path = simulate(model, initial=disturbed, periods=30)["disposable_income"]
        gaps = np.abs(np.asarray(path - found.state["disposable_income"]))
        rate = (gaps[24] / gaps[12]) ** (1 / 12)
        second = np.sort(found.moduli[[k == "simple" for k in found.kinds]])[-2:][0]
        tolerance = 1e-6 if second < 0.1 or second == found.spectral_radius else 0.05
        assert rate == pytest.approx(found.spectral_radius, rel=tolerance), model.name


def test_eigenvectors_multiply_by_the_eigenvalue():
    found = stability(LINEAR)
    shares = found.participation
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    # w = (a21, λ - a11), v = (a12, λ - a11): |w v| in the ratio |a12 a21| : |λ - a11|².
    gap = np.abs(found.eigenvalues[0] - 0.9) ** 2
    assert shares[0, 0] / shares[0, 1] == pytest.approx(0.02 / gap, rel=1e-12)


def test_defective_eigenvalues_are_said_and_their_mean_differentiated():
    found = stability(LINEAR, params=matrix(0.5, 1.0, 0.0, 0.5))
    assert found.kinds == ("defective", "defective")
    assert "lack eigenvectors" in str(found)
    for label, slope in {"a11": 0.5, "a22": 0.5, "a12": 0, "a21": 0}.items():
        np.testing.assert_allclose(found.slopes[:, found.columns.index(label)], slope, atol=1e-12)
    assert found.errors[0] > 1e-9  # a change of eps moves them by its root
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    turned = turn @ np.array([[0.5, 1.0], [0.0, 0.5]]) @ turn.T  # the same, but for rounding
    near = stability(LINEAR, params=matrix(*turned.ravel()))
    assert near.kinds == ("defective", "defective")
    assert np.all(np.abs(near.eigenvalues - 0.5) <= near.errors)
    assert near.slopes[0, 0] == pytest.approx(0.5, rel=1e-7)
    apart = stability(LINEAR, params=matrix(0.5, 1.0, 1e-6, 0.5))
    assert apart.kinds == ("simple", "simple")
    np.testing.assert_allclose(apart.eigenvalues, [0.501, 0.499], rtol=1e-9)


def test_repeated_eigenvalues_with_eigenvectors_of_their_own():
    found = stability(LINEAR, params=matrix(0.5, 0.0, 0.0, 0.5))
    assert found.kinds == ("repeated", "repeated") and "in general, only their mean" in str(found)
    np.testing.assert_allclose(found.slopes[:, found.columns.index("a11")], 0.5, atol=1e-12)


def test_a_trend_is_a_defective_unit_eigenvalue():
    found = stability(LINEAR, params=matrix(1.0, 1.0, 0.0, 1.0))
    assert not found.stable and "a trend" in found.verdict
    assert np.isnan(found.slopes).all()
    with pytest.warns(RuntimeWarning, match="unstable"):
        multipliers = long_run(LINEAR, params=matrix(1.0, 1.0, 0.0, 1.0))
    assert set(multipliers.undefined) == set(multipliers.columns)


def test_unstable_and_undecided():
    found = stability(LINEAR, params=matrix(1.25, 1.0, 0.0, 0.5))
    assert "UNSTABLE: 1 of 2" in found.verdict and "doubles in 3.11 periods" in found.verdict
    circle = stability(LINEAR, params=matrix(0.6, -0.8, 0.8, 0.6))
    assert not circle.stable or circle.spectral_radius == pytest.approx(1)
    assert "Stable" not in stability(LINEAR, params=matrix(0.0, 1.0, -1.0, 0.0)).verdict
    gone = stability(LINEAR, params=matrix(0.0, 1.0, 0.0, 0.0))
    assert gone.kinds == ("zero", "zero") and gone.spectral_radius == 0 and gone.stable


class Growth(Record):
    saved: Scalar = param(0.2, symbol="s", unit=".")
    share: Scalar = param(0.33, symbol="a", unit=".")
    lost: Scalar = param(0.1, symbol="d", unit=".")


class Nothing(Record):
    pass


class Capital(Record):
    k: Scalar = index("K", "", unit=".")


def test_what_moves_the_steady_state_moves_the_eigenvalue():
    """Solow: K = (1 - d) K_{-1} + s K_{-1}^a has λ = 1 - d + s a K^(a-1), and at rest s K^(a-1) = d:
    saving moves the slope at a given K, and moves K so that λ = 1 - d (1 - a) stays as it was."""

    def step(prior, params, scenario):
        return Capital(k=(1 - params.lost) * prior.k + params.saved * prior.k**params.share)

    model = Model("SOLOW", Growth, Nothing, Capital, lambda p, s: Capital.filled(1.0), step)
    found = stability(model)
    assert found.spectral_radius == pytest.approx(1 - 0.1 * 0.67, rel=1e-12)
    slopes = dict(zip(found.columns, found.slopes[0], strict=True))
    assert slopes["saved"] == pytest.approx(0, abs=1e-11)
    assert slopes["share"] == pytest.approx(0.1, rel=1e-9)
    assert slopes["lost"] == pytest.approx(-0.67, rel=1e-9)


class Params(Record):
    rate: Scalar = param(0.9, symbol="r", unit=".")


class Scenario(Record):
    level: Scalar = exogenous(1.0, symbol="l", unit=".")


class State(Record):
    now: Scalar = index("x", "", unit=".")
    once: Scalar = index("y", "", unit=".")
    twice: Scalar = index("z", "", unit=".")


def test_memory_of_finite_length_is_zero_not_a_cube_root_of_rounding():
    """x, x a period ago and x two periods ago: a chain of zeros that lacks eigenvectors."""

    def step(prior, params, scenario):
        x = scenario.level + 0 * prior.twice
        return State(now=x, once=prior.now, twice=prior.once)

    model = Model("CHAIN", Params, Scenario, State, lambda p, s: State.filled(0.0), step)
    found = stability(model)
    assert set(found.kinds) == {"zero"} and found.spectral_radius < 1e-5

    def longer(prior, params, scenario):
        now = scenario.level + params.rate * prior.now + 0.0 * prior.twice
        return State(now=now, once=prior.twice, twice=prior.now)

    model = Model("ECHO", Params, Scenario, State, lambda p, s: State.filled(0.0), longer)
    found = stability(model)
    assert found.kinds == ("simple", "zero", "zero")
    assert found.spectral_radius == pytest.approx(0.9) and found.slopes[0, 0] == pytest.approx(1)


def test_it_agrees_with_the_long_run():
    model = models.GL06PC
    assert stability(model).spectral_radius == long_run(model, "wealth").spectral_radius


def test_tables():
    found = stability(models.GL06PC)
    frame, data = found.to_pandas(), found.to_xarray()
    assert frame.modulus.iloc[2] == pytest.approx(found.spectral_radius)
    assert frame.kind.tolist().count("conserved") == 2
    assert data.slope.dims == ("mode", "input")
    assert float(data.jacobian.sel(variable="interest_rate", prior="wealth")) == 0
    assert complex(data.eigenvalue[2]) == pytest.approx(found.spectral_radius)
    text = str(found)
    assert "Stable: spectral radius 0.857731, half-life 4.52 periods" in text
    assert "2 zero" not in text and "and 10 zero" in text and "It conserves" in text


def test_single_precision(float32):
    found = stability(models.GL06SIM)
    assert found.spectral_radius == pytest.approx(1 - 0.08 / 0.52, rel=1e-5)
    assert found.kinds.count("conserved") == 1 and found.errors.max() < 1e-2
    assert jnp.zeros(()).dtype == jnp.float32 and jax.config.jax_enable_x64 is False  # pyright: ignore
