"""Model PichlerEtAl2022DIO: what its equations promise, in other sizes, and with rounded limits.

Its paths are compared with those recorded of the published package, for every production function,
in test_models.py.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import DISTURBED, randomly

import macrostat_jax
from macrostat_jax.diff import jacobian
from macrostat_jax.models import PichlerEtAl2022DIO as MODEL
from macrostat_jax.models.pichleretal2022dio import PRODUCTION_FUNCTIONS, undisturbed

LOCKDOWN = DISTURBED[MODEL.name]
VARIANTS = [
    dict(zip(("production_function", "hiring_firing", "firm_priority"), chosen, strict=True))
    for chosen in itertools.product(PRODUCTION_FUNCTIONS, (True, False), (False, True))
]


def label(options: dict[str, Any]) -> str:
    hiring, priority = options["hiring_firing"], options["firm_priority"]
    return f"{options['production_function']}-{hiring and 'hiring'}-{priority and 'priority'}"


@pytest.fixture(params=VARIANTS, ids=label)
def model(request):
    return MODEL.configure(**request.param)


@pytest.fixture(params=[*VARIANTS[::4], VARIANTS[9]], ids=label)
def some_model(request):
    """A model for each production function, and one that serves industries first."""
    return MODEL.configure(**request.param)


def economy(size: int, seed: int = 0) -> tuple[Any, Any]:
    """A model of `size` industries, and random data in which everybody sells what they make."""
    rng = np.random.default_rng(seed)
    model = MODEL.resize(industry=tuple(f"I{i:02}" for i in range(size)))
    coefficients = rng.uniform(0, 1, (size, size)) * (rng.uniform(size=(size, size)) < 0.7)
    coefficients *= 0.6 / max(coefficients.sum(axis=0).max(), 1e-9)
    final = rng.uniform(10, 100, (2, size))
    output = np.linalg.solve(np.eye(size) - coefficients, final.sum(axis=0))
    params = model.params(
        technical_coefficients=coefficients,
        critical_input_matrix=rng.choice([0, 0.5, 1], (size, size)),
        intermediate_consumption_matrix=coefficients * output,
        initial_gross_output=output,
        initial_labour_compensation=0.3 * output,
        initial_household_consumption=final[0],
        initial_profits=0.65 * output - coefficients.sum(axis=0) * output,
        initial_other_final_demand=final[1],
        inventory_target_days=rng.uniform(3, 20, size),
        other_cost_coefficients=np.full(size, 0.05),
    )
    return model, params


def simulate(*args: Any, **kwargs: Any) -> Any:
    """The path in NumPy arrays, which go with others of any rank."""
    return jax.tree.map(np.asarray, macrostat_jax.simulate(*args, **kwargs))


def near(path: Any, other: Any, rtol: float = 1e-9) -> None:
    for key in MODEL.State.fields:
        np.testing.assert_allclose(
            getattr(path, key), getattr(other, key), rtol=rtol, atol=1e-7, err_msg=key
        )


# Equations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["default", "random"])
def test_an_undisturbed_economy_stays_what_it_is(model, data):
    params = model.params()
    if data == "random":
        resized, params = economy(5)
        model = resized.configure(**model.options)
    scenario = model.scenario(periods=182, **undisturbed(params))
    path = simulate(model, params, scenario)
    near(path[1:], jax.tree.map(lambda leaf: np.broadcast_to(leaf[0], leaf[1:].shape), path))
    start = model.initial_state(params, scenario[0])
    for key in model.State.fields:
        if key not in ("input_capacity", "savings"):  # which the first day finds
            np.testing.assert_allclose(
                getattr(path[0], key), getattr(start, key), rtol=1e-9, err_msg=key
            )
    assert path.savings[0] > 0 and np.all(path.input_capacity[0] > path.gross_output[0])


def test_invariants_in_random_lockdowns(model):
    size, periods = 50, 100
    rng = np.random.default_rng(3)
    params = randomly(model, 3, size)
    series = {
        "supply_shock": np.clip(rng.uniform(-0.3, 0.9, (size, 1, 3)), 0, 1),
        "fear_of_infection": rng.uniform(0, 0.5, (size, 1)),
        "permanent_income_expectation": rng.uniform(0.7, 1.1, (size, 1)),
        "other_final_demand": rng.uniform(0, 1.2, (size, 1, 3)) * [5, 5, 225],
    }
    series = {k: np.broadcast_to(v, (size, periods, *v.shape[2:])) for k, v in series.items()}
    start = model.scenario(periods=20)

    def run(params, series):
        late = model.scenario(periods=periods).replace(**series)
        whole = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), start, late)
        return macrostat_jax.simulate(model, params, whole)

    path = jax.vmap(run)(jax.tree.map(jnp.asarray, params), series)
    path = jax.tree.map(np.asarray, path)
    for values in (path.inventories, path.intermediate_orders, path.intermediate_consumption):
        assert np.all(values >= 0)
    capacity = np.minimum(path.productive_capacity, path.input_capacity)
    demand, output = path.aggregate_demand, path.gross_output
    np.testing.assert_array_equal(output, np.minimum(capacity, demand))
    workers = params.initial_labour_compensation[:, None] * (1 - series["supply_shock"])
    assert np.all(path.labour_compensation[:, 20:] <= workers * (1 + 1e-12))
    # Nobody gets more than they ordered, and everybody gets it where it can be made.
    orders, deliveries = path.intermediate_orders, path.intermediate_consumption
    assert np.all(deliveries <= orders * (1 + 1e-12))
    wanted, consumed = path.consumption_demand, path.realized_consumption
    assert np.all((consumed <= wanted * (1 + 1e-9) + 1e-9) & (consumed >= -1e-9))
    met = capacity >= demand
    assert 0.01 < met.mean() < 0.99
    np.testing.assert_allclose(consumed[met], wanted[met], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(deliveries[met], orders[met], rtol=1e-12)
    # What is made is delivered: to industries, households, and others.
    others = np.concatenate(
        [np.broadcast_to([5.0, 5.0, 225.0], (size, 20, 3)), series["other_final_demand"]], axis=1
    )
    final = wanted + others
    share = np.where(wanted > 0, consumed / np.where(wanted > 0, wanted, 1), 0)
    np.testing.assert_allclose(deliveries.sum(axis=-1) + share * final, output, rtol=1e-9)
    if model.options["firm_priority"]:
        served = output >= orders.sum(axis=-1)
        np.testing.assert_allclose(deliveries[served], orders[served], rtol=1e-12)
        assert np.all(consumed[~served] < 1e-9)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        # Inventories allow 40, 20, 60 in A; 30, 90, - in B, which uses no C; nothing is needed in C.
        ("leontief", [20, 30, 5]),
        ("strongly_critical", [20, 90, np.inf]),
        ("half_critical", [40, 90, np.inf]),  # (20 + 100) / 2 = 60 of the important input
        ("weakly_critical", [40, 90, np.inf]),
        ("linear", [120 * 0.1 / 0.3, (3 + 27) / 0.4, 15 / 0.3]),
    ],
)
def test_production_functions_by_hand(function, expected):
    model = MODEL.configure(production_function=function)
    params = model.params(
        technical_coefficients=[[0.1, 0.1, 0.1], [0.1, 0.3, 0.1], [0.1, 0.0, 0.1]],
        critical_input_matrix=[[1, 0, 0], [0.5, 1, 0], [0, 1, 0]],
    )
    scenario = model.scenario()[0]
    prior = model.initial_state(params, scenario)
    prior = prior.replace(inventories=jnp.array([[4.0, 3, 0.5], [2, 27, 4.5], [6, 0, 10]]))
    found = model.step(prior, params, scenario).input_capacity
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_an_important_input_that_runs_out_halves_output():
    params = MODEL.params(critical_input_matrix=[[0, 0.5, 0], [0, 0, 0], [0, 0, 0]])
    scenario = MODEL.scenario()[0]
    prior = MODEL.initial_state(params, scenario)
    prior = prior.replace(inventories=jnp.asarray(prior.inventories).at[0, 1].set(0.0))
    for function, output in (("half_critical", 150), ("weakly_critical", 300), ("leontief", 0)):
        model = MODEL.configure(production_function=function)
        assert model.step(prior, params, scenario).gross_output[1] == pytest.approx(output)


def test_a_critical_input_that_is_not_used_binds_nobody():
    params = MODEL.params(
        technical_coefficients=np.where(np.eye(3) > 0, 0.0, MODEL.params().technical_coefficients),
        critical_input_matrix=1.0,
    )
    path = simulate(MODEL, params, periods=3)
    assert np.all(np.isfinite(path.gross_output))


def test_hiring_is_slower_than_firing_and_both_are_bounded():
    fall = MODEL.scenario(periods=60, other_final_demand=np.array([5.0, 5.0, 100.0]), start=1)
    path = simulate(MODEL, scenario=fall)
    gap = path.aggregate_demand[1] - path.productive_capacity[1]
    fired = np.array([60, 120, 250]) / np.array([100, 300, 600]) * gap * 2 / 30
    change = path.labour_compensation[2] - path.labour_compensation[1]
    np.testing.assert_allclose(change, np.minimum(fired, 0), atol=1e-9)
    kept = simulate(MODEL.configure(hiring_firing=False), scenario=fall)
    np.testing.assert_allclose(kept.labour_compensation, path.labour_compensation[:1].repeat(60, 0))
    back = MODEL.scenario(periods=1200, other_final_demand=fall.other_final_demand[1:41], start=1)
    recovered = simulate(MODEL, scenario=back)
    np.testing.assert_allclose(recovered.labour_compensation[-1], [60, 120, 250], rtol=1e-3)


def test_fear_does_not_compound():
    """A lasting fear takes its share of spending for as long as it lasts, and no more."""
    scenario = MODEL.scenario(fear_of_infection=0.1)
    path = simulate(MODEL.configure(hiring_firing=False), scenario=scenario)
    np.testing.assert_allclose(path.consumption_demand.sum(axis=1), 0.9 * 340, rtol=1e-9)
    np.testing.assert_allclose(path.total_consumption_demand, 340, rtol=1e-9)


def test_consumption_follows_income():
    """Half of the adaptation is to present income, of which benefits replace 80 %."""
    model = MODEL.configure(hiring_firing=False)
    shock = model.scenario(
        periods=4000, supply_shock=np.full(3, 0.5), permanent_income_expectation=0.81
    )
    path = simulate(model, scenario=shock)
    assert path.total_consumption_demand[-1] == pytest.approx(340 * np.sqrt(0.9 * 0.81), rel=1e-6)
    first = 340 * (0.9 * 0.81) ** ((1 - 0.6) / 90 / 2)
    assert path.total_consumption_demand[0] == pytest.approx(first, rel=1e-12)


# Other industries -----------------------------------------------------------------------------


def test_the_order_of_industries_does_not_matter(some_model):
    resized, params = economy(6, seed=4)
    resized = resized.configure(**some_model.options)
    order = np.array([3, 0, 5, 1, 4, 2])
    shocks = {"supply_shock": np.linspace(0, 0.5, 6), **undisturbed(params)}

    def reordered(values):
        values = np.asarray(values)
        for axis in range(np.ndim(values)):
            values = np.take(values, order, axis) if np.shape(values)[axis] == 6 else values
        return values

    path = simulate(resized, params, resized.scenario(periods=60, **shocks))
    given = {key: reordered(getattr(params, key)) for key in MODEL.Params.fields}
    moved = {key: reordered(value) for key, value in shocks.items()}
    other = simulate(resized, resized.params(**given), resized.scenario(periods=60, **moved))
    near(jax.tree.map(lambda leaf: np.stack([reordered(row) for row in leaf]), path), other)


def test_other_industries_need_their_data():
    model = MODEL.resize(industry=("Farms", "Mines"))
    with pytest.raises(
        ValueError, match=r"'technical_coefficients' of shape \(2, 2\) has no default"
    ):
        model.params()
    _, params = economy(2)
    with pytest.raises(ValueError, match=r"'demand_preferences' of shape \(2,\) has no default"):
        model.scenario(periods=3)
    path = simulate(economy(2)[0], params, economy(2)[0].scenario(periods=3, **undisturbed(params)))
    assert path.inventories.shape == (3, 2, 2)


def test_an_industry_without_output_or_labour_stays_at_zero():
    model = MODEL.resize(industry=("A", "B", "C", "D"))
    given = {
        key: np.pad(np.broadcast_to(field.default, field.shape), [(0, 1)] * len(field.shape))
        for key, field in MODEL.Params.fields.items()
        if field.shape and field.shape != (1,)
    }
    params = model.params(**given)
    series = undisturbed(params)
    small = simulate(MODEL, scenario=MODEL.scenario(periods=40, **LOCKDOWN))
    shocks = {key: np.pad(v, (0, 1)) if np.ndim(v) else v for key, v in LOCKDOWN.items()}
    for sharpness in (None, 1000.0):
        configured = model.configure(sharpness=sharpness)
        scenario = configured.scenario(periods=40, **{**series, **shocks})
        path = simulate(configured, params, scenario)
        assert np.all(path.gross_output[:, 3] == 0)
        if sharpness is None:
            np.testing.assert_allclose(path.gross_output[:, :3], small.gross_output, rtol=1e-12)

        def total(params, scenario=scenario, configured=configured):
            path = macrostat_jax.simulate(configured, params, scenario)
            return jnp.sum(path.profits)

        gradient = jax.grad(total)(jax.tree.map(jnp.asarray, params))
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_unknown_production_functions_are_named():
    with pytest.raises(ValueError, match=r"must be one of leontief, .* linear, not 'ces'"):
        MODEL.configure(production_function="ces")


# Derivatives ----------------------------------------------------------------------------------


def test_forward_equals_reverse_in_a_lockdown(some_model):
    """Industries rest until the lockdown, so that in both modes the same limit must be chosen."""
    scenario = some_model.scenario(periods=30, start=2, **LOCKDOWN)
    matrices = [
        jacobian(some_model, ("gross_output", "savings"), scenario=scenario, mode=mode).matrix()
        for mode in ("forward", "reverse")
    ]
    assert np.all(np.isfinite(matrices))
    np.testing.assert_allclose(*matrices, rtol=0, atol=1e-12 * np.abs(matrices[0]).max())


@pytest.mark.parametrize("sharpness", [None, 1000.0])
def test_derivatives_are_finite_and_agree_at_random_parameters(sharpness):
    model = MODEL.configure(sharpness=sharpness)
    scenario = model.scenario(periods=40, **LOCKDOWN)
    weights = np.random.default_rng(0).normal(size=(40, 3))
    draws = randomly(model, 5, 100)

    def loss(params):
        path = macrostat_jax.simulate(model, params, scenario)
        return jnp.sum(weights * path.gross_output)

    draws = jax.tree.map(jnp.asarray, draws)
    reverse = jax.jit(jax.vmap(jax.grad(loss)))(draws)
    direction = randomly(model, 6)
    forward = jax.jit(jax.vmap(lambda p: jax.jvp(loss, (p,), (direction,))[1]))(draws)
    reverse = jax.tree.map(np.asarray, reverse)
    leaves = zip(jax.tree.leaves(reverse), jax.tree.leaves(direction), strict=True)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(reverse))
    dot = sum(np.sum((leaf * np.asarray(d)).reshape(100, -1), axis=1) for leaf, d in leaves)
    np.testing.assert_allclose(forward, dot, rtol=1e-9, atol=1e-9 * np.abs(dot).max())


# Rounded limits -------------------------------------------------------------------------------


@pytest.mark.parametrize("sharpness", [1e3, 1e4, 1e5])
def test_rounded_limits_are_as_near_as_they_say(sharpness):
    model, initial = MODEL.configure(sharpness=sharpness), np.array([100.0, 300.0, 600.0])
    rest = simulate(model)
    below = sharpness * (1 - rest.gross_output / initial)
    assert np.all(below > 0) and 2.6 < np.max(below[-1]) < 2.7
    scenario = MODEL.scenario(start=20, **LOCKDOWN)
    exact, rounded = simulate(MODEL, scenario=scenario), simulate(model, scenario=scenario)
    assert sharpness * np.max(np.abs(exact.gross_output - rounded.gross_output) / initial) < 4
    assert np.all(rounded.inventories >= 0)


def test_rounded_limits_have_derivatives_where_exact_ones_have_two():
    """At rest, where every industry is at several limits."""
    model = MODEL.configure(sharpness=1000.0)

    def output(propensity):
        params = model.params(initial_household_consumption=propensity * np.array([10, 80, 250.0]))
        return macrostat_jax.simulate(model, params, periods=30).gross_output[-1]

    step = 1e-6
    slope = (output(1 + step) - output(1 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jacfwd(output)(1.0), slope, rtol=1e-6)
    np.testing.assert_allclose(jax.jacrev(output)(1.0), slope, rtol=1e-6)
