"""Models run and differentiated by NumPy, dual numbers and SymPy, against JAX."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from macrostat_jax import Model, diff, engines, models, simulate
from macrostat_jax.engines import _choices, _evaluate, _formulas

SIZES = {
    "KirmansAnts": {"substep": 20},
    "Mark0COVID": {"firm": 12},
    "TwoMarketsABM": {"household": 24, "firm": 6},
}


def sized(name: str) -> tuple[Model, dict[str, Any]]:
    model = getattr(models, name).resize(**SIZES.get(name, {}))
    return model, ({"key": jax.random.key(1)} if model.random else {})


def agrees(path, expected, of_largest=False):
    """To 1e-12 of each value, or of 1; over a long run, of the largest value that the variable takes."""
    for key, right in vars(expected).items():
        right, found = np.asarray(right), getattr(path, key)
        assert isinstance(found, np.ndarray)
        largest = float(np.abs(right[np.isfinite(right)]).max(initial=0)) if of_largest else 0.0
        np.testing.assert_allclose(
            found, right, rtol=1e-12, atol=1e-12 * max(1.0, largest), err_msg=key
        )


def same_derivatives(found, expected):
    """To 1e-10 of the largest derivative of that variable by that parameter, or of 1."""
    for output, blocks in expected.values.items():
        for label, block in blocks.items():
            finite = np.abs(block[np.isfinite(block)])
            scale = 1e-10 * max(1.0, float(finite.max(initial=0)))
            np.testing.assert_allclose(
                found[output, label], block, rtol=1e-10, atol=scale, err_msg=f"{output} {label}"
            )


@pytest.mark.parametrize("name", models.names())
def test_numpy_runs_every_model(name):
    model, inputs = sized(name)
    path = engines.simulate(model, engine="numpy", periods=6, **inputs)
    agrees(path, simulate(model, periods=6, **inputs))


@pytest.mark.parametrize("name", models.names())
def test_dual_numbers_give_the_derivatives_of_jax(name):
    model, inputs = sized(name)
    wrt = list(model.Params.fields)[:: max(1, len(model.Params.fields) // 8)]
    found = engines.jacobian(model, wrt=wrt, engine="dual", periods=4, **inputs)
    same_derivatives(found, diff.jacobian(model, wrt=wrt, mode="forward", periods=4, **inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_every_variable_by_every_parameter_over_the_whole_horizon(name):
    model, inputs = sized(name)
    path = engines.simulate(model, engine="numpy", **inputs)
    agrees(path, simulate(model, **inputs), of_largest=True)
    found = engines.jacobian(model, engine="dual", **inputs)
    same_derivatives(found, diff.jacobian(model, mode="forward", **inputs))


def test_derivatives_by_paths_and_initial_states():
    of, wrt = ("national_income", "wealth"), ("scenario", "initial.wealth", "tax_rate")
    found = engines.jacobian(models.GL06PC, of, wrt=wrt, engine="dual", periods=5)
    expected = diff.jacobian(models.GL06PC, of, wrt=wrt, periods=5)
    assert list(found.values) == list(of)
    np.testing.assert_allclose(found.matrix(), expected.matrix(), rtol=1e-10, atol=1e-10)


UNARY = (
    "neg abs exp exp2 expm1 log log1p sqrt rsqrt cbrt square sin cos tan asin acos atan sinh cosh"
)
UNARY += " tanh logistic erf erfc erf_inv sign floor ceil round is_finite"


@pytest.mark.parametrize("name", UNARY.split())
def test_primitives_of_one_number(name):
    x = np.array([0.13, 0.4, 0.87])
    _compare(lambda x: getattr(lax, name)(x).astype(float), x)


BINARY = "add sub mul div rem max min pow atan2 eq ne lt le gt ge"


@pytest.mark.parametrize("name", BINARY.split())
def test_primitives_of_two_numbers(name):
    x = np.array([0.3, 1.5, 2.25, 0.7])
    _compare(lambda x: getattr(lax, name)(x, x[::-1] + 0.1).astype(float), x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jnp.linalg.solve(jnp.diag(x) + 0.3, x**2),
        lambda x: jnp.where(x > 1, jnp.cumsum(x), -(x**3)),
        lambda x: jnp.max(x) * jnp.prod(x) + jnp.min(x) - x**-2,
        lambda x: jnp.reshape(x, (2, 2)) @ jnp.reshape(x, (2, 2)).T,
        lambda x: jnp.einsum("ij,kj->ik", jnp.outer(x, x), jnp.outer(x, 1 + x)),
        lambda x: x.at[jnp.array([2, 0, 2])].add(x[:3] ** 2),
        lambda x: jax.ops.segment_sum(x * x, jnp.array([1, 0, 1, 7]), 3),
        lambda x: x[jnp.array([3, 1, 1])] * 2,
        lambda x: jnp.tile(jnp.outer(x, x), (2, 3)) + 1 + x[0],
        lambda x: jnp.outer(x, x)[jnp.array([3, 1]), :2],
        lambda x: lax.dynamic_slice(jnp.concatenate([x, x]), (jnp.array(3),), (4,)),
        lambda x: jnp.clip(x, 0.5, 2.0) + jnp.flip(x)[::-1] + jnp.pad(x[1:], (1, 0)),
        lambda x: lax.while_loop(lambda c: c[1] < 3, lambda c: (c[0] * x, c[1] + 1), (x, 0))[0],
        lambda x: lax.cond(x[0] < 1, lambda y: y * y, lambda y: -y, x),
        lambda x: lax.scan(lambda c, r: (c * r, c + r), 1.0, x, reverse=True)[1],
        lambda x: jax.vmap(lambda a: jnp.tanh(a * x))(x).sum(0) + lax.stop_gradient(x) * x,
        lambda x: checkpoint_name(x * x, "kept") + lax.optimization_barrier(x),
        lambda x: lax.dynamic_slice(x, (jnp.argmax(x),), (2,)) * x[:2],
        lambda x: x[jnp.array([2, 0, 3, 1])][jnp.argmin(x)] * x,
        lambda x: jnp.take(x, jnp.array([1, 9, -1]), mode="fill") ** 2,
        lambda x: jnp.take(x, jnp.array([1, 9, -8]), mode="clip") ** 2,
        lambda x: x.at[jnp.array([1, 9])].add(x[:2] ** 2, mode="clip"),
        lambda x: x.at[jnp.array([1, 9])].add(x[:2] ** 2, mode="drop"),
        lambda x: jnp.outer(x, x).at[1:3, jnp.array([0, 3])].add(x[:2] * x[0]),
        lambda x: jax.vmap(lambda row, i: row[i])(jnp.outer(x, x), jnp.arange(8).reshape(4, 2) % 4),
        lambda x: jax.vmap(lambda row, i: x.at[i].add(row))(jnp.outer(x, x), jnp.eye(4, dtype=int)),
        lambda x: lax.clamp(x * 0 + x[3], x, x * 0 + 1 + x[0]),
        lambda x: lax.clamp(0.7, x, 1.5) + jnp.prod((x - 1.5) * x),
        lambda x: jnp.prod(jnp.outer(x - 0.7, x - 1.5), axis=1),
        lambda x: lax.round(x * 0 + jnp.array([0.5, 1.5, -0.5, 2.4])) + x,
        lambda x: jnp.round(x * 0 + jnp.array([0.5, 1.5, -0.5, 2.4])) + x,
        lambda x: x * jax.random.normal(jax.random.key(3), (4,)),
        lambda x: jnp.take_along_axis(x, jnp.argmin(x, keepdims=True), 0) * jnp.stack([x, x])[1],
    ],
)
def test_programs(function):
    _compare(function, np.array([0.3, 1.5, 2.25, 0.7]))


def _compare(function, x):
    program = jax.make_jaxpr(function)(x)
    direction = np.cos(np.arange(x.size)).reshape(x.shape)
    # Compiled whole: one by one, the operations and their derivatives would be a program each.
    value, expected = jax.jit(lambda *at: jax.jvp(function, at[:1], at[1:]))(x, direction)
    numpy = engines.NumPy()
    (found,) = numpy.run(program, x)
    np.testing.assert_allclose(found, value, rtol=1e-13, atol=1e-15)
    (dual,) = engines.Dual().run(program, engines.Number(x, direction))
    dot = np.zeros(np.shape(value)) if dual.dot is None else dual.dot
    np.testing.assert_allclose(dual.value, value, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(dot, expected, rtol=1e-12, atol=1e-14)


# Formulas ---------------------------------------------------------------------------------------


def test_formulas_read_like_the_book():
    formulas = engines.symbolic(models.GL06SIM)
    assert str(formulas["disposable_income"]) == r"-T_d + W\cdot N_s"
    assert r"T_{d} &= " in formulas.latex() and r"\theta" in formulas.latex()
    one = formulas.jacobian(["disposable_income"], ["now.tax_demand"])
    assert one == sp.Matrix([[-1]])


def test_an_exact_steady_state():
    formulas = engines.symbolic(models.GL06SIM)
    rest = formulas.steady_state()
    (income,) = formulas.symbols["now.national_income"].ravel()
    (demand,) = formulas.symbols["scenario.government_demand"].ravel()
    (theta,) = formulas.symbols["tax_rate"].ravel()
    assert sp.simplify(rest[income] - demand / theta) == 0
    at = {demand: 20, theta: sp.Rational(1, 5)}
    assert [sp.diff(rest[income], s).subs(at) for s in (theta, demand)] == [-500, 5]


DETERMINISTIC = [name for name in models.names() if not models.get(name).random]


def point(formulas, periods=3):
    """The last step of a run: what it starts from, and symbol -> number of all that it knows."""
    model = formulas.model
    params, path = model.params(), simulate(model, periods=periods + 1)
    row = (
        model.scenario(periods=periods + 1)[periods] if model.Scenario.fields else model.scenario()
    )
    values: dict[Any, float] = {}
    known = (
        ("now.", path[periods]),
        ("prior.", path[periods - 1]),
        ("", params),
        ("scenario.", row),
    )
    for prefix, record in known:
        for key in record.fields:
            symbols = np.ravel(formulas.symbols[prefix + key])
            numbers = np.ravel(np.asarray(getattr(record, key), float))
            for symbol, number in zip(symbols, numbers, strict=True):
                assert values.setdefault(symbol, number) == number, f"two meanings of {symbol}"
    return path[periods - 1], params, row, values


def holds(formulas):
    *_, values = point(formulas)
    found = sp.lambdify(list(values), list(formulas.equations.values()))(*values.values())
    expected = [values[symbol] for symbol in formulas.equations]
    np.testing.assert_allclose(np.array(found, float), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_every_formula_holds_along_a_run(name):
    formulas = engines.symbolic(getattr(models, name))
    holds(formulas)
    assert formulas.latex().count("&=") == len(formulas.equations)


@pytest.mark.parametrize(
    "options",
    [
        {"production_function": "leontief", "firm_priority": True},
        {"production_function": "linear", "hiring_firing": False},
    ],
)
def test_formulas_of_options(options):
    holds(engines.symbolic(models.PichlerEtAl2022DIO.configure(**options)))


def jacobians_agree(name, every):
    """Of the step as a whole: the formulas' derivatives by each other, followed through the equations."""
    formulas = engines.symbolic(getattr(models, name))
    model = formulas.model
    prior, params, row, values = point(formulas)
    keys = list(model.State.fields)
    wrt = list(model.Params.fields)[:: 1 if every else max(1, len(model.Params.fields) // 3)]
    now = [f"now.{key}" for key in keys]
    at = {symbol: sp.Float(number) for symbol, number in values.items()}
    symbolic = [formulas.jacobian(keys, names) for names in (now, wrt)]
    inside, direct = (np.array(one.xreplace(at).tolist(), float) for one in symbolic)
    # A variable that holds what another one was a period ago has that one's symbol, which is given.
    before = {s for key in keys for s in np.ravel(formulas.symbols[f"prior.{key}"])}
    inside[:, [s in before for s in formulas._flat(now)]] = 0
    found = np.linalg.solve(np.eye(len(inside)) - inside, direct)

    def one(chosen):
        after = model.step(prior, params.replace(**chosen), row)
        return jnp.concatenate([jnp.ravel(getattr(after, key)) for key in keys])

    slopes = jax.jit(jax.jacfwd(one))({key: getattr(params, key) for key in wrt})
    right = np.concatenate([np.reshape(slopes[key], (len(found), -1)) for key in wrt], axis=1)
    scale = np.abs(right).max(initial=1.0)
    np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-12 * scale)


@pytest.mark.parametrize(
    "name", [n for n in DETERMINISTIC if n not in ("ECO3IOPC", "GL06INSOUT", "IOPC")]
)
def test_symbolic_jacobians_are_those_of_jax(name):
    jacobians_agree(name, every=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_symbolic_jacobians_by_every_parameter(name):
    jacobians_agree(name, every=True)


def test_formulas_of_many_industries_stay_small():
    """As many parts as there are candidates: conditions on all pairs would be a hundred times as many."""
    sizes = []
    for many in ("ABCD", "ABCDEFGH"):
        model = models.PichlerEtAl2022DIO.resize(industry=tuple(many))
        first = np.ravel(engines.symbolic(model)["input_capacity"])[0]
        sizes.append(sum(1 for _ in sp.preorder_traversal(first)))
    assert sizes[1] < 2.1 * sizes[0]


CHOICES = [
    lambda x: jnp.argmin(x).astype(float),
    lambda x: jnp.argmax(x[::-1]).astype(float) * x,
    lambda x: x[jnp.argmin(x)] ** 2,
    lambda x: lax.dynamic_slice(x * x, (jnp.argmax(x),), (2,)),
    lambda x: jnp.outer(x, x)[jnp.argmin(x), jnp.argmax(x)],
    lambda x: x.at[jnp.argmin(x)].add(x[0] ** 3),
    lambda x: jnp.take(x, jnp.argmax(x) + 2, mode="fill", fill_value=7.0) * x[1],
    lambda x: lax.select_n(jnp.argmin(x[:3]).astype(jnp.int32), x[0], x[1] ** 2, x[2]),
    lambda x: jnp.sum(jnp.where(jnp.arange(4) == jnp.argmin(x), x * x, 0)) + x[0],
    lambda x: jnp.take_along_axis(
        jnp.outer(x, x), jnp.argmin(jnp.outer(x, -x), 1, keepdims=True), 1
    ),
    lambda x: jnp.where(x[jnp.argmax(x)] > 1.5, x, -x),
    lambda x: jnp.where(jnp.isfinite(1 / (x - 1)), x * x, x),
    lambda x: jnp.where(jnp.isfinite(jnp.where(x > 1, x, jnp.inf)), x * x, x),
    lambda x: jnp.where((x > 1)[jnp.argmin(x)], x * x, 3 * x),
    lambda x: lax.stop_gradient(x * x) * x,
    lambda x: jnp.abs(x - 1.75) * jnp.sign(x - 2.75),
    lambda x: jnp.arctan2(x, x[::-1]) + jnp.sinh(x) * jnp.cosh(x) + jnp.exp2(x) + jnp.arctan(x),
    lambda x: jnp.asin(x / 5) + jnp.acos(x / 5) + jax.scipy.special.erfc(x),
    lambda x: x.at[jnp.array([0, 2, 0])].add(x[:3]),
]


@pytest.mark.parametrize("function", CHOICES)
@pytest.mark.parametrize("x", [[3.0, 1.5, 2.5, 1.25], [2.0, 1.0, 1.0, 2.0]])
def test_formulas_that_choose(function, x):
    program = jax.make_jaxpr(function)(np.ones(4))
    symbols = np.array(sp.symbols("a b c d"), object)
    (found,) = engines.SymPy().run(program, symbols)
    slopes = [_formulas._slopes(formula, symbols) for formula in np.ravel(found)]
    x = np.array(x)
    right, slope = function(jnp.asarray(x)), jax.jacfwd(function)(x)
    with np.errstate(divide="ignore"):  # NumPy computes what is not chosen, too
        numbers = sp.lambdify(list(symbols), [list(np.ravel(found)), slopes])(*x)
    at = dict(zip(symbols, map(sp.nsimplify, x), strict=True))
    put = (
        [formula.subs(at) for formula in np.ravel(found)],
        [[s.subs(at) for s in r] for r in slopes],
    )
    for one, (value, derivative) in enumerate((numbers, put)):
        value, derivative = np.array(value, float), np.array(derivative, float)
        np.testing.assert_allclose(value, np.ravel(right), rtol=1e-14, err_msg=str(one))
        np.testing.assert_allclose(derivative, np.reshape(slope, derivative.shape), rtol=1e-13)
    assert all(sp.latex(formula) for formula in np.ravel(found))


def test_extremes_that_may_be_undefined_are_refused():
    with pytest.raises(engines.UnsupportedOperation, match="no Max of formulas that may be"):
        engines.symbolic(models.PichlerEtAl2022DIO.configure(sharpness=50.0))


def test_positions_read_as_they_do_in_books():
    a, b = sp.symbols("a b")
    least: Any = _choices.Pick(_choices.ArgMin(a, b), a, b)
    assert sp.latex(least**2) == r"\min^{2}\left(a, b\right)"
    assert sp.latex(_choices.ArgMax(a, b)) == r"\operatorname{arg\,max}\left(a, b\right)"
    picked = _choices.Pick(_choices.ArgMax(a, b), b, 1)
    assert sp.latex(picked) == rf"\left(b, 1\right)_{{{sp.latex(_choices.ArgMax(a, b))}}}"
    assert least.subs({a: 2, b: sp.nan}) is sp.nan  # as JAX: the first NaN is the least
    grid = sp.lambdify([a, b], least)(np.array([1.0, 2.0]), 1.5)
    np.testing.assert_array_equal(grid, [1.0, 1.5])


def test_a_symbolic_hessian_is_that_of_jax():
    model, of = models.NK3E, "rate_response"
    formulas = engines.symbolic(model, "reduced")
    wrt = list(model.Params.fields)[:4]
    prior, row = simulate(model, periods=3)[-1], model.scenario()[0]
    symbols, values = [], []
    for prefix, record in (("prior.", prior), ("", model.params()), ("scenario.", row)):
        for key in record.fields:
            symbols += list(np.ravel(formulas.symbols[prefix + key]))
            values += list(np.ravel(np.asarray(getattr(record, key), float)))
    found = formulas.hessian(of, wrt).subs(dict(zip(symbols, values, strict=True)))

    def one(x):
        params = model.params().replace(**dict(zip(wrt, x, strict=True)))
        return getattr(model.step(prior, params, row), of)

    right = jax.hessian(one)(jnp.array([getattr(model.params(), key) for key in wrt]))
    np.testing.assert_allclose(np.array(found, float), right, rtol=1e-9, atol=1e-9)


# Bad input --------------------------------------------------------------------------------------


def loop(x):
    return lax.while_loop(lambda y: y[0] < 3, lambda y: 2 * y, x)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (loop, "sympy engine follows no loop that depends on symbols"),
        (lambda x: lax.cond(x[0] > 1, jnp.sin, jnp.cos, x), "follows no branch that depends"),
        (lambda x: jnp.floor(x), "sympy engine has no operation 'floor'"),
        (lambda x: lax.rem(x, x[::-1]), "sympy engine has no operation 'rem'"),
        (lambda x: jnp.argmin(x) // 2, "sympy engine has no operation 'div' of whole numbers"),
        (
            lambda x: x[(x[0] > 1).astype(int)],
            "sympy engine follows no place that depends on symbols",
        ),
        (lambda x: x.astype(int), "sympy engine cuts no formula to a whole number"),
    ],
)
def test_what_has_no_formula_is_refused_by_name(function, words):
    program = jax.make_jaxpr(function)(np.ones(2))
    with pytest.raises(engines.UnsupportedOperation, match=words):
        engines.SymPy().run(program, np.array(sp.symbols("a b"), object))


def test_a_missing_operation_is_named():
    program = jax.make_jaxpr(lambda x: jnp.linalg.svd(x, compute_uv=False))(np.eye(2))
    with pytest.raises(engines.UnsupportedOperation, match=r"numpy engine has no operation 'svd'"):
        engines.NumPy().run(program, np.eye(2))
    unused = jax.make_jaxpr(lambda x: (jnp.linalg.svd(x), x + 1)[1])(np.eye(2))
    np.testing.assert_array_equal(engines.NumPy().run(unused, np.eye(2))[0], np.eye(2) + 1)
    assert set(_evaluate.CALLS) >= {"jit", "custom_jvp_call"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: engines.simulate(models.GL06SIM, engine="fortran"), "Unknown engine 'fortran'"),
        (
            lambda: engines.jacobian(models.GL06SIM, engine="numpy"),
            "numpy engine has no derivatives",
        ),
        (
            lambda: engines.simulate(
                models.GL06SIM, models.GL06SIM.params(tax_rate=np.array([0.1, 0.2])), engine="numpy"
            ),
            "one simulation at a time",
        ),
        (lambda: engines.symbolic(models.RandomWalk), "RandomWalk is random"),
        (lambda: engines.symbolic(models.GL06SIM, "final"), "form must be"),
    ],
)
def test_bad_requests(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(KeyError, match="There is no 'taxes' here"):
        engines.symbolic(models.GL06SIM).jacobian(["national_income"], ["taxes"])
