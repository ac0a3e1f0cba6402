"""Sensitivity: against closed forms, SciPy and SALib, and against itself one output at a time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from scipy import stats

from macrostat_jax import Model, Record, Scalar, exogenous, index, models, param, sample
from macrostat_jax import sensitivity as se
from macrostat_jax.sensitivity import _outputs, _variance

PC = models.GL06PC
BOX = {f"x{i}": (-np.pi, np.pi) for i in (1, 2, 3)}
A, B = 7.0, 0.1


def ishigami(x: np.ndarray) -> np.ndarray:
    return np.sin(x[:, 0]) + A * np.sin(x[:, 1]) ** 2 + B * x[:, 2] ** 4 * np.sin(x[:, 0])


def closed_form() -> tuple[np.ndarray, np.ndarray, float]:
    """First-order and total indices, and the one of the only pair, of Ishigami's function."""
    v1 = 0.5 * (1 + B * np.pi**4 / 5) ** 2
    v2 = A**2 / 8
    v13 = B**2 * np.pi**8 * (1 / 18 - 1 / 50)
    total = v1 + v2 + v13
    first = np.array([v1, v2, 0]) / total
    return first, np.array([v1 + v13, v2, v13]) / total, v13 / total


def salib_problem(design: sample.Design) -> dict:
    bounds = [list(pair) for pair in design.origin["bounds"].values()]
    return {"num_vars": len(design.names), "names": list(design.names), "bounds": bounds}


# Sobol indices


@pytest.mark.parametrize("estimator", ["saltelli", "jansen"])
def test_ishigami_within_the_standard_errors(estimator):
    S = se.sobol(ishigami, 4096, BOX, second_order=True, estimator=estimator)
    first, total, pair = closed_form()
    # Three standard errors; the bootstrap takes no credit for the evenness of the points.
    assert (np.abs(S.first["value"] - first) < 3 * S.first_error["value"]).all()
    assert (np.abs(S.total["value"] - total) < 3 * S.total_error["value"]).all()
    assert S.second is not None and S.second_error is not None
    assert abs(S.second["value"][0, 2] - pair) < 3 * S.second_error["value"][0, 2]
    assert S.first_error["value"].max() < 0.03 and S.total_error["value"].max() < 0.03
    assert S.variance["value"] == pytest.approx(
        A**2 / 8 + B * np.pi**4 / 5 + B**2 * np.pi**8 / 18 + 0.5, rel=0.02
    )


