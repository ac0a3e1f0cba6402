"""Jacobians, products, gradients and Hessians: against closed forms and against each other."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from model_cases import disturbed, example, keyed

from macrostat_jax import (
    Model,
    Record,
    Scalar,
    count_compilations,
    index,
    models,
    param,
    simulate,
    smooth,
)
from macrostat_jax.diff import (
    finite_differences,
    gradient,
    hessian,
    jacobian,
    jvp,
    vjp,
)
from macrostat_jax.models import GL06PC, GL06SIM, GL06SIMEX, LINEAR2D

ALL = [example(name) for name in models.names()]


def last_income(path):
    return path.national_income[-1]


def half_square(path):
    return 0.5 * (path.national_income**2).mean()


def named(model):
    return pytest.param(model, id=model.name)


@pytest.fixture(params=[named(model) for model in ALL])
def model(request):
    return request.param


def test_long_run_multipliers_of_sim():
    # Y* = G / theta; the deviation from it dies out at 0.8636 a period, 4e-7 after 100.
    J = jacobian(
        GL06SIM, "national_income", wrt=("params", "scenario.government_demand"), periods=400
    )
    assert J["tax_rate"][-1] == pytest.approx(-500.0, rel=1e-10)
    assert J["propensity_to_consume_income"][-1] == pytest.approx(0.0, abs=1e-8)
    # A permanent rise of G raises income by 1 / theta.
    assert J["scenario.government_demand"][-1].sum() == pytest.approx(5.0, rel=1e-10)


def test_linear_system_by_hand():
    matrix, start = np.array([[0.9, 0.1], [-0.2, 0.8]]), np.array([1.0, 0.0])
    J = jacobian(LINEAR2D, "state", periods=5)
    powers = [np.linalg.matrix_power(matrix, k) for k in range(6)]
    for t in range(5):
        # d(A^n x_0) / da_ij = sum over k of A^k E_ij A^(n-1-k) x_0, with n = t + 1.
        for i, j, name in ((0, 0, "a11"), (0, 1, "a12"), (1, 0, "a21"), (1, 1, "a22")):
            unit = np.zeros((2, 2))
            unit[i, j] = 1.0
            exact = sum(powers[k] @ unit @ powers[t - k] @ start for k in range(t + 1))
            np.testing.assert_allclose(J[name][t], exact, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(J["x0_1"][t], powers[t + 1][:, 0], rtol=1e-13, atol=1e-15)
    by_initial = jacobian(LINEAR2D, "state", wrt="initial", periods=5)
    np.testing.assert_allclose(by_initial["initial.state"][4], powers[5], rtol=1e-13, atol=1e-15)


def everything(path):
    """All variables side by side, (T, elements): as one output they compile faster than as many."""
    leaves = [jnp.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(path)]
    return jnp.concatenate(leaves, axis=1)


def test_forward_equals_reverse(model):
    groups = ("params", "scenario", "initial") if model.Scenario.fields else ("params", "initial")
    forward, reverse = (
        jacobian(model, everything, wrt=groups, mode=mode, periods=20, **keyed(model))
        for mode in ("forward", "reverse")
    )
    assert (forward.mode, reverse.mode) == ("forward", "reverse")
    assert forward.columns() == reverse.columns()
    prefixes = [name.partition(".")[0] for name in forward.columns()]
    group = np.array([prefix if prefix in groups else "params" for prefix in prefixes])
    for one in groups:
        matrices = [found.matrix()[:, group == one] for found in (forward, reverse)]
        scale = np.abs(matrices[0]).max()
        # Sums of some 20 x 16 products in either order.
        np.testing.assert_allclose(*matrices, rtol=0, atol=1e-13 * scale, err_msg=one)


def test_finite_differences_bracket_the_exact_derivative(model):
    scenario = disturbed(model, 20)
    exact = jacobian(model, **scenario)
    sizes = [np.abs(leaf) for leaf in jax.tree.leaves(simulate(model, **scenario))]
    largest = max(np.max(size, where=np.isfinite(size), initial=0.0) for size in sizes)
    # A variable that is the difference of larger ones has their rounding; the step moves by 0.1 %.
    rounding = {
        name: 1e-15 * largest / (1e-3 * np.where(np.equal(value, 0), 1.0, np.abs(value)))
        for name, value in vars(model.params()).items()
    }
    for method in ("central", "forward", "backward"):
        approximate = finite_differences(model, method=method, **scenario)
        for output, columns in approximate.values.items():
            for name, value in columns.items():
                error = np.abs(value - exact.values[output][name])
                estimate = (approximate.errors or {})[output][name]
                # 2: the estimate is exact only to leading order, and that may be 0 in one period of
                # a path; the next order is smaller by the step. 1e-12: differences of zeros.
                following = 0.01 * np.max(estimate, axis=0)
                bound = 2 * estimate + following + rounding[name] + 1e-12
                assert np.all(error <= bound), (output, name)


def test_products_are_the_jacobian(model):
    J = jacobian(model, periods=15, **keyed(model))
    matrix = J.matrix()
    rng = np.random.default_rng(0)
    direction = rng.normal(size=matrix.shape[1])
    sizes = [math.prod(field.shape) for field in model.Params.fields.values()]
    parts = np.split(direction, np.cumsum(sizes)[:-1])
    along = {
        name: part.reshape(field.shape)
        for (name, field), part in zip(model.Params.fields.items(), parts, strict=True)
    }
    _, tangents = jvp(model, None, along, periods=15, **keyed(model))
    stacked = np.concatenate([np.asarray(tangents[k]).reshape(-1) for k in model.State.fields])
    np.testing.assert_allclose(stacked, matrix @ direction, rtol=1e-12, atol=1e-10)
    weights = {k: rng.normal(size=np.shape(tangents[k])) for k in model.State.fields}
    _, pulled = vjp(model, None, weights, periods=15, **keyed(model))
    flat = np.concatenate([weights[k].reshape(-1) for k in model.State.fields])
    found = np.concatenate([np.asarray(pulled[k]).reshape(-1) for k in along])
    np.testing.assert_allclose(found, flat @ matrix, rtol=1e-12, atol=1e-10)


def test_gradient_is_jax_grad_and_hessian_its_jacobian():
    params = GL06PC.params(tax_rate=0.23)

    def loss(params):
        return half_square(simulate(GL06PC, params, periods=30))

    ours = gradient(GL06PC, half_square, params=params, periods=30)
    theirs = jax.grad(loss)(jax.tree.map(jnp.asarray, params))
    for name, value in ours.items():
        assert float(value) == pytest.approx(float(getattr(theirs, name)), rel=1e-12)
    second = hessian(GL06PC, half_square, params=params, periods=30)
    np.testing.assert_allclose(second.matrix(), second.matrix().T, rtol=1e-10)
    h = 1e-5
    up = gradient(GL06PC, half_square, params=GL06PC.params(tax_rate=0.23 + h), periods=30)
    down = gradient(GL06PC, half_square, params=GL06PC.params(tax_rate=0.23 - h), periods=30)
    for name in ours:
        # Truncation of order h^2, rounding of order eps / h: both near 1e-9 of the value.
        slope = (up[name] - down[name]) / (2 * h)
        assert float(second.values[name]["tax_rate"]) == pytest.approx(float(slope), rel=1e-6)


def test_second_derivative_of_sim_in_the_long_run():
    # Y* = G / theta: the second derivative is 2 G / theta^3 = 5000.
    second = hessian(GL06SIM, last_income, periods=400)
    assert second.values["tax_rate"]["tax_rate"] == pytest.approx(5000.0, rel=1e-8)


def test_auto_takes_the_cheaper_mode():
    assert jacobian(GL06PC, "national_income").mode == "forward"
    assert jacobian(GL06PC, last_income).mode == "reverse"
    assert jacobian(GL06PC, last_income, wrt="tax_rate").mode == "forward"


def test_labels():
    J = jacobian(GL06PC, ("NationalIncome", "wealth"), wrt=("TaxRate", "scenario"), periods=8)
    assert list(J.values) == ["national_income", "wealth"]
    assert J["wealth", "tax_rate"].shape == J["Wealth", "TaxRate"].shape == (8,)
    assert J["wealth", "scenario.interest_rate"].shape == (8, 8)
    assert J.columns()[:2] == ["tax_rate", "scenario.government_demand[0]"]
    assert J.matrix().shape == (16, 1 + 3 * 8)
    dataset = J.to_xarray()
    assert dataset["wealth"].dims == ("time", "input")
    assert dataset["wealth"].sel(input="tax_rate").values == pytest.approx(J["wealth", "tax_rate"])
    table = J.to_pandas()
    assert table.shape == (16, 25)
    assert table.loc["wealth", "tax_rate"].to_numpy() == pytest.approx(J["wealth", "tax_rate"])
    with pytest.raises(KeyError, match="Name the output too"):
        J["tax_rate"]
    with pytest.raises(KeyError, match="was not differentiated"):
        J["wealth", "propensity_to_consume_income"]
    assert "d/d tax_rate" in repr(J)


def test_functions_of_the_path_may_return_any_pytree():
    J = jacobian(GL06SIM, lambda path: {"a": path.wages, "b": (last_income(path),)}, periods=4)
    assert list(J.values) == ["a", "b.0"]
    assert J.values["b.0"]["tax_rate"].shape == ()


def test_a_batch_of_a_function_of_the_path():
    """The function sees one run's path, also where the mode is chosen by its size."""
    rates = np.array([0.1, 0.2, 0.3])

    def shares(path):
        return path.national_income + jnp.arange(len(path.national_income), dtype=float)

    batch = GL06SIMEX.params(tax_rate=rates)
    found = jacobian(GL06SIMEX, shares, params=batch, periods=4)
    one = jacobian(GL06SIMEX, shares, params=GL06SIMEX.params(tax_rate=0.2), periods=4)
    assert found.mode == one.mode
    np.testing.assert_allclose(found["tax_rate"][1], one["tax_rate"], rtol=1e-12)


