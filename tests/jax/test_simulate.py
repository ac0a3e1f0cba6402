"""Simulation: horizons, batches, shocks, dtypes, transforms, compiling, and its errors."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import (
    AddingUp,
    Axis,
    Matrix,
    Model,
    Record,
    Scalar,
    Vector,
    _compile,
    causality,
    count_compilations,
    exogenous,
    index,
    models,
    param,
    simulate,
)
from macrostat_jax.diff import jacobian

SIM, PC = models.GL06SIM, models.GL06PC
GOODS = Axis("good", ("bread", "cloth", "iron"))


class Params(Record):
    a: Scalar = param(0.5, bounds=(0, 1))
    b: Scalar = param(0.3, bounds=(-1, 1))
    c: Scalar = param(0.2, bounds=(-1, 1))
    weights: Vector = param((1.0, 2.0, 3.0), shape=GOODS)


class Scenario(Record):
    g: Scalar = exogenous(1.0)
    demand: Vector = exogenous((1.0, 0.0, 2.0), shape=GOODS)


class State(Record):
    x: Scalar = index("x")
    parts: Vector = index("parts", shape=3)
    stocks: Vector = index("stocks", shape=GOODS)
    table: Matrix = index("table", shape=(GOODS, GOODS))


def start(params, scenario):
    return State.filled(0.0).replace(x=params.a)


def step(prior, params, scenario):
    stocks = 0.9 * prior.stocks + params.weights * scenario.demand
    return State(
        x=params.a * prior.x + scenario.g,
        parts=jnp.array([params.a, params.b, params.c]),
        stocks=stocks,
        table=0.5 * prior.table + jnp.outer(stocks, params.weights),
    )


FLAT = Model("FLAT", Params, Scenario, State, start, step, periods=7)
ADDING = Model(
    "ADDING", Params, Scenario, State, start, step, periods=7,
    constraints=(AddingUp(("a", "b", "c")),),
)  # fmt: skip


def assert_same(found: Any, expected: Any, *, rtol: float, atol: float = 0.0) -> None:
    for key in expected.fields:
        np.testing.assert_allclose(
            getattr(found, key), getattr(expected, key), rtol, atol, err_msg=key
        )


def by_hand(model, params, scenario, initial=None):
    """The loop that a reader would write."""
    state = model.initial_state(params, scenario[0]) if initial is None else initial
    rows = []
    for t in range(jax.tree.leaves(scenario)[0].shape[0]):
        state = model.step(state, params, scenario[t])
        rows.append(state)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


@pytest.mark.parametrize("model", [FLAT, ADDING, SIM, PC], ids=lambda model: model.name)
def test_a_simulation_is_the_loop_over_the_step(model):
    params, scenario = model.params(), model.scenario(periods=7)
    path = simulate(model, params, scenario)
    assert isinstance(path, model.State)
    for key, field in model.State.fields.items():
        assert getattr(path, key).shape == (7, *field.shape)
    assert_same(path, by_hand(model, params, scenario), rtol=1e-12, atol=1e-14)


def test_vectors_and_matrices_have_their_axes():
    path = simulate(FLAT)
    assert path.table.shape == (7, 3, 3) and path.stocks.shape == (7, 3)
    np.testing.assert_allclose(path.stocks[1], [1.9, 0, 11.4])
    assert FLAT.State.fields["table"].axes == (GOODS, GOODS)


def test_a_path_continues_where_another_ended():
    whole = simulate(PC, periods=12)
    scenario = PC.scenario(periods=12)
    first = simulate(PC, scenario=scenario[:5])
    rest = simulate(PC, scenario=scenario[5:], initial=first[-1])
    assert_same(rest, whole[5:], rtol=1e-13)


def test_horizons():
    assert simulate(FLAT).x.shape == (7,)
    assert simulate(FLAT, periods=3).x.shape == (3,)
    assert simulate(FLAT, scenario=FLAT.scenario(periods=4)).x.shape == (4,)
    constants = Scenario(g=2.0, demand=np.ones(3))  # type: ignore[arg-type]
    assert simulate(FLAT, scenario=constants, periods=5).x.shape == (5,)
    assert simulate(FLAT, scenario=constants).x.shape == (7,)
    assert simulate(FLAT, shocks=FLAT.shocks(a_add=0.1)).x.shape == (7,)


# Batches


def test_a_batch_is_the_runs_one_by_one():
    rates = np.array([0.1, 0.2, 0.3])
    incomes = np.array([0.5, 0.6, 0.7])
    batch = simulate(PC, PC.params(tax_rate=rates, propensity_to_consume_income=incomes))
    for i in range(3):
        params = PC.params(tax_rate=rates[i], propensity_to_consume_income=incomes[i])
        assert_same(
            jax.tree.map(lambda leaf, i=i: leaf[:, i], batch), simulate(PC, params), rtol=1e-11
        )


def test_batches_of_everything():
    scenario = FLAT.scenario()
    paths = scenario.replace(g=np.stack([scenario.g, 2 * scenario.g]))
    batch = simulate(FLAT, scenario=paths)
    assert batch.x.shape == (7, 2) and batch.table.shape == (7, 2, 3, 3)
    doubled = scenario.replace(g=2 * scenario.g)
    assert_same(
        jax.tree.map(lambda leaf: leaf[:, 1], batch), simulate(FLAT, scenario=doubled), rtol=1e-13
    )

    weights = np.arange(6.0).reshape(2, 3)
    batch = simulate(FLAT, FLAT.params(weights=weights))
    single = simulate(FLAT, FLAT.params(weights=weights[1]))
    np.testing.assert_allclose(batch.table[:, 1], single.table, rtol=1e-13)

    initial = FLAT.State.filled(0.0).replace(x=np.array([1.0, 2.0]))
    batch = simulate(FLAT, initial=initial)
    np.testing.assert_allclose(batch.x[0], [1.5, 2.0])

    shocks = {"a_add": np.stack([np.zeros(7), np.full(7, 0.1)])}
    batch = simulate(FLAT, shocks=shocks)
    np.testing.assert_allclose(batch.x[:, 1], simulate(FLAT, FLAT.params(a=0.6)).x + 0 * batch.x[:, 0]
                               - 0.6 ** np.arange(1, 8) * 0.1, rtol=1e-12)  # fmt: skip


# Shocks and constraints


def test_shocks_multiply_then_add():
    shocks = FLAT.shocks(b_multiply=2.0, b_add=0.1, start=3)
    path = simulate(FLAT, shocks=shocks)
    np.testing.assert_allclose(path.parts[:, 1], [0.3] * 3 + [0.7] * 4)
    np.testing.assert_allclose(path.parts[:, 0], 0.5)
    vector = FLAT.shocks(weights_add=np.array([0.0, 1.0, 0.0]), start=6)
    np.testing.assert_allclose(simulate(FLAT, shocks=vector).stocks[:, 1], 0)
    vector = FLAT.shocks(weights_multiply=np.zeros(3), start=0)
    assert np.all(np.asarray(simulate(FLAT, shocks=vector).stocks) == 0)


def test_the_derived_parameter_follows_the_shocks():
    path = simulate(ADDING, shocks=ADDING.shocks(b_add=0.2, start=4))
    np.testing.assert_allclose(path.parts.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(path.parts[:, 2], [0.2] * 4 + [0.0] * 3, atol=1e-15)


def test_the_derived_parameter_has_no_derivative_of_its_own():
    params = jax.tree.map(jnp.asarray, ADDING.params())
    slopes = jax.jacrev(lambda params: simulate(ADDING, params).parts[-1])(params)
    np.testing.assert_allclose(slopes.a, [1, 0, -1])
    np.testing.assert_allclose(slopes.b, [0, 1, -1])
    np.testing.assert_allclose(slopes.c, [0, 0, 0])


def test_named_scenarios_bring_their_shocks():
    scenarios = {"boom": {"g": 2.0, "b_add": 0.1}}
    model = Model(
        "BOOM", Params, Scenario, State, start, step, scenarios=scenarios, trigger=2, periods=4
    )
    path = simulate(model, scenario="boom")
    np.testing.assert_allclose(path.x, [1.25, 1.625, 2.8125, 3.40625])
    np.testing.assert_allclose(path.parts[:, 1], [0.3, 0.3, 0.4, 0.4])
    own = simulate(model, scenario="boom", shocks=model.shocks(b_add=-0.1))
    np.testing.assert_allclose(own.parts[:, 1], 0.2)


# Dtypes


def test_the_dtype_is_that_of_what_is_given():
    single = jnp.float32(0.2)
    assert simulate(SIM).wages.dtype == np.float64
    assert simulate(SIM, SIM.params(tax_rate=single)).wages.dtype == np.float32
    assert simulate(SIM, SIM.params(tax_rate=single), SIM.scenario()).wages.dtype == np.float32
    batch = SIM.params(tax_rate=np.full(2, 0.2, np.float32))
    assert simulate(SIM, batch).wages.dtype == np.float32
    wide = SIM.scenario().replace(wage_rate=jnp.ones(100))
    assert simulate(SIM, SIM.params(tax_rate=single), wide).wages.dtype == np.float64
    # A vector of defaults widens nothing.
    assert simulate(FLAT, FLAT.params(a=single)).table.dtype == np.float32


def test_without_float64_everything_is_float32(float32):
    for params in (SIM.params(), SIM.params(tax_rate=np.full(2, 0.2))):
        path = simulate(SIM, params, SIM.scenario())
        assert {leaf.dtype for leaf in jax.tree.leaves(path)} == {np.dtype("float32")}
    assert (
        jax.grad(lambda t: simulate(SIM, SIM.params(tax_rate=t)).wages[-1])(0.2).dtype == "float32"
    )


# Transforms by the user


def income(tax_rate):
    return simulate(SIM, SIM.params(tax_rate=tax_rate), periods=20).national_income


def test_transforms_by_the_user_agree():
    rates = jnp.array([0.15, 0.2, 0.25])
    batch = simulate(SIM, SIM.params(tax_rate=rates), periods=20).national_income.T
    np.testing.assert_allclose(jax.vmap(income)(rates), batch, rtol=1e-13)
    np.testing.assert_allclose(jax.jit(income)(0.2), batch[1], rtol=1e-13)
    forward, reverse = jax.jacfwd(income)(0.2), jax.jacrev(income)(0.2)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12, atol=1e-12)
    step = 1e-5
    central = (income(0.2 + step) - income(0.2 - step)) / (2 * step)
    np.testing.assert_allclose(forward, central, rtol=1e-6)
    curvature = jax.hessian(lambda rate: income(rate)[-1])(0.2)
    slope = jax.grad(lambda rate: income(rate)[-1])
    central = (slope(0.2 + step) - slope(0.2 - step)) / (2 * step)
    np.testing.assert_allclose(curvature, central, rtol=1e-6)


@pytest.mark.parametrize("periods", [3, 10, 16])
def test_checkpoint_changes_neither_values_nor_gradients(periods):
    params = jax.tree.map(jnp.asarray, PC.params())

    def loss(params, checkpoint):
        path = simulate(PC, params, periods=periods, checkpoint=checkpoint)
        return jnp.sum(path.wealth**2), path

    gradient = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    (plain, path), (saved, same) = gradient(params, False), gradient(params, True)
    assert_same(same, path, rtol=1e-13, atol=1e-13)
    assert_same(saved, plain, rtol=1e-11, atol=1e-11)


# Compiling


def test_new_values_compile_nothing():
    def run(rate, demand, seed):
        scenario = SIM.scenario(periods=23, government_demand=demand, start=seed)
        shocks = SIM.shocks(periods=23, tax_rate_add=rate / 10)
        return simulate(SIM, SIM.params(tax_rate=rate), scenario, shocks=shocks)

    run(0.2, 20.0, 0)
    with count_compilations() as counted:
        run(0.3, 25.0, 5)
        run(0.25, np.linspace(20, 30, 4), 7)
    assert counted.count == 0
    with count_compilations() as counted:
        simulate(SIM, SIM.params(), SIM.scenario(periods=24))
    assert counted.count >= 1  # the counter counts


# Randomness


class Noise(Record):
    walk: Scalar = index("w")
    agents: Vector = index("a", shape=4)


class NoScenario(Record):
    pass


def noisy(prior, params, scenario, key):
    one, many = jax.random.split(key)
    dtype = prior.walk.dtype
    return Noise(
        walk=prior.walk + params.a * jax.random.normal(one, (), dtype),
        agents=jax.random.uniform(many, (4,), dtype),
    )


def noisy_start(params, scenario, key):
    return Noise(walk=jax.random.normal(key), agents=jnp.zeros(4))


RANDOM = Model("RANDOM", Params, NoScenario, Noise, noisy_start, noisy, periods=6)


def test_random_runs_are_reproducible_and_batch_independent():
    keys = jax.random.split(jax.random.key(3), 5)
    batch = simulate(RANDOM, key=keys)
    assert batch.agents.shape == (6, 5, 4)
    assert len(np.unique(batch.walk[0])) == 5 and len(np.unique(batch.agents)) == 120
    for i in (0, 4):
        single = simulate(RANDOM, key=keys[i])
        np.testing.assert_allclose(batch.walk[:, i], single.walk, rtol=1e-14)
        np.testing.assert_array_equal(batch.agents[:, i], single.agents)
    assert_same(simulate(RANDOM, key=keys[2]), simulate(RANDOM, key=keys[2]), rtol=0)
    longer = simulate(RANDOM, key=keys[0], periods=1)
    assert longer.walk.shape == (1,)


def test_a_longer_run_begins_as_a_shorter_one():
    key = jax.random.key(7)
    short, long = simulate(RANDOM, key=key, periods=3), simulate(RANDOM, key=key, periods=50)
    assert_same(long[:3], short, rtol=0)


def test_one_key_for_a_batch_is_common_random_numbers():
    path = simulate(RANDOM, RANDOM.params(a=np.array([0.5, 0.5, 1.0])), key=jax.random.key(0))
    np.testing.assert_array_equal(path.walk[:, 0], path.walk[:, 1])
    np.testing.assert_array_equal(path.agents[:, 0], path.agents[:, 2])
    increments = np.diff(path.walk, axis=0)
    np.testing.assert_allclose(increments[:, 2], 2 * increments[:, 0], rtol=1e-12)


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scenario": "boom"}, KeyError, r"FLAT has no scenario 'boom'"),
        ({"shocks": {"q_add": np.zeros(7)}}, KeyError, r"'q' is not in .*Params: a, b, c, weights"),
        (
            {"shocks": {"a_plus": np.zeros(7)}},
            KeyError,
            r"'a_plus' is neither a series of FLAT .* nor",
        ),
        (
            {"shocks": {"a_add": np.zeros(5)}, "periods": 7},
            ValueError,
            r"FLAT: the horizons differ",
        ),
        (
            {"scenario": FLAT.scenario(), "periods": 3},
            ValueError,
            r"horizons differ: .*'periods': 3",
        ),
        (
            {"params": SIM.params()},
            TypeError,
            r"FLAT expects .*test_simulate.Params, not .*gl06sim",
        ),
        ({"params": 0.5}, TypeError, r"FLAT expects .*Params, not builtins.float"),
        ({"initial": FLAT.params()}, TypeError, r"FLAT expects .*State, not .*Params"),
        ({"key": jax.random.key(0)}, TypeError, r"FLAT is not random: it takes no key"),
        ({"periods": 0}, ValueError, r"at least 1, not 0"),
        (
            {"params": FLAT.params().replace(weights=np.zeros(4))},
            ValueError,
            r"FLAT: 'weights' must have the shape \(3,\), or a batch axis before it; not \(4,\)",
        ),
        (
            {"scenario": FLAT.scenario().replace(demand=np.zeros((7, 4)))},
            ValueError,
            r"FLAT: 'demand' must have the shape \(7, 3\) or \(3,\)",
        ),
        (
            {
                "params": FLAT.params(a=np.array([0.1, 0.2])),
                "initial": State.filled(0.0).replace(x=np.zeros(3)),
            },
            ValueError,
            r"FLAT: the batch sizes differ: {'a': 2, 'x': 3}",
        ),
    ],
)
def test_errors_say_what_was_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        simulate(FLAT, **arguments)


def test_a_random_model_needs_its_key():
    with pytest.raises(TypeError, match=r"RANDOM is random: pass key=jax.random.key"):
        simulate(RANDOM)
    with pytest.raises(TypeError, match=r"Expected a model, .* not 'GL06SIM'"):
        simulate("GL06SIM")  # type: ignore[arg-type]


def test_programs_are_let_go_before_memory_maps_run_out(monkeypatch):
    model = models.GL06SIM
    before = simulate(model, periods=37)
    monkeypatch.setattr(_compile, "CHECKED_EVERY", 1)
    generation = _compile.generation
    simulate(model, periods=38)
    assert _compile.generation == generation  # there are enough
    monkeypatch.setattr(_compile, "SPARED", 0.0)
    simulate(model, periods=39)
    assert _compile.generation == generation + (1 if Path("/proc/self/maps").exists() else 0)
    monkeypatch.setattr(_compile, "SPARED", 1.0)
    np.testing.assert_array_equal(
        simulate(model, periods=37).national_income, before.national_income
    )


FAULTS = """
import resource, jax
from macrostat_jax import models, simulate

