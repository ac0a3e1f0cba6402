"""Model NK3E: against an exact recursion, closed forms, and what its central bank wants."""

from __future__ import annotations

import csv
from pathlib import Path

import jax
import numpy as np
import pytest

from macrostat_jax import simulate
from macrostat_jax.models import NK3E

REFERENCE = Path(__file__).parents[1] / "reference" / "NK3E.csv"
CHANGES = [
    None,
    {"autonomous_demand": 12.0},
    {"inflation_target": 3.0},
    {"equilibrium_output": 7.0},
]


@pytest.mark.parametrize("number", range(4))
def test_path_of_the_exact_recursion(number):
    with open(REFERENCE, encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["scenario"]) == number]
    reference = {key: np.array([float(row[key]) for row in rows]) for key in ("y", "pi", "r")}
    initial = NK3E.initial_state(NK3E.params(), NK3E.scenario()[0])
    path = simulate(NK3E, NK3E.params(**CHANGES[number] or {}), initial=initial, periods=49)
    # The same as a shipped scenario, of which the shock sets in with the first period.
    name = [None, *NK3E.scenarios][number]
    shipped = simulate(NK3E, scenario=name, periods=49)
    assert len(rows) == 50
    for key, expected in reference.items():
        assert initial[key] == pytest.approx(expected[0], rel=1e-12)
        # The reference is rounded to 13 digits.
        np.testing.assert_allclose(path[key], expected[1:], rtol=1e-12, err_msg=key)
        np.testing.assert_allclose(shipped[key], path[key], rtol=1e-13, err_msg=key)


def test_an_impulse_dies_out_at_the_rate_that_the_aims_imply():
    """The gap of inflation shrinks by 1 + a_2^2 b in every period, in value and in derivative."""

    def inflation(slope):
        params = NK3E.params(phillips_slope=slope, inflation_aversion=2.0)
        return simulate(NK3E, params, "Inflation impulse", periods=12).inflation

    slope, after = 0.6, np.arange(11)
    found, tangent = jax.jvp(inflation, (slope,), (1.0,))
    assert found[0] == pytest.approx(2.0, rel=1e-14)  # the impulse comes in the second period
    rate = 1 + 2.0 * slope**2
    np.testing.assert_allclose(found[1:] - 2.0, rate**-after, rtol=1e-12, atol=1e-14)
    by_hand = -after * rate ** (-after - 1.0) * 4.0 * slope
    np.testing.assert_allclose(tangent[1:], by_hand, rtol=1e-12, atol=1e-13)


def test_the_rate_is_the_best_that_the_central_bank_can_set():
    params = NK3E.params(real_rate_sensitivity=0.4, phillips_slope=0.5, inflation_aversion=3.0)

    def loss_of_the_next_period(shock):
        scenario = NK3E.scenario(periods=2, rate_shock=shock, inflation_shock=[1.5])
        after = simulate(NK3E, params, scenario)[1]
        gap = after.output - params.equilibrium_output
        return gap**2 + params.inflation_aversion * (after.inflation - params.inflation_target) ** 2

    assert jax.grad(loss_of_the_next_period)(0.0) == pytest.approx(0.0, abs=1e-13)
    assert loss_of_the_next_period(0.0) < min(map(loss_of_the_next_period, (-0.1, 0.1)))


@pytest.mark.parametrize("without", ["phillips_slope", "inflation_aversion"])
def test_a_bank_without_a_reason_leaves_the_rate_alone(without):
    def response(value):
        return simulate(NK3E, NK3E.params(**{without: value}), periods=3).rate_response[-1]

    value, slope = jax.value_and_grad(response)(0.0)
    assert value == 0 and np.isfinite(slope) and slope > 0


def test_steady_state_under_lasting_shocks():
    scenario = NK3E.scenario(inflation_shock=0.3, rate_shock=-0.2, output_shock=0.4)[0]
    params = NK3E.params(autonomous_demand=11.0)
    assert NK3E.steady_state is not None
    state = NK3E.steady_state(params, scenario)
    after = NK3E.step(state, params, scenario)
    for key in NK3E.State.fields:
        assert after[key] == pytest.approx(float(state[key]), rel=1e-13), key
    assert state.inflation != params.inflation_target
    far = simulate(NK3E, params, scenario, periods=200)[-1]
    for key in NK3E.State.fields:
        assert far[key] == pytest.approx(float(state[key]), rel=1e-12), key
