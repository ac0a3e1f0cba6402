"""The diagnosis: planted faults are named with their line, and nothing else is."""

from __future__ import annotations

import inspect
import itertools
import json

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from model_cases import randomly

from macrostat_jax import AddingUp, Model, Record, Scalar, exogenous, index, models, param, smooth
from macrostat_jax.diff import diagnose
from macrostat_jax.models import GL06LP2, GL06SIM, LINEAR2D


class Scenario(Record):
    demand: Scalar = exogenous(1.0)


class State(Record):
    output: Scalar = index("y", "")
    stock: Scalar = index("s", "")


class Params(Record):
    growth: Scalar = param(0.5, bounds=(-5, 5))
    level: Scalar = param(2.0, bounds=(-5, 5))


def start(params, scenario):
    return State.filled(0.0)


def toy(term):
    """The output is half of the last one, `term(growth)` and `level` times demand."""

    def step(prior, params, scenario):
        output = 0.5 * prior.output + term(params.growth) + params.level * scenario.demand
        return State(output=output, stock=prior.stock + output)

    return Model("TOY", Params, Scenario, State, start, step, periods=6)


@jax.custom_jvp
def ruled(x):
    return jnp.sin(x)


ruled.defjvp(lambda p, t: (ruled(p[0]), 1.0001 * jnp.cos(p[0]) * t[0]))


@jax.custom_vjp
def pulled(x):
    return jnp.sin(x)


pulled.defvjp(lambda x: (jnp.sin(x), x), lambda x, g: (1.0001 * jnp.cos(x) * g,))

counter = itertools.count()
NUMBER = jax.ShapeDtypeStruct((), np.dtype("float64"))

