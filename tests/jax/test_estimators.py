"""Estimators of the gradient of an expected loss: against what they must give on average, and why.

On RandomWalk the expectation of every estimator is known, its bias included: in closed form, or by a
quadrature of one dimension. Tolerances are standard errors, all seeds are 0.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from macrostat_jax import (
    Axis,
    Model,
    Record,
    Scalar,
    Vector,
    count_compilations,
    diff,
    index,
    models,
    noise,
    param,
    run_keys,
    simulate,
    stochastic,
)
from macrostat_jax.stochastic import (
    ESTIMATORS,
    GumbelSoftmax,
    StraightThrough,
    _estimators,
    _runs,
    gradient,
)

WALK: Any = models.RandomWalk
N, THETA, RUNS = 20, 0.3, 3000
TRUE = [2 * N, 4 * N * (N - 1) * (2 * THETA - 1)]
"""The derivatives of E x and E x^2."""


def last(path):
    return path.position[-1]


def powers(path):
    """x, x^2 and x^3 at once: one program for all of them."""
    return path.position[-1] ** jnp.arange(1.0, 4.0)


@functools.cache
def estimate(estimator, runs=RUNS, loss: Any = powers, **options) -> Any:
    return gradient(
        WALK,
        loss,
        estimator,
        key=jax.random.key(0),
        runs=runs,
        params=WALK.params(theta=THETA),
        periods=N,
        **options,
    )


def expected(theta=THETA):
    """The expectations of `powers`, from the binomial distribution of the steps up."""
    k = np.arange(N + 1)
    return binom.pmf(k, N, theta) @ (2.0 * k[:, None] - N) ** np.arange(1, 4)


def weight(temperature):
    """Means over the noise of the weight w and of its derivative s by theta: of 2 w - 1, of s, of
    (2 w - 1) s, and of (2 b - 1) s for the choice b itself."""
    a = math.log(THETA / (1 - THETA))

    def mean(function):
        def integrand(z):  # z = logit(u) + a, of the logistic density around a
            density = 1 / (4 * math.cosh((z - a) / 2) ** 2)
            w = 1 / (1 + math.exp(-z / temperature))
            s = w * (1 - w) / (temperature * THETA * (1 - THETA))
            return density * function(w, s, z > 0)

        return sum(quad(integrand, *ends, limit=200)[0] for ends in ((-40, 0), (0, 40)))

    return (
        mean(lambda w, s, b: 2 * w - 1),
        mean(lambda w, s, b: s),
        mean(lambda w, s, b: (2 * w - 1) * s),
        mean(lambda w, s, b: (2 * b - 1) * s),
    )


def softened(temperature, hard):
    """What Gumbel-softmax gives on average for x and x^2, whose derivatives are dx and 2 x dx with
    dx = 2 (s_1 + ... + s_n)."""
    drift, slope, own, own_hard = weight(temperature)
    if hard:
        drift, own = 2 * THETA - 1, own_hard
    return [2 * N * slope, 4 * (N * (N - 1) * drift * slope + N * own)]


def differenced(step):
    h = step * THETA
    return (expected(THETA + h) - expected(THETA - h)) / (2 * h)


def smoothed(sigma):
    """The mean of (f(x + s e) - f(x - s e)) e / (2 s) by Gauss and Hermite's quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)  # exact for these polynomials
    h = sigma * THETA
    rises = [expected(THETA + h * e) - expected(THETA - h * e) for e in nodes]
    return (weights * nodes) @ rises / (2 * h) / np.sqrt(2 * np.pi)


