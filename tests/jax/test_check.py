"""The check must pass what is right and fail what is wrong: each fault is planted and must be named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_cases import SHORT, centre, disturbed, example

from macrostat_jax import Model, Record, Scalar, exogenous, index, models, param
from macrostat_jax.diff import check
from macrostat_jax.diff._judge import compare
from macrostat_jax.diff._stencil import Stencil


class Params(Record):
    growth: Scalar = param(0.5, bounds=(-5, 5))
    level: Scalar = param(2.0, bounds=(-5, 5))


class Scenario(Record):
    demand: Scalar = exogenous(1.0)


class State(Record):
    output: Scalar = index("y", "")


def toy(term, level=2.0):
    """A model whose output is prior / 2 + term(growth) + level * demand."""

    class P(Record):
        growth: Scalar = param(0.5, bounds=(-5, 5))
        level: Scalar = param(2.0, bounds=(-5, 5))

    def step(prior, params, scenario):
        output = 0.5 * prior.output + term(params.growth) + params.level * scenario.demand
        return State(output=output)

    return Model("TOY", P, Scenario, State, lambda p, s: State.filled(0.0), step, periods=6)


def has_switches(model):
    return "sharpness" in model.options


@pytest.mark.parametrize("name", models.names())
def test_right_models_pass(name):
    model = example(name)
    scenario = disturbed(model)
    # A difference that crosses a switch decides nothing: in a step this short few are crossed.
    step = 1e-5 if has_switches(model) or name in SHORT else 1e-3
    report = check(model, step=step, **scenario)
    assert report.deterministic and report.finite_path
    verdicts = {report.verdict(key) for key in model.Params.fields}
    if has_switches(model) and not report.passed:
        assert verdicts == {"agrees", "inconclusive"}, report.summary()
        return
    assert report.passed and verdicts == {"agrees"}, report.summary()
    assert "PASSED" in report.summary()


def test_outputs_by_name():
    """Each period of each is judged; of all models, test_derivatives.py has forward and reverse mode."""
    names = tuple(models.GL06PC.State.fields)[:2]
    report = check(models.GL06PC, names)
    assert report.passed and tuple(report.forward.values) == names
    assert report.forward[names[0], "tax_rate"].shape == (models.GL06PC.periods,)


@pytest.mark.parametrize("name", models.names())
def test_right_models_pass_at_random_parameters(name):
    model = example(name)
    rng, around = np.random.default_rng(1), centre(model)
    for _ in range(10):
        values = {}
        for key, field in model.Params.fields.items():
            low, high = field.bounds
            values[key] = np.clip(around[key] * rng.uniform(0.8, 1.2, field.shape), low, high)
        params = model.params(**values)
        if has_switches(model):
            # Rounded off, the switches have derivatives; in a step this short rounding may leave a
            # doubt. The exact form is tested on 1,000 sets in test_model_derivatives.py.
            smooth = model.configure(sharpness=50.0)
            report = check(smooth, params=params, step=1e-5, **disturbed(model, 20))
            found = {report.verdict(key) for key in model.Params.fields}
            assert found <= {"agrees", "inconclusive"}, report.summary()
        else:
            step = 1e-5 if name in SHORT else 1e-3
            report = check(model, params=params, step=step, **disturbed(model))
            assert report.passed, report.summary()


def test_toy_passes_without_a_fault():
    assert check(toy(jnp.sin)).passed


def test_a_derivative_that_is_nan_where_the_path_is_not():
    report = check(toy(lambda x: jnp.where(x > 0.1, x, x / (x - 0.5))))
    assert report.finite_path and not report.passed
    assert report.verdict("growth") == "non-finite"
    assert "growth: non-finite" in report.summary()


def test_wrong_sign_of_a_small_derivative_beside_a_large_one():
    @jax.custom_vjp
    def term(x):
        return 3.0 * x

    term.defvjp(lambda x: (3.0 * x, None), lambda _, g: (-3.0 * g,))
    with pytest.raises(TypeError, match="custom_vjp"):
        check(toy(term))  # JAX itself has no forward mode for it

    @jax.custom_jvp
    def both(x):
        return 3.0 * x

    both.defjvp(lambda primals, tangents: (both(primals[0]), -3.0 * tangents[0]))
    model = toy(lambda x: both(x))
    report = check(model, lambda path: path.output[-1], scenario=model.scenario(demand=1e6))
    assert report.verdict("growth") == "disagrees"
    assert report.verdict("level") == "agrees"
    assert not report.passed


def test_a_derivative_wrong_by_one_in_ten_thousand():
    @jax.custom_jvp
    def term(x):
        return jnp.sin(x)

    term.defjvp(lambda primals, t: (term(primals[0]), 1.0001 * jnp.cos(primals[0]) * t[0]))
    report = check(toy(term), step=1e-4)
    assert report.verdict("growth") == "disagrees"


def test_stop_gradient_left_in():
    report = check(toy(lambda x: jax.lax.stop_gradient(x)))
    assert report.verdict("growth") == "disagrees"


@pytest.mark.parametrize(
    "term",
    [
        pytest.param(lambda x: jnp.abs(x - 0.5), id="kink"),
        pytest.param(lambda x: jnp.maximum(x, 0.5), id="kink at a tie"),
        pytest.param(lambda x: jnp.where(x > 0.5, 1.0, 0.0), id="jump"),
        pytest.param(lambda x: jnp.where(x > 0.50002, 1.0, 0.0), id="jump nearby"),
        pytest.param(lambda x: jnp.sqrt(jnp.maximum(x - 0.5, 0.0)), id="root at zero"),
    ],
)
def test_kinks_and_jumps_never_pass(term):
    assert not check(toy(term)).passed
    for method in ("central", "forward", "backward"):
        assert not check(toy(term), space="direct", method=method).passed


@pytest.mark.parametrize("method", ["central", "forward", "backward"])
def test_a_small_kink_is_seen(method):
    # At the tie JAX takes the mean of the two slopes, as a central difference does.
    model = toy(lambda x: x + 0.008 * jnp.maximum(x, 0.5))
    report = check(model, space="direct", method=method)
    # A one-sided difference has another slope; the central one has this very mean.
    expected = "inconclusive" if method == "central" else "disagrees"
    assert report.verdict("growth") == expected and report.verdict("level") == "agrees"


def test_no_effect_beside_a_large_output_is_no_question_of_rounding():
    model = toy(lambda x: 0.0 * x + 1e9)
    assert check(model, lambda path: path.output).passed


def test_float32_runs_are_judged_by_their_own_rounding(float32):
    report = check(models.GL06SIM)
    assert {report.verdict(key) for key in models.GL06SIM.Params.fields} <= {
        "agrees",
        "inconclusive",
    }


def test_a_model_that_is_no_function_of_its_arguments():
    count = iter(range(10_000))

    def noisy(x):
        return jax.pure_callback(
            lambda: np.asarray(next(count) * 1e-3), jax.ShapeDtypeStruct((), jnp.float64)
        ) + 0.0 * jax.lax.stop_gradient(x)

    def step(prior, params, scenario):
        return State(output=noisy(params.growth) * params.level)

    model = Model("NOISY", Params, Scenario, State, lambda p, s: State.filled(0.0), step, periods=3)
    report = check(model)
    assert not report.passed and not report.deterministic
    assert "two identical runs differ" in report.summary()


def test_a_path_that_is_not_finite():
    report = check(toy(lambda x: jnp.log(x - 0.5)))
    assert not report.passed and not report.finite_path


def test_inconclusive_is_not_passed():
    # The step spans many periods of the sine: the finite difference knows nothing.
    report = check(toy(lambda x: 1e-3 * jnp.sin(1e4 * x)), step=1e-2)
    assert report.verdict("growth") in ("inconclusive", "disagrees")
    assert not report.passed


def test_a_step_that_moves_nothing_is_named():
    with pytest.raises(ValueError, match=r"too small to move \['growth', 'level'\]"):
        check(toy(jnp.sin), step=1e-17)


def test_the_report_as_plain_data():
    import json

    data = json.loads(json.dumps(check(models.GL06SIM).to_dict()))
    assert data["passed"] is True
    assert data["parameters"]["tax_rate"] == "agrees"


class TestJudge:
    def compare(self, a, n, e=None, **tolerances):
        limits = {"rtol": 1e-5, "atol": 1e-8, "eps": 2.2e-16, **tolerances}
        return compare(
            "p", np.asarray(a), np.asarray(n), None if e is None else np.asarray(e), **limits
        )

    def test_nan_is_never_swallowed(self):
        assert self.compare([1.0, np.nan], [1.0, 2.0]).verdict == "non-finite"
        assert self.compare([1.0, 2.0], [1.0, np.nan], [0.0, 0.0]).verdict == "non-finite"
        assert self.compare([np.inf], [np.inf]).verdict == "non-finite"

    def test_a_nan_estimate_is_inconclusive(self):
        assert self.compare([1.0], [1.0], [np.nan]).verdict == "inconclusive"

    def test_the_estimate_widens_but_does_not_excuse(self):
        assert self.compare([1.0], [1.001], [0.002]).verdict == "agrees"
        assert self.compare([1.0], [1.001], [0.0005]).verdict == "disagrees"
        assert self.compare([1.0], [1.001], [0.02]).verdict == "inconclusive"

    def test_each_element_counts(self):
        assert self.compare([1e6, 3.0], [1e6, -3.0], [0.0, 0.0]).verdict == "disagrees"

    def test_shapes_must_match(self):
        with pytest.raises(ValueError, match="shapes"):
            self.compare([1.0], [1.0, 2.0])


class TestStencil:
    @pytest.mark.parametrize("method", ["central", "forward", "backward"])
    @pytest.mark.parametrize("space", ["log", "direct"])
    def test_divisors(self, method, space):
        x, h = np.array([2.0, -3.0]), 1e-3
        stencil = Stencil(x, method, space, h, halved=False)
        slopes, _ = stencil.combine(stencil.points() ** 2 @ np.array([1.0, 1.0]), 0.0)
        for p, slope in zip(x, slopes, strict=True):
            up, down = (p * np.exp(h), p * np.exp(-h)) if space == "log" else (p + h, p - h)
            ends = {"central": (up, down), "forward": (up, p), "backward": (p, down)}[method]
            # (b^2 - a^2) / (b - a) = a + b
            assert slope == pytest.approx(sum(ends), rel=1e-11)

    def test_the_error_estimate_is_right_to_leading_order(self):
        x = np.array([1.0])
        for method, order in (("central", 2), ("forward", 1)):
            stencil = Stencil(x, method, "direct", 1e-3)
            (slope,), (estimate,) = stencil.combine(np.exp(stencil.points()[:, 0]), 2.2e-16)
            actual = abs(slope - np.e)
            assert estimate == pytest.approx(actual, rel=2e-3), order

    def test_auto_is_direct_at_zero(self):
        stencil = Stencil(np.array([0.0, 2.0]), space="auto", step=0.1, halved=False)
        assert stencil.points()[1, 0] == 0.1
        assert stencil.points()[2, 1] == 2.0 * np.exp(0.1)