FAULTS = {
    # name: (verdict, operation, the term that is wrong)
    "where with 0/0 behind it": (
        "non-finite",
        "div (/)",
        lambda x: jnp.where(x > 0.1, x, (x - 0.5) / (x - 0.5)),
    ),
    "maximum at a tie": ("kink", "max", lambda x: jnp.maximum(x, 0.5)),
    "small kink": ("kink", "max", lambda x: x + 0.008 * jnp.maximum(x, 0.5)),
    "kink nearby": ("kink", "abs", lambda x: jnp.abs(x - 0.50001)),
    "clip": ("kink", "clip", lambda x: jnp.clip(x, 0.0, 0.5003)),
    "smallest of several": (
        "kink",
        "reduce_min",
        lambda x: jnp.min(jnp.stack([x, 0.9 * x + 0.05003, 2 * x])),
    ),
    "threshold": ("flat", "where", lambda x: jnp.where(x > 0.50002, 1.0, 0.0)),
    "jump": ("jump", "where", lambda x: jnp.where(x > 0.5, 1.0, 0.0) + x),
    "jump, in a user's jit": (
        "jump",
        "where",
        lambda x: jax.jit(lambda y: jnp.where(y > 0.5001, y, 2 * y))(x),
    ),
    "whole number": ("jump", "floor", lambda x: jnp.floor(4.0001 * x) + x),
    "branch": (
        "jump",
        "cond",
        lambda x: jax.lax.cond(x > 0.4999, lambda y: y, lambda y: 3 * y, x),
    ),
    "in a loop": (
        "jump",
        "where",
        lambda x: jax.lax.scan(lambda c, i: (c + jnp.where(c > 1.5002, 1.0, x), 0.0), x, None, 4)[
            0
        ],
    ),
    "logarithm of nothing": ("non-finite", "log", lambda x: jnp.log(x - 0.5)),
    "root near its end": ("non-finite", "sqrt", lambda x: jnp.sqrt(x - 0.4999)),
    "stop_gradient": ("wrong", "stop_gradient", lambda x: 2 * jax.lax.stop_gradient(x)),
    "custom_jvp": ("wrong", "custom_jvp_call", lambda x: ruled(x)),
    "custom_vjp": ("wrong", "custom_vjp_call", lambda x: pulled(x)),
    "float32": (
        "ill-scaled",
        "convert_element_type",
        lambda x: x.astype("float32").astype(x.dtype),
    ),
    "host": ("wrong", "pure_callback", lambda x: jax.pure_callback(np.sin, NUMBER, x)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults(name):
    verdict, operation, term = FAULTS[name]
    report = diagnose(toy(term))
    found = report["growth"]
    assert found.verdict == verdict, report
    assert not report.passed
    assert found.cause is not None and found.cause.operation == operation, report
    assert found.cause.place is not None and found.cause.place.file == __file__
    lines, first = inspect.getsourcelines(term)
    assert first <= found.cause.place.line < first + len(lines)
    if verdict in ("kink", "jump") or name in ("where with 0/0 behind it", "custom_jvp"):
        # Found along the path: the first period, and the variable that the term is part of.
        assert (found.cause.period, found.cause.variable) == (0, "output")
    # The other parameter shares everything but the term.
    spoilt = verdict == "non-finite" and "logarithm" in name
    assert report.verdict("level") == ("non-finite" if spoilt else "smooth"), report
    json.loads(report.to_json())


def test_distances_are_those_of_the_switches():
    assert diagnose(toy(FAULTS["kink nearby"][2]))["growth"].distance == pytest.approx(
        2e-5, rel=1e-3
    )
    assert diagnose(toy(FAULTS["clip"][2]))["growth"].distance == pytest.approx(6e-4, rel=1e-3)
    jump = diagnose(toy(FAULTS["jump"][2]))["growth"]
    assert jump.distance == 0
    # Of the means over 6 periods: the stock jumps by 1, 2.5, 4.25, ... of the sum of halves.
    outputs = 2 - 0.5 ** np.arange(6)
    assert jump.size == pytest.approx(np.cumsum(outputs).mean(), rel=1e-6) or jump.size == (
        pytest.approx(outputs.mean(), rel=1e-6)
    )


def test_a_parameter_without_effect():
    report = diagnose(toy(lambda x: 1.0))
    assert report.passed and report.verdict("growth") == "flat"
    assert "Dead" in report["growth"].why
    report = diagnose(toy(lambda x: 0.0 * x))
    assert report.passed and report.verdict("growth") == "flat"
    assert "no effect here" in report["growth"].why


def test_a_parameter_derived_by_a_constraint():
    total = AddingUp(("level", "growth"), 2.5)
    report = diagnose(toy(lambda x: jnp.sin(x)).with_constraints((total,)))
    assert report.passed and report.verdict("growth") == "flat"
    assert "derived from other parameters by a constraint" in report["growth"].why


@pytest.mark.parametrize(
    ("term", "operation"),
    [
        (
            lambda x: x * jax.pure_callback(lambda: np.float64(next(counter)), NUMBER),
            "pure_callback",
        ),
        (lambda x: x * float(next(counter)), "mul"),
    ],
)
def test_a_step_that_is_no_function(term, operation):
    report = diagnose(toy(term))
    assert not report.passed
    for found in report.findings:
        assert found.verdict == "non-deterministic"
        assert found.cause is not None and found.cause.operation == operation
        assert found.cause.place and found.cause.place.line == inspect.getsourcelines(term)[1]


def many(wrong):
    """A model of 50 parameters, each through a function with a hand-written derivative; one is wrong."""

    def function(scale):
        @jax.custom_jvp
        def wave(x):
            return jnp.tanh(x)

        wave.defjvp(lambda p, t: (wave(p[0]), scale / jnp.cosh(p[0]) ** 2 * t[0]))
        return wave

    waves = [function(1.0001 if i == wrong else 1.0) for i in range(50)]
    fields = {f"p{i}": param(0.1 + 0.01 * i, bounds=(-5, 5)) for i in range(50)}
    kind = type("Many", (Record,), {"__annotations__": dict.fromkeys(fields, Scalar), **fields})

    def step(prior, params, scenario):
        terms = [wave(getattr(params, f"p{i}")) for i, wave in enumerate(waves)]
        output = 0.5 * prior.output + sum(terms) * scenario.demand
        return State(output=output, stock=prior.stock + output)

    return Model("MANY", kind, Scenario, State, start, step, periods=4)


def test_one_gradient_of_fifty_is_wrong_by_one_in_ten_thousand():
    report = diagnose(many(37))
    wrong = [found.name for found in report.findings if found.verdict != "smooth"]
    assert wrong == ["p37"] and report.verdict("p37") == "wrong"
    cause = report["p37"].cause
    assert cause is not None and cause.operation == "custom_jvp_call" and cause.period == 0
    assert cause.place is not None and "wave(getattr" in cause.place.text
    assert not report["p37"].others


def test_switches_of_a_registered_model_are_named():
    report = diagnose(GL06LP2)
    upper = report["TargetProportionUpper"]
    assert upper.verdict == "flat" and not report.passed
    assert upper.cause is not None and upper.cause.place is not None
    assert upper.cause.place.file.endswith("gl06lp2.py")
    assert "where(excess > 0" in upper.cause.place.text
    # By hand: the first period in which the runs to both sides of the place have another price.
    from macrostat_jax import simulate

    assert upper.value is not None and upper.distance is not None
    at = upper.value * (1 + upper.distance)
    low, high = (
        simulate(GL06LP2, GL06LP2.params(target_proportion_upper=at * (1 + s))).bond_price
        for s in (-1e-9, 1e-9)
    )
    assert upper.cause.period == int(np.flatnonzero(np.asarray(low != high))[0])
    assert upper.cause.variable == "bond_price"


def test_smooth_switches_and_their_distance_from_the_path():
    report = diagnose(GL06LP2, periods=30, sharpness=(5_000.0, 20_000.0))
    rough, fine = report.alternatives
    assert (rough.sharpness, fine.sharpness) == (5_000.0, 20_000.0)
    assert 0 < fine.distance < 1e-3 * rough.distance < 1e-3
    rounded = diagnose(GL06LP2.configure(sharpness=5_000.0), periods=30)
    assert rounded.passed, rounded
    with pytest.raises(ValueError, match="has no option 'sharpness'"):
        diagnose(GL06SIM, sharpness=(1.0,))


def test_rounded_off_switches_are_smooth_however_steep():
    report = diagnose(toy(lambda x: smooth.mask(x - 0.50001, 3e5)))
    assert report.verdict("growth") == "smooth", report
    assert diagnose(toy(lambda x: 1e-3 * jnp.sin(1e4 * x))).verdict("growth") == "smooth"


def test_a_switch_that_changes_nothing_is_no_kink():
    assert diagnose(toy(lambda x: jnp.where(x > 0.50002, x * 2, x + x))).passed
    guarded = toy(lambda x: smooth.safe_divide(x, x - 0.3) + jnp.where(jnp.isfinite(x), x, 0.0))
    assert diagnose(guarded).passed


def test_switches_of_the_loss():
    output = stock = 0.0
    for _ in range(6):
        output = 0.5 * output + 2.5
        stock += output

    def at_the_corner(path):
        return jnp.maximum(path.stock[-1], stock)

    found = diagnose(toy(lambda x: x), at_the_corner)["level"]
    assert found.verdict == "kink" and found.cause is not None
    assert found.cause.phase == "loss" and "function of the path" in str(found.cause)
    assert found.cause.place and "jnp.maximum(path.stock[-1], stock)" in found.cause.place.text


def test_other_inputs_than_parameters():
    report = diagnose(GL06SIM, wrt=("tax_rate", "scenario", "initial"), periods=8)
    assert report.passed
    assert report.verdict("scenario.government_demand[3]") == "smooth"
    assert report.verdict("initial.household_money_stock") == "smooth"
    assert report.verdict("initial.national_income") == "flat"


def test_arrays_by_element_or_as_wholes():
    whole = diagnose(LINEAR2D, wrt="initial", elements=False, periods=5)
    assert [found.name for found in whole.findings] == ["initial.state"]
    assert whole.passed and whole.findings[0].value is None
    single = diagnose(LINEAR2D, wrt="initial", periods=5)
    assert [found.name for found in single.findings] == ["initial.state[0]", "initial.state[1]"]
    assert single.passed


def test_random_models_run_with_common_random_numbers():
    model = models.RandomWalk if hasattr(models, "RandomWalk") else models.get("RandomWalk")
    report = diagnose(model, periods=20, key=jax.random.key(3))
    assert report.verdict("theta") == "flat"
    assert "the same key in every run" in report.summary()
    with pytest.raises(TypeError, match="pass key="):
        diagnose(model)


def test_second_order_on_request():
    report = diagnose(GL06SIM, periods=20, second_order=True)
    assert report.passed, report
    assert report.tests[-1].name == "second derivatives, along a random direction"

    @jax.custom_jvp
    def square(x):
        return x * x

    @square.defjvp
    def _(p, t):
        return square(p[0]), 2 * jax.lax.stop_gradient(p[0]) * t[0]

    assert diagnose(toy(square)).passed
    wrong = diagnose(toy(square), second_order=True)
    assert not wrong.passed and not wrong.tests[-1].passed


@pytest.mark.parametrize("name", ["GL06SIM", "GL06LP2", "NK3E", "RandomWalk"])
def test_dual_numbers_are_one_more_opinion(name):
    model = models.get(name)
    report = diagnose(model, engine="dual", key=jax.random.key(3) if model.random else None)
    assert report.passed or name == "GL06LP2"
    (test,) = [one for one in report.tests if one.name.startswith("dual numbers")]
    assert test.value <= 1e-10


def test_dual_numbers_see_a_wrong_rule():
    @jax.custom_jvp
    def double(x):
        return 2 * x

    double.defjvp(lambda x, dx: (double(*x), 2.001 * dx[0]))

    def step(prior, params, scenario):
        state = GL06SIM.step(prior, params, scenario)
        return state.replace(wages=double(params.tax_rate) + state.wages)

    model = Model(
        "Double", GL06SIM.Params, GL06SIM.Scenario, GL06SIM.State, GL06SIM.initial_state, step
    )
    report = diagnose(model, engine="dual")
    (test,) = [one for one in report.tests if one.name.startswith("dual numbers")]
    assert test.value > 1e-6 and not report.passed
    with pytest.raises(ValueError, match=r"Unknown engine 'abacus'\. There is: 'dual'"):
        diagnose(models.GL06SIM, engine="abacus")


def test_float32_users_get_float64_diagnoses(float32):
    report = diagnose(GL06SIM)
    assert report.passed and "float32: at most" in report.notes[0]
    assert report["tax_rate"].error < 1e-6


def test_the_table_and_the_picture():
    report = diagnose(toy(lambda x: jnp.abs(x - 0.50001)))
    text = str(report)
    for part in (
        "TOY",
        "growth",
        "kink",
        "test_diagnose.py:",
        "jnp.abs(x - 0.50001)",
        "NOT PASSED",
    ):
        assert part in text
    data = json.loads(report.to_json())
    assert data["passed"] is False
    (one,) = [f for f in data["findings"] if f["name"] == "growth"]
    cause = report["growth"].cause
    assert cause is not None and cause.place is not None
    assert one["cause"]["line"] == cause.place.line
    figure = report.plot()
    (axis,) = [axis for axis in figure.axes if axis.get_visible()]
    ups, downs, _ = axis.get_lines()
    # Of the stock's mean or the output's: to the right of the corner the slope changes its sign.
    assert np.sign(ups.get_ydata()[-1]) != np.sign(downs.get_ydata()[0])
    np.testing.assert_allclose(downs.get_ydata(), report["growth"].derivative, rtol=1e-6)
    plt.close(figure)
    with pytest.raises(KeyError, match="was not looked at: growth, level"):
        report["slope"]


def test_bad_input():
    with pytest.raises(TypeError, match="Expected a model"):
        diagnose("GL06SIM")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="reach must be a share"):
        diagnose(GL06SIM, reach=2.0)
    with pytest.raises(ValueError, match="one run, not a batch"):
        diagnose(GL06SIM, params=GL06SIM.params(tax_rate=np.array([0.1, 0.2])))
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(lambda rate: diagnose(GL06SIM, params=GL06SIM.params(tax_rate=rate)))(0.2)


SMOOTH = [
    name
    for name in models.names()
    if "sharpness" not in models.get(name).options and not models.get(name).random
]


def no_alarm(model, draws, seed=0, **inputs):
    for draw in range(draws):
        report = diagnose(model, params=randomly(model, seed + draw), **inputs)
        assert report.passed, report


@pytest.mark.parametrize("name", ["LINEAR2D", "NK3E", "GL06SIM"])
def test_no_false_alarm(name):
    no_alarm(models.get(name), 8, periods=20)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMOOTH)