# Estimator, options, what it gives on average for x, x^2 (and x^3), and which of these are the gradients.
CASES: list[Any] = [
    ("pathwise", {}, [0.0, 0.0, 0.0], []),
    ("straight_through", {}, [2 * N, 4 * N**2 * (2 * THETA - 1)], [0]),
    ("gumbel_softmax", {"temperature": 0.5}, softened(0.5, True), []),
    ("gumbel_softmax", {"temperature": 1.0, "hard": False}, softened(1.0, False), []),
    ("score_function", {}, differenced(1e-4), [0, 1, 2]),
    ("score_function", {"baseline": False}, differenced(1e-4), [0, 1, 2]),
    # The differences of a quadratic function are its slope.
    ("finite_differences", {}, differenced(0.05)[:2], [0, 1]),
    ("finite_differences", {"step": 0.6}, differenced(0.6), [0, 1]),
    ("smoothed_perturbation", {}, smoothed(0.05)[:2], [0, 1]),
    ("smoothed_perturbation", {"sigma": 0.18}, smoothed(0.18), [0, 1]),
]


@pytest.mark.parametrize(("estimator", "options", "means", "unbiased"), CASES)
def test_every_estimator_gives_its_known_mean(estimator, options, means, unbiased):
    found = estimate(estimator, **options)
    assert differenced(1e-4)[:2] == pytest.approx(TRUE, rel=1e-6)
    for i, mean in enumerate(means):
        error = found.standard_error["theta"][i]
        assert abs(found["theta"][i] - mean) <= 3 * error + 1e-9 * abs(mean), i
        gap = abs(mean - differenced(1e-4)[i])
        assert (gap < 1e-5 * abs(mean)) if i in unbiased else (gap > 0.002 * abs(mean)) or mean == 0
    if found.simulations == RUNS and options.get("hard", True):
        assert np.all(np.abs(found.value - expected()) < 3 * found.value_error)


def test_the_bias_of_the_gumbel_softmax_falls_as_the_square_of_the_temperature():
    gaps = [abs(weight(temperature)[1] - 1) for temperature in (0.4, 0.2, 0.1)]
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.2)
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("baseline", [True, False])
def test_the_spread_of_the_score_function_is_that_of_the_binomial(baseline):
    found = estimate("score_function", baseline=baseline).standard_error["theta"] * math.sqrt(RUNS)
    k = np.arange(N + 1)
    chances, score = binom.pmf(k, N, THETA), (k - N * THETA) / (THETA * (1 - THETA))
    for i in (0, 1):
        values = (2.0 * k - N) ** (i + 1)
        samples = (values - (chances @ values if baseline else 0)) * score
        centred = samples - chances @ samples
        variance, fourth = chances @ centred**2, chances @ centred**4
        error = math.sqrt((fourth - variance**2) / RUNS) / (2 * math.sqrt(variance))
        assert abs(found[i] - math.sqrt(variance)) < 3 * error


def test_the_spread_of_differences_grows_as_the_root_of_the_step():
    near, far = (estimate("finite_differences", step=step) for step in (0.01, 0.02))
    growth = near.standard_error["theta"][0] / far.standard_error["theta"][0]
    # Some 2 N h = 0.12 and 0.24 choices change in a run: both deviations are known to a twentieth.
    assert growth == pytest.approx(2**0.5, rel=0.15)


def spread_of_slopes(temperature):
    """The standard deviation of the derivative of one weight, by its definition."""
    u = (np.arange(400_000) + 0.5) / 400_000
    z = np.log(u / (1 - u)) + math.log(THETA / (1 - THETA))
    weights = 0.5 * (1 + np.tanh(z / (2 * temperature)))
    return np.std(weights * (1 - weights) / (temperature * THETA * (1 - THETA)))


def test_the_spread_of_gumbel_softmax_is_that_of_its_weights():
    found = estimate("gumbel_softmax", temperature=0.5)
    error = 2 * spread_of_slopes(0.5) * math.sqrt(N / RUNS)
    # A sample's deviation is within 3 / sqrt(2 runs) of it, more for heavy tails.
    assert found.standard_error["theta"][0] == pytest.approx(error, rel=0.06)
    colder, cold = spread_of_slopes(0.01), spread_of_slopes(0.02)
    assert colder / cold == pytest.approx(2**0.5, rel=0.02)