def test_a_batch_is_its_runs():
    rates = np.array([0.15, 0.2, 0.3])
    for transform in (
        lambda p: gradient(GL06SIMEX, half_square, params=p, periods=12),
        lambda p: jacobian(GL06SIMEX, "national_income", params=p, periods=12).values,
        lambda p: hessian(GL06SIMEX, half_square, params=p, periods=12).values,
    ):
        batch = transform(GL06SIMEX.params(tax_rate=rates))
        for i, rate in enumerate(rates):
            single = transform(GL06SIMEX.params(tax_rate=rate))
            jax.tree.map(
                lambda b, s, i=i: np.testing.assert_allclose(b[i], s, rtol=1e-12, atol=1e-12),
                batch,
                single,
            )


def test_checkpointing_changes_memory_not_values():
    plain = gradient(GL06PC, half_square, periods=101)
    checked = gradient(GL06PC, half_square, periods=101, checkpoint=True)
    for name in plain:
        assert float(checked[name]) == pytest.approx(float(plain[name]), rel=1e-12)


def test_reverse_memory_grows_as_the_square_root_with_checkpoints():
    def temporary(periods, checkpoint):
        def loss(params, scenario):
            return last_income(simulate(GL06PC, params, scenario, checkpoint=checkpoint))

        arguments = GL06PC.params(), GL06PC.scenario(periods=periods)
        compiled = jax.jit(jax.grad(loss)).lower(*arguments).compile()
        memory = compiled.memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    # A hundredfold horizon: ten times the memory, not a hundred (2: the factors of T are near its
    # root, not at it). Without checkpoints it grows as the horizon.
    assert temporary(100_000, True) < 2 * 10 * temporary(1_000, True)
    assert temporary(100_000, False) > 50 * temporary(1_000, False)
    assert temporary(100_000, True) < 0.05 * temporary(100_000, False)