def test_no_false_alarm_on_a_thousand_draws(name):
    no_alarm(models.get(name), 1000, periods=30)


UNARY = {
    "sin": jnp.sin,
    "cos": jnp.cos,
    "tanh": jnp.tanh,
    "atan": jnp.arctan,
    "asinh": jnp.arcsinh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "erf": jax.scipy.special.erf,
    "exp": lambda x: jnp.exp(jnp.tanh(x)),
    "expm1": lambda x: jnp.expm1(0.3 * jnp.sin(x)),
    "log": lambda x: jnp.log(1.5 + jnp.cos(x)),
    "log1p": lambda x: jnp.log1p(x * x),
    "sqrt": lambda x: jnp.sqrt(1 + x * x),
    "rsqrt": lambda x: jax.lax.rsqrt(2 + x * x),
    "cube": lambda x: 0.1 * x**3,
    "power": lambda x: (1.2 + jnp.sin(x)) ** 1.7,
    "silu": jax.nn.silu,
    "cosh": lambda x: 1 / jnp.cosh(x),
    "square": jnp.square,
    "cbrt": lambda x: jnp.cbrt(2 + jnp.tanh(x)),
}
BINARY = {
    "add": jnp.add,
    "subtract": jnp.subtract,
    "multiply": lambda a, b: jnp.tanh(a) * b,
    "divide": lambda a, b: a / (1 + b * b),
    "logaddexp": jnp.logaddexp,
    "hypot": lambda a, b: jnp.sqrt(0.5 + a * a + b * b),
    "atan2": lambda a, b: jnp.arctan2(a, 2 + b * b),
    "where": lambda a, b: jnp.where(True, a, b),
    "dot": lambda a, b: jnp.dot(jnp.stack([a, b]), jnp.stack([b, 0.5 * a])),
    "cumsum": lambda a, b: jnp.cumsum(jnp.stack([a, b]))[1],
    "smooth": lambda a, b: smooth.maximum(a, b, 5.0),
}
PLANTED = {
    "kink": lambda a: jnp.maximum(a, a * 0.5 + 0.25),
    "jump": lambda a: jnp.where(a > 0.5, a + 0.3, a),
}