def test_the_path_of_a_variable_counts_the_events_until_then():
    found = estimate("score_function", loss="position", samples=True)
    truth = 2 * np.arange(1, N + 1)
    assert found["theta"].shape == (N,) and found.samples["theta"].shape == (RUNS, N)
    assert np.all(np.abs(found["theta"] - truth) < 4 * found.standard_error["theta"])
    # The first position has one step's score, the last one that of all: as a function of the path, both.
    whole = estimate("score_function").standard_error["theta"][0]
    assert found.standard_error["theta"][-1] == pytest.approx(whole, rel=1e-6)
    assert found.standard_error["theta"][0] < whole / 10


def test_runs_are_those_of_run_keys_one_by_one():
    keys, params = run_keys(0, 4), WALK.params(theta=THETA)
    model = WALK.configure(relaxation=GumbelSoftmax(1.0, hard=False))
    slopes = diff.jacobian(model, powers, mode="forward", params=params, periods=N, key=keys)[
        "theta"
    ]
    options = {"temperature": 1.0, "hard": False, "samples": True}
    found = estimate("gumbel_softmax", **options).samples["theta"]
    np.testing.assert_allclose(found[:4], slopes, rtol=1e-10)
    given: Any = gradient(
        WALK, powers, "gumbel_softmax", key=keys, params=params, periods=N, **options
    )
    np.testing.assert_allclose(given.samples["theta"], slopes, rtol=1e-10)
    differences = estimate("finite_differences", samples=True).samples["theta"]
    ends = [
        simulate(WALK, WALK.params(theta=THETA * share), periods=N, key=keys).position[-1]
        for share in (1.05, 0.95)
    ]
    np.testing.assert_allclose(differences[:4, 0], (ends[0] - ends[1]) / (0.1 * THETA), rtol=1e-10)