def test_errors_are_the_spread_of_estimates_from_independent_samples():
    """Plain random points: there the bootstrap has no evenness of a sequence to miss."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        unit = rng.uniform(-np.pi, np.pi, (2, 256, 3))
        groups = [unit[0], *_swapped(unit[0], unit[1]), unit[1]]
        runs = np.stack([ishigami(points) for points in groups], axis=1)[:, :, None]
        weights = _variance.resampled(256, 100, 0)
        found.append(_variance.estimate(runs, weights, np.zeros(1, int), 3, False, "saltelli")[0])
    for kind in ("first", "total"):
        spread = np.std([getattr(one, kind) for one in found], axis=0, ddof=1)
        errors = np.mean([getattr(one, f"{kind}_error") for one in found], axis=0)
        # The spread of 60 estimates is itself known to 1 / sqrt(118) = 9 %: three of these.
        np.testing.assert_allclose(errors, spread, rtol=0.3)


def _swapped(a, b):
    return [np.where(np.arange(a.shape[1]) == i, b, a) for i in range(a.shape[1])]


def test_what_only_rounds_in_single_precision_does_not_vary():
    """1 + x - x in float32 differs from 1 in the last digit, which depends on x."""

    def rounded(x: np.ndarray) -> dict[str, np.ndarray]:
        narrow = x.astype(np.float32)
        return {"one": np.float32(1) + narrow[:, 0] - narrow[:, 0], "sum": narrow.sum(axis=1)}

    found = se.sobol(rounded, 256, BOX)
    assert np.isnan(found.total["one"]).all() and "it does not vary" in str(found)
    np.testing.assert_allclose(found.total["sum"], 1 / 3, atol=0.05)


def test_same_runs_same_indices_as_salib():
    analyze = pytest.importorskip("SALib.analyze.sobol").analyze
    design = se.saltelli(None, 256, BOX, second_order=True)
    values = ishigami(design.points)
    ours = se.sobol_from(design, values, resamples=300)
    theirs = analyze(
        salib_problem(design), values, calc_second_order=True, num_resamples=300, seed=0
    )
    np.testing.assert_allclose(ours.first["value"], theirs["S1"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours.total["value"], theirs["ST"], rtol=1e-12)
    assert ours.second is not None
    np.testing.assert_allclose(ours.second["value"], theirs["S2"], rtol=0, atol=1e-12)
    # Other resamples: the standard deviation of 300 is known to 4 %.
    np.testing.assert_allclose(1.96 * ours.first_error["value"], theirs["S1_conf"], rtol=0.2)
    np.testing.assert_allclose(1.96 * ours.total_error["value"], theirs["ST_conf"], rtol=0.2)


def test_same_runs_same_indices_as_scipy():
    design = se.saltelli(None, 512, BOX)
    runs = ishigami(design.points).reshape(512, 5)
    parts = {"f_A": runs[:, 0], "f_B": runs[:, -1], "f_AB": runs[:, 1:-1].T[:, None]}
    theirs = stats.sobol_indices(func=parts, n=512)
    ours = se.sobol_from(design, runs.reshape(-1))
    # SciPy centres on the mean of A and B, we on that of all runs: a difference of the order of
    # mean(A B) - mean(A AB) times the shift, for the first order; none in total.
    np.testing.assert_allclose(ours.total["value"], theirs.total_order, rtol=1e-12)
    np.testing.assert_allclose(ours.first["value"], theirs.first_order, rtol=0, atol=0.01)


def test_whole_paths_are_every_number_by_itself(monkeypatch):
    near = se.around(PC, 0.2, ["tax_rate", "propensity_to_consume_income"])
    of = ("national_income", "household_bill_stock")
    whole = se.sobol(PC, 64, near, of=of, periods=12, second_order=True)
    assert list(whole.first) == list(of) and whole.first["national_income"].shape == (2, 12)
    monkeypatch.setattr(_variance, "BLOCK", 5 * 64 * 6)  # five outputs at a time
    blocks = se.sobol(PC, 64, near, of=of, periods=12, second_order=True)
    final = se.sobol(
        PC, 64, near, of=lambda path: path.household_bill_stock[-1], periods=12, second_order=True
    )
    for kind in ("first", "first_error", "total", "total_error"):
        table = getattr(whole, kind)["household_bill_stock"]
        np.testing.assert_allclose(
            table, getattr(blocks, kind)["household_bill_stock"], rtol=1e-10, atol=1e-14
        )
        np.testing.assert_allclose(table[:, -1], getattr(final, kind)["value"], rtol=0, atol=1e-12)
    variance, shares = whole.variance["national_income"], whole.total["national_income"]
    weighted = (variance * shares).sum(axis=1) / variance.sum()
    np.testing.assert_allclose(whole.overall.total["national_income"], weighted, rtol=1e-12)
    assert final.overall is final and final.whole is None


def test_a_sum_of_parameters_has_its_variances_as_indices():
    """y = sum of c_i u_i: S_i = c_i^2 / sum c^2, and no interaction. In batches of two outputs."""
    c = np.array([1.0, 2.0, 0.0])

    def linear(x):
        return {"up": x @ c + 1e6, "flat": np.full(len(x), 3.0)}

    S = se.sobol(linear, 2048, {"a": (0, 1), "b": (0, 1), "idle": (0, 1)})
    np.testing.assert_allclose(S.total["up"], c**2 / 5, rtol=2e-3, atol=1e-12)
    np.testing.assert_allclose(S.first["up"], c**2 / 5, rtol=0, atol=5e-3)
    assert np.isnan(S.first["flat"]).all() and S.variance["flat"] == 0
    assert S.mean["up"] == pytest.approx(1e6 + 1.5, rel=1e-9)
    text = str(S)
    assert "flat: it does not vary." in text and "next to no interaction" in text
    assert text.index("  b ") < text.index("  a ") < text.index("  idle ")


def test_what_is_an_ulp_off_does_not_vary():
    """A path that the accounts fix varies by rounding alone, and has no indices."""
    S = se.sobol(lambda x: 100.0 + 1e-14 * x[:, 0], 64, {"x": (0, 1)})
    assert np.isnan(S.total["value"]).all()


# Screening


def test_same_trajectories_same_effects_as_salib():
    morris = pytest.importorskip("SALib.analyze.morris")
    design = se.trajectories(None, 20, BOX, levels=6, seed=3)
    values = ishigami(design.points)
    ours = se.morris_from(design, values)
    theirs = morris.analyze(salib_problem(design), design.points, values, num_levels=6, seed=0)
    for name, column in (("mu", "mu"), ("mu_star", "mu_star"), ("sigma", "sigma")):
        np.testing.assert_allclose(getattr(ours, name)["value"], theirs[column], rtol=1e-9)
    np.testing.assert_allclose(1.96 * ours.mu_star_error["value"], theirs["mu_star_conf"], rtol=0.2)


def test_trajectories_move_one_parameter_at_a_time():
    design = se.trajectories(None, 500, {"a": (0.0, 3.0), "b": (0.0, 3.0)}, levels=4)
    points = design.points.reshape(500, 3, 2)
    moves = np.diff(points, axis=1)
    assert ((moves != 0).sum(axis=2) == 1).all() and (np.abs(moves).sum(axis=1) == 2.0).all()
    # Every level as often as every other: 250 of 1,000 at both ends, give or take 4 standard deviations.
    for end in (points[:, 0], points[:, -1]):
        counts = np.bincount(end.astype(int).reshape(-1), minlength=4)
        assert np.abs(counts - 250).max() < 4 * np.sqrt(1000 * 0.25 * 0.75)


def test_effects_of_a_line_are_its_slopes():
    M = se.morris(
        lambda x: x @ np.array([2.0, -3.0, 0.0]), 8, {"a": (0, 1), "b": (1, 3), "c": (0, 1)}
    )
    np.testing.assert_allclose(M.mu["value"], [2, -6, 0], atol=1e-13)
    np.testing.assert_allclose(M.mu_star["value"], [2, 6, 0], atol=1e-13)
    np.testing.assert_allclose(M.sigma["value"], 0, atol=1e-13)
    assert (M.trajectories, M.runs) == (8, 32) and str(M).index("b  ") < str(M).index("a  ")


def test_a_logarithmic_range():
    M = se.morris(lambda x: np.log(x[:, 0]), 4, {"a": (0.01, 1.0)}, log=True)
    np.testing.assert_allclose(M.mu["value"], [np.log(100)], rtol=1e-12)


# Elasticities


def test_elasticities_in_closed_form():
    """Model SIM at rest: Y = G / theta, so that one percent more of theta is one percent less income."""
    E = se.elasticities(models.GL06SIM, "national_income", periods=400)
    assert E["tax_rate"][-1] == pytest.approx(-1.0, rel=1e-9)
    assert E["propensity_to_consume_income"][-1] == pytest.approx(0.0, abs=1e-9)
    last = se.elasticities(models.GL06SIM, lambda path: path.national_income[-1], periods=400)
    assert last["tax_rate"] == pytest.approx(-1.0, rel=1e-9) and "elasticity" in str(last)
    table = E.to_pandas()
    assert table.shape == (400, 3) and table["tax_rate"].iloc[-1] == pytest.approx(-1.0)


def test_elasticities_agree_with_one_percent_steps():
    base, up = (PC.params(tax_rate=0.2 * s) for s in (1.0, 1.0 + 1e-6))
    from macrostat_jax import simulate

    low, high = (np.asarray(simulate(PC, p).household_bill_stock) for p in (base, up))
    E = se.elasticities(PC, ("household_bill_stock", "national_income"))
    assert list(E.values) == ["household_bill_stock", "national_income"]
    expected = (high / low - 1) / 1e-6
    found = E["household_bill_stock", "tax_rate"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_no_elasticity_of_zero_and_none_of_a_batch():
    E = se.elasticities(models.GL06SIMEX, "expected_disposable_income", periods=3)
    assert np.isnan(E["tax_rate"][0]) and np.isfinite(E["tax_rate"][1:]).all()
    assert "none where it is zero: in 1 of 3" in str(E)
    with pytest.raises(ValueError, match="at one point"):
        se.elasticities(PC, params=PC.params(tax_rate=np.array([0.1, 0.2])))
    with pytest.raises(TypeError, match="not \\['horizon'\\]"):
        se.elasticities(PC, horizon=3)


# Runs that fail, designs of others, and names


class Params(Record):
    growth: Scalar = param(0.9, bounds=(0, 4))
    start: Scalar = param(1.0, bounds=(0, 2))
    idle: Scalar = param(0.0, bounds=(0, 1))


class Scenario(Record):
    nothing: Scalar = exogenous(0.0)


class State(Record):
    x: Scalar = index("x")


def _first(params, scenario):
    return State(x=params.start)


def _step(prior, params, scenario):
    return State(x=params.growth * prior.x)


GROWTH = Model("GROWTH", Params, Scenario, State, _first, _step, periods=1000)
WIDE = {"growth": (0.5, 2.5), "start": (0.5, 1.0)}  # 2.5^1000 is infinite


def test_runs_that_diverge_are_refused_or_left_out_by_group():
    with pytest.raises(
        ValueError, match=r"32 of 128 runs are not finite \(x in 32, first x\[\d+\]\)"
    ):
        se.sobol(GROWTH, 32, WIDE)
    growth, start = se.saltelli(GROWTH, 32, WIDE).points.T
    failing = (1000 * np.log(growth) + np.log(start) > np.log(np.finfo(float).max)).reshape(32, 4)
    S = se.sobol(GROWTH, 32, WIDE, of=lambda path: path.x[-1] / path.x[-1], nonfinite="drop")
    assert S.dropped == int(failing.any(axis=1).sum()) > 0 and S.nonfinite == int(failing.sum())
    assert S.groups == 32 - S.dropped and f"{S.dropped} groups were left out" in str(S)
    M = se.morris(GROWTH, 20, WIDE, nonfinite="drop")
    assert M.dropped > 0 and M.trajectories == 20 - M.dropped
    with pytest.raises(ValueError, match="That spoils all groups of runs, 4 of 4"):
        se.sobol(lambda x: x[:, 0] * np.nan, 4, WIDE, nonfinite="drop")


def test_left_out_groups_are_as_if_they_had_not_been():
    design = se.saltelli(None, 64, BOX)
    values = ishigami(design.points)
    spoilt = values.copy()
    spoilt[5 * 7 + 2] = np.inf
    kept = np.delete(values.reshape(64, 5), 7, axis=0)
    alone = _variance.estimate(
        kept[:, :, None], np.full((3, 63), 1 / 63), np.zeros(1, int), 3, False, "saltelli"
    )
    S = se.sobol_from(design, spoilt, nonfinite="drop")
    np.testing.assert_allclose(S.first["value"], alone[0].first[:, 0], rtol=0, atol=1e-14)


def test_a_sweep_of_the_design_gives_the_same_indices():
    near = se.around(PC, 0.1, ["tax_rate", "propensity_to_consume_savings"])
    design = se.saltelli(PC, 32, near)
    found = sample.sweep(PC, design, periods=5)  # all paths, periods first
    direct = se.sobol(PC, 32, near, of="wealth", periods=5)
    apart = se.sobol_from(design, found.values, axis=found.axis)
    np.testing.assert_allclose(apart.total["wealth"], direct.total["wealth"], rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="128 in all; there are 100 points"):
        se.sobol_from(design[:100], found.values.wealth[:, :100].T)
    with pytest.raises(
        ValueError, match=r"a design of sensitivity\.trajectories, not one of kind 'saltelli'"
    ):
        se.morris_from(design, found.values, axis=1)
    with pytest.raises(ValueError, match="must be that of the 128 runs"):
        se.sobol_from(design, np.ones(7))


def test_what_is_not_varied_comes_from_params():
    def income(path):
        return path.national_income[-1]

    low, high = (
        se.morris(
            PC,
            4,
            {"tax_rate": (0.1, 0.3)},
            of=income,
            params=PC.params(propensity_to_consume_income=a),
        )
        for a in (0.5, 0.7)
    )
    assert low.mu["value"] != high.mu["value"]


def test_bounds_around_the_parameters():
    near = se.around(GROWTH, 0.5, params=GROWTH.params(start=1.5))
    assert near == {
        "growth": (0.45, 1.35),
        "start": (0.75, 2.0),
    }  # 2.25 is beyond the model's bounds
    assert se.free_parameters(GROWTH) == ["growth", "start", "idle"]
    with pytest.raises(ValueError, match="'idle' is 0, of which a share is no range"):
        se.around(GROWTH, 0.5, ["idle"])
    with pytest.raises(ValueError, match="share must be positive"):
        se.around(GROWTH, -1)
    with pytest.raises(KeyError, match="'rate' is not in"):
        se.around(GROWTH, 0.1, ["rate"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: se.sobol(ishigami, 100, BOX), ValueError, "64 or 128 points, not 100"),
        (lambda: se.sobol(ishigami, 64), ValueError, "Give the bounds"),
        (
            lambda: se.sobol(ishigami, 64, {"a": (1, 0)}),
            ValueError,
            "'a' must be finite and in order",
        ),
        (
            lambda: se.sobol(ishigami, 64, {"a": 3}),  # pyright: ignore[reportArgumentType]
            ValueError,
            r"'a' are a pair \(low, high\)",
        ),
        (lambda: se.sobol(ishigami, 64, BOX, log=True), ValueError, "one sign: 'x1'"),
        (lambda: se.sobol(ishigami, 64, BOX, log=["y"]), KeyError, "'y'.*have no bounds"),
        (lambda: se.sobol(ishigami, 64, BOX, estimator="best"), ValueError, "saltelli, jansen"),
        (lambda: se.sobol(ishigami, 64, BOX, resamples=1), ValueError, "resamples must be"),
        (lambda: se.sobol(ishigami, 64, BOX, nonfinite="ignore"), ValueError, "raise.*drop"),
        (lambda: se.sobol(ishigami, 64, BOX, periods=3), TypeError, "periods: of models"),
        (lambda: se.sobol(lambda x: x[:3], 64, BOX), ValueError, "the 320 runs"),
        (lambda: se.sobol(lambda x: x.astype(complex), 64, BOX), TypeError, "real numbers"),
        (lambda: se.sobol(PC, 64, {"tax": (0, 1)}), KeyError, "'tax' is not in"),
        (lambda: se.sobol(PC, 64, of="gdp"), KeyError, "'gdp' is not in"),
        (lambda: se.morris(PC, 1), ValueError, "at least 2 trajectories"),
        (lambda: se.morris(PC, 4, levels=3), ValueError, "levels must be an even number"),
        (lambda: se.sobol(ishigami, 64, BOX).pairs(), ValueError, "second_order=True"),
        (lambda: se.sobol(ishigami, 64, BOX).plot("y"), KeyError, "'y' is not an output: value"),
    ],
)
def test_what_cannot_be_asked_for(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Tables and pictures


def test_tables_hold_every_number():
    near = se.around(PC, 0.1, ["tax_rate", "propensity_to_consume_savings"])
    S = se.sobol(PC, 32, near, of=("wealth", "taxes"), periods=4, second_order=True)
    table = S.to_pandas()
    assert table.index.names == ["output", "element", "parameter"] and len(table) == 2 * 4 * 2
    assert table.loc[("taxes", "3", "tax_rate"), "total"] == S.total["taxes"][0, 3]
    pair = ("taxes", "2", "tax_rate x propensity_to_consume_savings")
    assert S.second is not None and S.pairs().loc[pair, "second"] == S.second["taxes"][0, 1, 2]
    text = json.loads(json.dumps(S.to_dict()))["outputs"]["taxes"]["tax_rate"]
    assert text["total"] == S.overall.total["taxes"][0] and "pairs" in str(S)
    M = se.morris(PC, 4, near, of="wealth", periods=4)
    assert M.to_pandas().loc[("wealth", "1", "tax_rate"), "sigma"] == M.sigma["wealth"][0, 1]
    assert json.loads(json.dumps(M.to_dict()))["outputs"]["wealth"]["tax_rate"]["mu"] < 0


def test_labels_keep_their_order():
    values = {"z": np.ones((4, 2)), "a": {"c": np.ones(4), "b": np.ones(4)}}
    outputs = _outputs.of_runs(values, 4)
    assert outputs.columns == ["z[0]", "z[1]", "a.c", "a.b"] and outputs.owner.tolist() == [
        0,
        0,
        1,
        2,
    ]


def test_pictures_show_what_the_tables_say():
    near = se.around(PC, 0.1)
    S = se.sobol(PC, 32, near, of=("national_income", "interest_rate"), periods=10)
    bars, shares = S.plot().axes
    shown = sorted(bar.get_width() for bar in bars.patches if isinstance(bar, Rectangle))
    told = [*S.overall.first["national_income"], *S.overall.total["national_income"]]
    np.testing.assert_allclose(shown, sorted(told), rtol=1e-12)
    assert shares.get_ylabel() == "first-order shares"
    with pytest.raises(ValueError, match="does not vary"):
        S.plot("interest_rate")
    M = se.morris(PC, 4, near, of="national_income", periods=10)
    (axis,) = M.plot().axes
    assert {text.get_text() for text in axis.texts} == set(PC.Params.fields)
    figure = se.elasticities(PC, "national_income", periods=10).plot()
    assert len(figure.axes) == 2 and len(figure.axes[0].patches) == 6