class Mix(Record):
    a: Scalar = param(0.7, bounds=(-5, 5))
    b: Scalar = param(-0.4, bounds=(-5, 5))
    c: Scalar = param(1.3, bounds=(-5, 5))
    d: Scalar = param(0.0, bounds=(-5, 5))


def composed(seed, count):
    """A model whose outputs are `count` random compositions of 20 primitives and more."""
    rng = np.random.default_rng(seed)
    variables = {f"v{i}": index(f"v_{{{i}}}", "") for i in range(count)}
    kind = type(
        "Mixed", (Record,), {"__annotations__": dict.fromkeys(variables, Scalar), **variables}
    )
    plans = []
    for _ in range(count):
        ways = []
        for _ in range(20):
            name = rng.choice([*UNARY, *BINARY])
            ways.append((str(name), int(rng.integers(0, 100)), int(rng.integers(0, 100))))
        plans.append(ways)

    def step(prior, params, scenario):
        found = {}
        for i, ways in enumerate(plans):
            pool = [params.a, params.b, params.c, params.d, getattr(prior, f"v{i}")]
            for name, first, second in ways:
                one, two = pool[first % len(pool)], pool[-1 - second % 3]
                made = UNARY[name](one) if name in UNARY else BINARY[name](one, two)
                pool.append(made)
            found[f"v{i}"] = 0.5 * jnp.tanh(sum(pool[5:]))
        return kind(**found)

    return Model("MIXED", Mix, Scenario, kind, lambda p, s: kind.filled(0.1), step, periods=4)