def test_chunks_change_nothing():
    whole = estimate("smoothed_perturbation", samples=True)
    parts = estimate("smoothed_perturbation", samples=True, chunk=RUNS // 2 - 7)
    np.testing.assert_allclose(parts.samples["theta"], whole.samples["theta"], rtol=1e-12)
    with count_compilations() as compilations:
        estimate("smoothed_perturbation", samples=True, chunk=RUNS // 2 - 7, sigma=0.06)
    assert compilations.count == 0


def test_paths_that_do_not_fit_into_memory_come_in_chunks(monkeypatch):
    whole = estimate("finite_differences", samples=True)
    sizes = []
    batch = _estimators.batch

    def counted(task, inputs, keys, scales):
        sizes.append(len(keys))
        return batch(task, inputs, keys, scales)

    # Two runs for each difference, of N periods of one float64.
    monkeypatch.setattr(_runs, "MEMORY", 1000 * 2 * N * 8)
    monkeypatch.setattr(_estimators, "batch", counted)
    estimate.cache_clear()
    parts = estimate("finite_differences", samples=True)
    assert sizes == [1000, 1000, 1000]
    np.testing.assert_allclose(parts.samples["theta"], whole.samples["theta"], rtol=1e-12)


# A model of continuous noise, in which the start, the shocks and two parameters matter.


class Params(Record):
    memory: Scalar = param(0.6, symbol="a", bounds=(0, 1))
    size: Scalar = param(0.5, symbol="s", bounds=(0, 10))
    start: Scalar = param(2.0, symbol="x_0")


class Scenario(Record):
    pass


class Noise(Record):
    shock: Scalar = noise("normal", symbol="e")


class State(Record):
    x: Scalar = index("x", r"a x_{-1} + s e")


def autoregression(prior, params, scenario, noise):
    return State(x=params.memory * prior.x + params.size * noise.shock)


def normal_density(prior, state, params, scenario):
    gap = (state.x - params.memory * prior.x) / params.size
    return -(gap**2) / 2 - jnp.log(params.size) - 0.5 * jnp.log(2 * jnp.pi)


AR = Model(
    "AR",
    Params,
    Scenario,
    State,
    lambda params, scenario: State(x=params.start),
    autoregression,
    Noise=Noise,
    log_density=normal_density,
    periods=3,
)


def energy(path):
    return path.x[-1] ** 2


@pytest.mark.parametrize("estimator", ["pathwise", "score_function", "smoothed_perturbation"])
def test_continuous_noise(estimator):
    def second_moment(p):
        """E x_3^2: a^6 x_0^2 + s^2 (1 + a^2 + a^4), the last period's s with its shock."""
        late = (p.size + 0.1) ** 2
        return p.memory**6 * p.start**2 + p.size**2 * (p.memory**2 + p.memory**4) + late

    found = gradient(
        AR,
        energy,
        estimator,
        key=jax.random.key(0),
        runs=5000,
        shocks=AR.shocks(size_add=0.1, start=2),
    )
    exact = jax.grad(second_moment)(jax.tree.map(jnp.asarray, AR.params()))
    for name in ("memory", "size", "start"):
        # The bias of sigma = 0.05 in these polynomials is less than a hundredth.
        allowed = 3 * found.standard_error[name] + 0.01 * abs(getattr(exact, name))
        assert abs(found[name] - getattr(exact, name)) < allowed, name


def test_each_input_may_have_a_step_of_its_own():
    near, far = (
        gradient(
            AR, energy, "finite_differences", key=jax.random.key(0), runs=2, step=step, samples=True
        )
        for step in (0.01, {"start": 0.5, "Size": 0.01, "memory": 0.01})
    )
    # The loss is a quadratic function of size and start, of which any step gives the slope, not of memory.
    np.testing.assert_allclose(far["start"], near["start"], rtol=1e-9)
    np.testing.assert_allclose(far["memory"], near["memory"], rtol=1e-12)
    other = gradient(
        AR, energy, "finite_differences", key=jax.random.key(0), runs=2, step={"memory": 0.3}
    )
    assert abs(other["memory"] - near["memory"]) > 1e-3


# Checks


def test_the_check_of_a_walk():
    report = stochastic.check(WALK, last, key=jax.random.key(0), runs=60, step=0.01)
    assert report.deterministic and report.passed and not report.wrong
    keys = run_keys(0, 60)
    ends = [
        np.asarray(simulate(WALK, WALK.params(theta=0.4 * f), key=keys).position)
        for f in (0.99, 1.01)
    ]
    changed = {
        (run, int(np.argmax(ends[0][:, run] != ends[1][:, run])))
        for run in range(60)
        if np.any(ends[0][:, run] != ends[1][:, run])
    }
    assert {(event.run, event.period) for event in report.events} == changed and changed
    assert report.smooth == {"theta": 60 - len(changed)}
    assert report.bias["theta"].verdict == "biased"
    text = str(report)
    assert "common random numbers" in text and "biased by theta" in text
    event = report.events[0]
    assert f"in period {event.period} position is {event.below:g} a step below" in text
    assert event.above - event.below == 2


def test_the_check_of_a_smooth_model():
    report = stochastic.check(AR, energy, key=jax.random.key(0), runs=20)
    assert report.passed and report.events == () and set(report.smooth.values()) == {20}
    assert {one.verdict for one in report.bias.values()} == {"unbiased"}


def test_straight_through_derivatives_are_not_those_of_the_path():
    model = WALK.configure(relaxation=StraightThrough())
    report = stochastic.check(model, last, key=jax.random.key(0), runs=10)
    assert not report.passed and len(report.wrong) == 10
    assert "Choices by straight-through derivatives are so on purpose" in str(report)


def test_a_wrong_derivative_is_no_event():
    def step(prior, params, scenario, noise):
        state = autoregression(prior, params, scenario, noise)
        return State(x=state.x + jax.lax.stop_gradient(params.size**2))

    model = Model("WRONG", Params, Scenario, State, AR.initial_state, step, Noise=Noise, periods=3)
    report = stochastic.check(model, energy, key=jax.random.key(0), runs=10)
    assert not report.passed and report.events == ()
    assert {label for _, label, _, _ in report.wrong} >= {"size"}
    assert "A derivative is wrong, or the loss itself jumps" in str(report)


def test_what_differs_under_one_key_fails():
    count = itertools.count()

    def outside(x):
        return np.full(np.shape(x), 1e-3 * next(count), np.float32)

    def step(prior, params, scenario, noise):
        result = jax.ShapeDtypeStruct((), jnp.float32)
        more = jax.pure_callback(outside, result, noise.shock, vmap_method="expand_dims")
        state = autoregression(prior, params, scenario, noise)
        return State(x=state.x + more.astype(state.x.dtype))

    model = Model("NOISY", Params, Scenario, State, AR.initial_state, step, Noise=Noise, periods=2)
    report = stochastic.check(model, energy, key=jax.random.key(0), runs=4)
    assert not report.deterministic and not report.passed
    assert "two runs with the same key differ" in str(report)
    one = diff.check(model, key=jax.random.key(0))
    assert not one.deterministic and not one.passed and "two identical runs differ" in str(one)


FIRM = Axis("firm", size=5)


class FirmParams(Record):
    costs: Scalar = param(0.5, symbol="c")


class FirmNoise(Record):
    sales: Vector = noise("uniform", symbol="u", shape=FIRM)


class Firms(Record):
    output: Scalar = index("y", r"\sum_i (1 - b_i)")
    cash: Vector = index("m", "m_{-1} + u - c", shape=FIRM)
    bankrupt: Vector = index("b", r"\begin{cases} 1 & m < 0 \\ 0 & m \ge 0 \end{cases}", shape=FIRM)


def firms_step(prior, params, scenario, noise):
    cash = prior.cash + noise.sales - params.costs
    bankrupt = cash < 0
    alive = jnp.where(bankrupt, 0.0, 1.0)
    return Firms(output=jnp.sum(alive), cash=cash, bankrupt=bankrupt)


FIRMS = Model(
    "FIRMS",
    FirmParams,
    Scenario,
    Firms,
    lambda params, scenario: Firms(
        output=jnp.asarray(5.0), cash=jnp.full(5, 0.2), bankrupt=jnp.zeros(5, bool)
    ),
    firms_step,
    Noise=FirmNoise,
    periods=8,
)


def test_an_event_names_the_firm():
    """Of what changes in the first period, the bankruptcy of a firm, not the output that it moves."""
    noise = FIRMS.noise(jax.random.key(3))
    cash = 0.2 + np.cumsum(np.asarray(noise.sales) - 0.5, axis=0)
    lowest = np.abs(cash) / np.arange(1, 9)[:, None]  # how far costs must move for it to be zero
    period, firm = np.unravel_index(np.argmin(lowest), lowest.shape)
    step = 1.2 * lowest.min() / 0.5
    (event,) = stochastic.events(FIRMS, noise=noise, step=step)
    assert (event.variable, event.period, event.index) == ("bankrupt", period, (firm,))
    assert f"period {period} bankrupt of firm {firm} is 0 a step below and 1 a step above" in str(
        event
    )
    assert stochastic.events(FIRMS, noise=noise, step=0.8 * lowest.min() / 0.5) == ()


def test_the_check_of_one_run_says_which_event():
    """Common random numbers, and what keeps them from telling the derivative."""
    noise = FIRMS.noise(jax.random.key(3))
    assert diff.check(FIRMS, "output", noise=noise, step=1e-6).passed
    report = diff.check(FIRMS, "output", noise=noise, step=0.2)
    assert not report.passed and "common random numbers: every run has the same noise" in str(
        report
    )
    (event,) = report.events
    assert f"not smooth: {event}" in str(report) and event.variable == "bankrupt"
    assert report.to_dict()["events"] == [str(event)]


def test_flags_are_outputs_too():
    found = gradient(
        FIRMS, "bankrupt", "finite_differences", key=jax.random.key(0), runs=200, step=0.4
    )
    assert found["costs"].shape == (8, 5) and found["costs"].dtype == np.float64
    # In the first period a firm is bankrupt with probability c - 0.2, whose slope is 1.
    first, error = found["costs"][0], found.standard_error["costs"][0]
    assert np.all(np.abs(first - 1) < 4 * error)


def test_kinks_are_events_where_they_are():
    def step(prior, params, scenario, noise):
        return State(x=jnp.maximum(params.start, 2.0) + 0.0 * noise.shock)

    model = Model("KINK", Params, Scenario, State, AR.initial_state, step, Noise=Noise, periods=4)
    (event,) = stochastic.events(model, key=jax.random.key(0))
    assert (event.input, event.period, event.variable) == ("start", 0, "x")
    assert stochastic.events(models.GL06SIM, periods=10) == ()  # any model will do


# Comparisons


def test_the_comparison_measures_and_draws():
    truth = 2 * np.arange(1.0, N + 1)
    found = stochastic.compare(
        WALK,
        "position",
        exact=truth,
        key=jax.random.key(0),
        runs=200,
        periods=N,
        temperatures=(0.2, 1),
    )
    names = [one.name for one in found.measured]
    assert names == [
        "pathwise",
        "straight through",
        "gumbel softmax, temperature 0.2",
        "gumbel softmax, temperature 1",
        "score function",
        "smoothed perturbation, sigma 0.05",
        "finite differences, step 0.05",
    ]
    pathwise = found["pathwise"]
    np.testing.assert_array_equal(pathwise.bias["theta"], -truth)
    np.testing.assert_array_equal(found["straight_through"].deviation["theta"], 0)
    rows = {row["estimator"]: row for row in found.rows()}
    warm = rows["gumbel softmax, temperature 1"]
    assert warm["bias"] == pytest.approx(warm["estimate"] - 2 * N)
    assert warm["bias"] < -3 * warm["bias_error"] < 0 < warm["deviation_error"] < warm["deviation"]
    lines = str(found).splitlines()
    assert [line.endswith("biased") for line in lines if "temperature 1 " in line] == [True]
    figure = found.plot()
    titles = [axis.get_title() for axis in figure.axes]
    assert {"Pathwise", "Gumbel-softmax", "Score function"} <= set(titles)
    panel = figure.axes[titles.index("Gumbel-softmax")]
    assert len(panel.lines) == 2 * 50 + 2 + 1  # runs, means, the truth
    np.testing.assert_array_equal(panel.lines[-1].get_ydata(), truth)


def test_the_deviations_error():
    samples = estimate("finite_differences", runs=2000, loss=last, samples=True).samples["theta"]
    found = stochastic.compare(
        WALK,
        last,
        estimators=["finite_differences"],
        exact=2.0 * N,
        key=jax.random.key(0),
        runs=2000,
        params=WALK.params(theta=THETA),
        periods=N,
    ).measured[0]
    rng = np.random.default_rng(0)
    spread = [np.std(rng.choice(samples, 2000), ddof=1) for _ in range(200)]
    assert found.deviation["theta"] == pytest.approx(np.std(samples, ddof=1), rel=1e-12)
    # 200 resamples know a standard deviation to a twentieth: three of those.
    assert found.deviation_error["theta"] == pytest.approx(np.std(spread), rel=0.15)


def test_without_an_exact_gradient_differences_are_the_reference():
    found = stochastic.compare(
        AR, energy, estimators=["pathwise"], key=jax.random.key(0), runs=300, wrt=("memory", "size")
    )
    one = found.measured[0]
    for name, exact in (("memory", 6 * 0.6**5 * 4 + 0.25 * (1.2 + 4 * 0.6**3)), ("size", 1.4896)):
        assert abs(found.reference[name] - exact) < 3 * found.reference_error[name]
        assert abs(one.bias[name]) < 3 * one.bias_error[name]
    assert "differences over 3,000 runs" in str(found)
    every = stochastic.compare(AR, energy, key=jax.random.key(0), runs=20, reference_runs=20)
    assert set(every.missing) == {"straight_through", "gumbel_softmax"}
    assert "needs the option relaxation" in str(every)
    assert len(every.plot("size").axes) == 2


# Bad input


PLAIN = Model("PLAIN", Params, Scenario, State, AR.initial_state, autoregression, Noise=Noise)


SOFT = WALK.configure(relaxation=GumbelSoftmax(0.5, hard=False))


def starts(params, scenario, noise):
    return State(x=noise.shock)


DRAWN = Model(
    "DRAWN",
    Params,
    Scenario,
    State,
    starts,
    autoregression,
    Noise=Noise,
    log_density=normal_density,
)


@pytest.mark.parametrize(
    ("model", "estimator", "options", "error", "message"),
    [
        (PLAIN, "score_function", {}, TypeError, r"PLAIN: .*declare Model\(..., log_density=f\)"),
        (PLAIN, "straight_through", {}, TypeError, "PLAIN: .*needs the option relaxation"),
        (PLAIN, "gumbel_softmax", {}, TypeError, "PLAIN: .*needs the option relaxation"),
        (models.LINEAR2D, "pathwise", {}, TypeError, "LINEAR2D is not random: .*diff.gradient"),
        (DRAWN, "score_function", {}, TypeError, "DRAWN draws its initial state.*initial=..."),
        (SOFT, "score_function", {}, TypeError, "needs choices of 0 and 1.*weights between them"),
        (PLAIN, "guess", {}, ValueError, "no estimator 'guess'. There are: pathwise, straight"),
        (
            PLAIN,
            "pathwise",
            {"sigma": 1},
            TypeError,
            "pathwise has no option 'sigma'. It has: none",
        ),
        (PLAIN, "pathwise", {"key": None}, TypeError, "PLAIN is random: pass key="),
        (PLAIN, "pathwise", {"runs": 1}, ValueError, "at least 2 runs, not 1"),
        (PLAIN, "pathwise", {"runs": 2.5}, TypeError, "runs must be an integer, not 2.5"),
        (PLAIN, "pathwise", {"wrt": "noise"}, ValueError, "expectation is over the noise"),
        (WALK, "gumbel_softmax", {"temperature": 0}, ValueError, "temperature must be positive"),
        (WALK, "finite_differences", {"step": -1}, ValueError, "step must be positive"),
        (WALK, "finite_differences", {"step": {"x": 1}}, KeyError, "'x' is not in .*: theta"),
        (
            WALK,
            "finite_differences",
            {"step": 2.0},
            ValueError,
            r"'theta' moves .*\(0, 1\).*smaller",
        ),
        (
            WALK,
            "smoothed_perturbation",
            {"sigma": 2.0},
            ValueError,
            "out of its bounds.*smaller sigma",
        ),
        (
            WALK,
            "pathwise",
            {"params": WALK.params(theta=np.array([0.2, 0.3]))},
            ValueError,
            "one set of parameters and paths, not a batch",
        ),
    ],
)
def test_bad_input(model, estimator, options, error, message):
    loss = "position" if model in (WALK, SOFT) else "state" if model is models.LINEAR2D else "x"
    given: dict[str, Any] = {"key": jax.random.key(0), "runs": 10, **options}
    with pytest.raises(error, match=message):
        gradient(model, loss, estimator, **given)


def test_bad_losses_and_references():
    key = jax.random.key(0)
    with pytest.raises(TypeError, match="one real number, or one array of them"):
        gradient(WALK, lambda path: {"a": path.position, "b": 0.0}, key=key)
    with pytest.raises(TypeError, match=r"The loss must be one real number, not \[50\]"):
        stochastic.check(WALK, lambda path: path.position, key=key, runs=2)
    with pytest.raises(ValueError, match=r"has the shape \(\), exact \(3,\)"):
        stochastic.compare(WALK, last, exact=np.ones(3), key=key, runs=2)
    with pytest.raises(ValueError, match="several inputs: exact must be a mapping"):
        stochastic.compare(AR, energy, exact=1.0, key=key, runs=2)
    with pytest.raises(ValueError, match="step must be positive"):
        stochastic.events(WALK, key=key, step=0.0)


def test_every_estimator_documents_itself_and_keeps_single_precision(float32):
    for name, known in ESTIMATORS.items():
        found = gradient(WALK, last, name, key=jax.random.key(0), runs=4, periods=3)
        assert found["theta"].dtype == np.float32
        assert known.bias in str(found) and known.variance in str(found)
    assert found["Theta"] == found["theta"]