def test_values_scenarios_and_instances_compile_nothing():
    def session(rate, demand):
        params = GL06PC.params(tax_rate=rate)
        scenario = GL06PC.scenario(periods=40, government_demand=demand)
        inputs = {"params": params, "scenario": scenario}
        return (
            simulate(GL06PC, params, scenario),
            jacobian(GL06PC, "national_income", **inputs),
            jacobian(GL06PC, "national_income", mode="reverse", **inputs),
            gradient(GL06PC, half_square, **inputs),
            hessian(GL06PC, half_square, **inputs),
            finite_differences(GL06PC, "national_income", **inputs),
        )

    session(0.2, 20.0)
    with count_compilations() as compilations:
        session(0.25, 30.0)
        session(0.3, 21.0)
    assert compilations.count == 0


def test_one_program_per_transform():
    with count_compilations() as compilations:
        gradient(GL06SIM, half_square, periods=37)
    assert compilations.count == 1


def test_float32_stays_float32():
    with jax.enable_x64(False):
        params = jax.tree.map(jnp.asarray, GL06PC.params())
        J = jacobian(GL06PC, "national_income", params=params, periods=10)
        assert J["tax_rate"].dtype == jnp.float32
        assert gradient(GL06PC, half_square, periods=10)["tax_rate"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jacobian(GL06PC, "income"), KeyError, "'income' is not in .*national_income"),
        (lambda: jacobian(GL06PC, wrt="taxes"), KeyError, "'taxes' is not in .*Params: .*tax_rate"),
        (lambda: jacobian(GL06PC, wrt="world.taxes"), KeyError, "params, scenario, initial"),
        (lambda: jacobian(LINEAR2D, wrt="scenario"), KeyError, "has nothing of the kind"),
        (lambda: jacobian(GL06PC, mode="rev"), ValueError, "auto, forward, reverse"),
        (lambda: gradient(GL06PC, lambda p: p.wealth), TypeError, "one real number.*jacobian"),
        (lambda: jacobian(GL06PC, lambda p: {}), TypeError, "returned no array"),
        (
            lambda: jvp(GL06PC, "wealth", {"tax_rate": np.ones(3)}),
            ValueError,
            r"'tax_rate' needs the shape \(\), not \(3,\)",
        ),
        (
            lambda: finite_differences(LINEAR2D, space="log"),
            ValueError,
            r"Cannot use log-space with zero parameters: \['x0_2'\]",
        ),
        (lambda: finite_differences(GL06PC, step=0.0), ValueError, "greater than 0"),
        (lambda: finite_differences(GL06PC, step=np.nan), ValueError, "finite"),
        (
            lambda: finite_differences(GL06PC, method="five"),
            ValueError,
            "central, forward, backward",
        ),
        (lambda: finite_differences(GL06PC, space="lin"), ValueError, "log, direct, auto"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


class Tally(Record):
    count: Any = index("n", "n_{-1} + 1")
    size: Any = index("x", r"a n")


class Growth(Record):
    a: Scalar = param(2.0, symbol="a")


class Nothing(Record):
    pass


COUNTER = Model(
    "COUNTER",
    Growth,
    Nothing,
    Tally,
    lambda params, scenario: Tally(count=jnp.array(0, jnp.int32), size=0.0),
    lambda prior, params, scenario: Tally(
        count=prior.count + 1, size=params.a * (prior.count + 1).astype(float)
    ),
    periods=3,
)


def test_whole_numbers_have_no_derivatives():
    J = jacobian(COUNTER, wrt=("params", "initial"))
    assert list(J.values) == ["size"] and [one.label for one in J.inputs] == ["a", "initial.size"]
    np.testing.assert_array_equal(J["size", "a"], [1, 2, 3])
    message = "'count' takes whole numbers only: it has no derivatives"
    with pytest.raises(TypeError, match=message):
        jacobian(COUNTER, "count")
    with pytest.raises(TypeError, match=message):
        jacobian(COUNTER, "size", wrt="initial.count")


def test_extremes_are_not_computed_again():
    """The derivative of a largest element goes to those that equal it: to the last bit they may not, if
    they are computed again for reverse mode. What `stop_gradient` keeps derivatives from has none to lose."""

    def step(largest):
        def step(prior, params, scenario):
            size = params.a * jnp.sin(jnp.arange(1.0, 4.0) + prior.size)
            return Tally(count=prior.count + 1, size=largest(size))

        return step

    start = COUNTER.initial_state

    def shifted(size):
        return jnp.sum(jnp.exp(size - jax.lax.stop_gradient(jnp.max(size))))

    def counted(size):  # what a loop with an end of its own gives has no derivative backwards
        count = jax.lax.while_loop(lambda n: n < jnp.max(size), lambda n: n + 1, 0.0)
        return jax.lax.stop_gradient(count)

    def capped(size):  # nor has a flag
        return jnp.where(jnp.max(size) < 9.0, jnp.sum(size), 0.0)

    for function, recomputed in (
        (jnp.max, False),
        (lambda size: jnp.max(size) * shifted(size), False),
        (lambda size: jnp.max(size) + counted(size), False),
        (lambda size: jnp.sum(size) + counted(size), True),
        (capped, True),
        (shifted, True),
        (smooth.largest, True),
        (jnp.sum, True),
    ):
        model = Model("EXTREME", Growth, Nothing, Tally, start, step(function), periods=6)
        assert model.recomputed is recomputed
        reverse = jacobian(model, "size", mode="reverse")["a"]
        np.testing.assert_allclose(
            reverse, jacobian(model, "size", mode="forward")["a"], rtol=1e-12
        )


def test_what_a_step_names_is_kept():
    """Reverse mode needs the sine's value, but not again: it is computed once, where it is named."""

    def gradient_of(named):
        def step(prior, params, scenario):
            sine = named(jnp.sin(prior.size))
            return Tally(count=prior.count + 1, size=params.a * jax.lax.exp(sine))

        model = Model("NAMED", Growth, Nothing, Tally, COUNTER.initial_state, step, periods=6)
        return jax.grad(lambda a: simulate(model, model.params(a=a)).size[-1].sum())

    def sines(named):
        return str(jax.make_jaxpr(gradient_of(named))(0.3)).count(" sin ")

    def kept(value):
        return checkpoint_name(value, "kept")

    assert (sines(lambda value: value), sines(kept)) == (2, 1)
    assert gradient_of(kept)(0.3) == gradient_of(lambda value: value)(0.3)