def test_no_false_alarm_on_random_compositions():
    report = diagnose(composed(0, 3))
    assert report.passed, report


@pytest.mark.slow
def test_no_false_alarm_on_a_thousand_random_compositions():
    for seed in range(1, 101):
        report = diagnose(composed(seed, 10))
        assert report.passed, report


@pytest.mark.parametrize("kind", PLANTED)
def test_planted_switches_among_random_functions_are_found(kind):
    rng = np.random.default_rng(5)
    for _ in range(2):
        one, two = (UNARY[str(name)] for name in rng.choice(list(UNARY), 2))
        switch = PLANTED[kind]

        def term(x, one=one, two=two, switch=switch):
            # The switch is crossed 0.03 % above the value.
            return one(switch(x - 1.5e-4) + two(x))

        found = diagnose(toy(term))["growth"]
        assert found.verdict == kind
        assert found.distance == pytest.approx(3e-4, rel=1e-3)
        assert found.cause is not None and found.cause.place is not None
        assert found.cause.place.line == inspect.getsourcelines(switch)[1]


def test_exact_zeros_and_the_linear_system():
    report = diagnose(LINEAR2D)
    assert report.passed and report["x0_2"].value == 0.0


def test_modes_that_differ_are_named():
    def halved(x):
        # Its transpose, which reverse mode takes, is not its own.
        return jax.lax.custom_linear_solve(
            lambda v: 2.0 * v, x, lambda _, b: b / 2, lambda _, b: 1.001 * b / 2
        )

    report = diagnose(toy(lambda x: jnp.min(jnp.stack([halved(x), 2 * x]))))
    found = report["growth"]
    assert found.verdict == "wrong" and "Forward and reverse mode give different" in found.why
    assert found.cause is not None and found.cause.operation == "reduce_min"
    assert not report.tests[1].passed and report.verdict("level") == "smooth"


def test_operations_without_a_trace_have_no_place():
    from macrostat_jax.diff import _source

    program = jax.make_jaxpr(lambda x: jnp.where(x > 0, x, -x))(1.0)
    jaxpr, consts = _source.opened(program)
    first = jaxpr.eqns[0]
    here = _source.place(first)
    assert here is not None and here.file == __file__ and "jnp.where(x > 0" in here.text
    (call,) = [e for e in jaxpr.eqns if _source.called(e) is not None]
    inner, _ = _source.opened(_source.called(call))
    # Within a function that JAX has jitted itself the line is that of the call.
    assert _source.place(inner.eqns[0]) is None
    assert _source.place(inner.eqns[0], here) == here
    assert _source.program_name(_source.called(call)) == "_where" and consts == []