def run():
    path = simulate(models.Mark0COVID, key=jax.random.key(0), periods=200)
    return jax.block_until_ready(path).unemployment[-1]

for _ in range(5):
    run()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    run()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's allocator")
def test_the_memory_of_a_path_serves_the_next_one():
    """Given back to the system in between, its pages would be taken anew, one fault each.

    Which of glibc's arenas a thread of XLA is given is chance, and those beside the main one keep less:
    one process of five in which less than half is taken anew shows that it can be so; without, all is.
    """
    fields = models.Mark0COVID.State.fields.values()
    pages = 4 * 200 * sum(int(np.prod(field.shape)) for field in fields) / 4096
    faults = []
    while len(faults) < 5 and (not faults or faults[-1] >= pages / 2):
        code = [sys.executable, "-c", FAULTS]
        done = subprocess.run(code, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        faults.append(float(done.stdout))
    assert min(faults) < pages / 2, faults


def test_paths_as_tables():
    path = simulate(models.IOPC, periods=5)
    table, dataset = path.to_pandas(), path.to_xarray()
    assert len(table) == 5 and table.index.name == "period"
    sector = models.IOPC.State.fields["real_gross_output"].axes[0].labels[1]
    np.testing.assert_array_equal(table[f"RealGrossOutput.{sector}"], path.real_gross_output[:, 1])
    np.testing.assert_array_equal(dataset.real_gross_output, path.real_gross_output)
    assert dataset.real_gross_output.attrs["equation"] and list(
        dataset.real_gross_output.sector[:1]
    )
    batch = simulate(PC, PC.params(tax_rate=np.array([0.2, 0.3])), periods=4)
    assert batch.to_xarray().taxes.dims == ("time", "batch")
    with pytest.raises(ValueError, match=r"of a batch, pick one first: path\[:, i\]"):
        batch.to_pandas()
    np.testing.assert_array_equal(batch[:, 1].to_pandas()["Taxes"], batch.taxes[:, 1])
    for single in (path[-1], PC.params()):
        with pytest.raises(ValueError, match="no axis of time"):
            single.to_pandas()
        with pytest.raises(ValueError, match="no axis of time"):
            single.to_xarray()
    assert len(path[2:3].to_pandas()) == 1


def test_what_never_changes_is_kept_once():
    """Of a variable that the step hands on as it is, reverse mode holds one copy, not one per period."""
    agents, periods = 10_000, 50
    agent = Axis("agent", size=agents)

    class Settings(Record):
        spread: Any = param(0.5)

    class Nothing(Record):
        pass

    class People(Record):
        skill: Any = index("s", shape=agent)
        x: Any = index("x")

    def born(params, scenario):
        return People(skill=params.spread * jnp.linspace(0.0, 1.0, agents), x=0.0)

    def step(prior, params, scenario):
        return People(skill=prior.skill, x=0.5 * prior.x + jnp.mean(prior.skill**2))

    model = Model("PEOPLE", Settings, Nothing, People, born, step, periods=periods)
    assert model.remembered == ("skill", "x") and model.unchanged == ("skill",)

    def last(spread):
        return simulate(model, model.params(spread=spread), record=["x"]).x[-1]

    compiled = jax.jit(jax.grad(last)).lower(0.5).compile()
    memory: Any = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < 5 * 8 * agents
    mean = np.mean(np.linspace(0, 1, agents) ** 2)
    total = 2 * (1 - 0.5**periods)
    np.testing.assert_allclose(compiled(0.5), 2 * 0.5 * mean * total, rtol=1e-12)
    path = simulate(model, initial=People(skill=np.arange(agents) / agents, x=0.0))
    np.testing.assert_array_equal(path.skill, np.tile(np.arange(agents) / agents, (periods, 1)))
    by_start = jacobian(model, "x", wrt="initial.skill", periods=3, mode="reverse")["initial.skill"]
    exact = 1.75 * np.linspace(0, 1, agents) / agents  # 2 s / n, s = 0.5 linspace, 1 + 1/2 + 1/4
    np.testing.assert_allclose(by_start[-1], exact, rtol=1e-12, atol=1e-20)


def test_a_run_carries_what_the_step_reads():
    """What is kept of each period for the reverse pass is what the next step reads, no more."""
    wide = models.GL06INSOUT
    assert 0 < len(wide.remembered) < len(wide.State.fields) / 2
    sources = frozenset().union(*causality.dependencies(wide).values())
    assert {f"prior.{key}" for key in wide.remembered} >= {
        source for source in sources if source.startswith("prior.")
    }
    path = simulate(wide, periods=4)
    state = simulate(wide, periods=1)[-1]
    for _ in range(3):  # whole states by hand
        state = wide.step(state, wide.params(), wide.scenario(periods=1)[0])
    for key in wide.State.fields:
        np.testing.assert_allclose(getattr(path, key)[-1], getattr(state, key), rtol=1e-12)
