"""Designs from priors and over scenarios and seeds, outcomes by name, statistics: against scipy, pandas
and runs one by one."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats
from sweep_cases import BOUNDS, NOISY, TOY

from macrostat_jax import estimation, models, run_keys, sample, simulate
from macrostat_jax.sample._runs import runs

# Priors


def test_points_from_priors_are_their_quantiles():
    priors = {"rate": stats.norm(0.5, 0.1), "share[0]": stats.beta(2, 5)}
    design = sample.from_priors(TOY, 64, priors, seed=3)
    unit = stats.qmc.Sobol(2, rng=3).random_base2(6)
    # Within the model's bounds (0, 2), the normal is the truncated one.
    expected = [stats.truncnorm(-5, 15, 0.5, 0.1).ppf(unit[:, 0]), stats.beta(2, 5).ppf(unit[:, 1])]
    np.testing.assert_allclose(design.points.T, expected, rtol=1e-9)
    origin = json.loads(json.dumps(dict(design.origin)))
    assert origin["priors"] == {"rate": "norm(0.5, 0.1)", "share[0]": "beta(2, 5)"}


def test_priors_of_the_estimation_and_quantile_functions_serve():
    class Triangle:
        def quantile(self, u):
            return np.sqrt(u)

    ours = sample.from_priors(TOY, 32, {"rate": estimation.Normal(0.5, 0.1), "share": Triangle()})
    assert ours.names == ("rate", "share[0]", "share[1]", "share[2]")
    theirs = sample.from_priors(TOY, 32, {"rate": stats.norm(0.5, 0.1), "share": Triangle()})
    np.testing.assert_allclose(ours.points, theirs.points, rtol=1e-12)
    unit = sample.unit_points("sobol", 4, 32, 0)
    np.testing.assert_array_equal(ours.points[:, 2], np.sqrt(unit[:, 2]))


@pytest.mark.parametrize("kind", sample.KINDS)
def test_a_large_sample_follows_the_prior(kind):
    points = sample.from_priors(TOY, 1024, {"rate": stats.gamma(4, scale=0.1)}, kind=kind).points
    # The 1 % critical value of Kolmogorov and Smirnov for independent draws, 1.63 / sqrt(n).
    assert stats.kstest(points[:, 0], stats.gamma(4, scale=0.1).cdf).statistic < 1.63 / 32


@pytest.mark.parametrize(
    ("priors", "error", "message"),
    [
        ({"rat": stats.norm()}, KeyError, "'rat' is not in"),
        ({"rate": 3.0}, TypeError, r"neither quantile\(u\) nor ppf\(u\): float"),
        (
            {"rate": stats.norm(5, 1)},
            ValueError,
            r"norm\(5, 1\) of 'rate' has 0% of its mass within",
        ),
        ({}, ValueError, "needs a parameter"),
    ],
)
def test_priors_that_cannot_be_sampled(priors, error, message):
    with pytest.raises(error, match=message):
        sample.from_priors(TOY, 4, priors)


def test_points_outside_of_the_bounds_are_refused():
    class Wide:
        def quantile(self, u):
            return 4 * u

    with pytest.raises(ValueError, match=r"8 of 16 points .* lie outside of the bounds \[0, 2\]"):
        sample.from_priors(TOY, 16, {"rate": Wide()})


# Factorial designs


def test_a_cross_has_every_combination():
    crossed = sample.cross(sample.grid(TOY, 3, {"rate": (0.1, 0.9)}), ["default", "boom"], seeds=2)
    expected = list(itertools.product([0.1, 0.5, 0.9], ["default", "boom"], [0, 1]))
    assert [tuple(row) for row in crossed.to_pandas().itertuples(index=False)] == expected
    assert len(crossed) == 12 and repr(crossed).endswith(
        "3 points x 2 scenarios x 2 seeds = 12 runs)"
    )
    assert crossed.origin["scenarios"] == ["default", "boom"] and crossed.origin["seeds"] == [0, 1]


@pytest.mark.parametrize("block", [None, 2, 5])
def test_crossed_runs_are_those_of_simulate(block):
    """Scenarios that move a series and scenarios that shock a parameter, side by side."""
    design = sample.random(TOY, 4, BOUNDS)
    own = TOY.scenario(g=np.linspace(1.0, 3.0, 20))
    crossed = sample.cross(design, {"default": None, "boom": "boom", "cut": "cut", "own": own})
    found = sample.sweep(TOY, crossed, keep=lambda path: path.x, block=block)
    table = found.to_pandas()
    for run, label in enumerate(table["scenario"]):
        params = TOY.params(rate=design.points[run // 4, 0])
        one = simulate(TOY, params, crossed.scenarios[label])
        np.testing.assert_allclose(found.values[run], one.x, rtol=1e-13)
    assert np.ptp(found.values[:4, -1]) > 0.1


def test_seeds_are_common_to_all_points():
    design = sample.grid(NOISY, 3, {"rate": (0.1, 0.9)})
    found = sample.sweep(
        NOISY, sample.cross(design, seeds=[7, 3]), keep=lambda path: path.x, block=4
    )
    for run, (point, seed) in enumerate(itertools.product(design.points[:, 0], [7, 3])):
        one = simulate(NOISY, NOISY.params(rate=point), key=jax.random.key(seed))
        np.testing.assert_allclose(found.values[run], one.x, rtol=1e-13)
    assert found.to_pandas()["seed"].tolist() == [7, 3] * 3


@pytest.mark.parametrize("wide", [True, False])
def test_ten_thousand_seeds_are_those_of_jax(wide):
    """Stacked one by one they took minutes to compile."""
    seeds = [0, 7, -1, 2**40 + 3, -(2**63), *range(10, 10_000)]
    with jax.enable_x64(wide):
        crossed = sample.cross(sample.grid(NOISY, 2, {"rate": (0.1, 0.9)}), seeds=seeds)
        keys = runs(NOISY, crossed).named["key"].array
        for i in (0, 1, 2, 3, 4, 5, -1):
            one = jax.random.key_data(jax.random.key(seeds[i]))
            np.testing.assert_array_equal(keys[i], one)


def test_what_cannot_be_crossed():
    design = sample.grid(TOY, 2, {"rate": (0.1, 0.9)})
    wrong: list[tuple[Any, str, dict[str, Any]]] = [
        (ValueError, "scenarios or seeds", {}),
        (TypeError, "several names", {"scenarios": "boom"}),
        (ValueError, "crossed once", {"scenarios": ["boom", "boom"]}),
        (ValueError, "crossed once", {"seeds": [1, 1]}),
        (TypeError, "A seed is an integer", {"seeds": [0.5]}),
        (ValueError, "64 bits", {"seeds": [2**63]}),
    ]
    for error, message, arguments in wrong:
        with pytest.raises(error, match=message):
            sample.cross(design, **arguments)
    crossed = sample.cross(design, ["boom", "cut"])
    with pytest.raises(ValueError, match="give no other one"):
        sample.sweep(TOY, crossed, "boom")
    with pytest.raises(KeyError, match="bust"):
        sample.sweep(TOY, sample.cross(design, ["bust"]))
    many = TOY.scenario().replace(g=np.ones((2, 20)))
    with pytest.raises(ValueError, match="'g' has a batch axis"):
        sample.sweep(TOY, sample.cross(design, {"a": None, "b": many}))
    with pytest.raises(ValueError, match="different horizons"):
        sample.sweep(TOY, sample.cross(design, {"a": None, "b": TOY.scenario(periods=5)}))
    keys = run_keys(0, 2)
    with pytest.raises(ValueError, match="give no key"):
        noisy = sample.cross(sample.grid(NOISY, 2, {"rate": (0.1, 0.9)}), seeds=2)
        sample.sweep(NOISY, noisy, key=keys)


def test_a_base_completes_a_design():
    design = sample.grid(TOY, 2, {"rate": (0.1, 0.9)})
    base = TOY.params(share=(0.5, 0.25, 0.25))
    found = sample.sweep(TOY, design, base=base, keep=lambda path: path.parts[0])
    np.testing.assert_allclose(found.values[0], base.share * np.exp(-0.01), rtol=1e-15)
    with pytest.raises(ValueError, match="base completes a design"):
        sample.sweep(TOY, design.params(TOY), base=base)


# What is kept


def test_outcomes_by_name():
    model = models.GL06SIM
    names = ["national_income", "NationalIncome:mean", "tax_demand:std", "tax_demand:3"]
    names += ["tax_demand:-1", "tax_demand:first", "tax_demand:min", "tax_demand:max"]
    design = sample.grid(model, 3, {"tax_rate": (0.1, 0.3)})
    found = sample.sweep(model, design, keep=sample.Outcomes(*names), periods=30)
    one = simulate(model, model.params(tax_rate=0.2), periods=30)
    income, taxes = np.asarray(one.national_income), np.asarray(one.tax_demand)
    expected = [income[-1], income.mean(), taxes.std(), taxes[3]]
    expected += [taxes[-1], taxes[0], taxes.min(), taxes.max()]
    assert list(found.values) == names
    np.testing.assert_allclose([found.values[name][1] for name in names], expected, rtol=1e-12)
    again = sample.Outcomes(*names)
    assert again == sample.Outcomes(*names) and hash(again) == hash(sample.Outcomes(*names))


def test_outcomes_that_there_are_not():
    for name in ("x:median", ":mean", "x:1.5", "x:"):
        with pytest.raises(ValueError, match="is no outcome"):
            sample.Outcomes(name)
    with pytest.raises(ValueError, match="at least one"):
        sample.Outcomes()
    design = sample.grid(TOY, 2, {"rate": (0.1, 0.9)})
    with pytest.raises(ValueError, match="20 periods, 0 to 19"):
        sample.sweep(TOY, design, keep=sample.Outcomes("x:20"))
    with pytest.raises(KeyError, match="'y' is not in"):
        sample.sweep(TOY, design, keep=sample.Outcomes("y"))


def test_names_keep_whole_paths_and_those_alone():
    design = sample.random(TOY, 6, BOUNDS)
    found, everything = sample.sweep(TOY, design, keep=("parts",)), sample.sweep(TOY, design)
    assert found.values.x is None and found.values.parts.shape == (20, 6, 3)
    np.testing.assert_array_equal(found.values.parts, everything.values.parts)
    data = everything.to_xarray()
    assert data["parts"].dims == ("time", "run", "dim_0") and data["x"].dims == ("time", "run")
    np.testing.assert_array_equal(data["rate"], design.points[:, 0])
    with pytest.raises(TypeError, match="several names"):
        sample.sweep(TOY, design, keep="x")


def test_records_and_arrays_have_dimensions():
    design = sample.random(TOY, 6, BOUNDS)
    found = sample.sweep(
        TOY, design, keep=lambda path: {"end": path[-1], "some": path[:4], "y": path.x}
    )
    data = found.to_xarray()
    assert data["end.parts"].dims == ("run", "dim_0") and data["some.x"].dims == ("run", "time")
    assert data["y"].dims == ("run", "y_0")


def test_names_that_clash_are_refused():
    found = sample.sweep(TOY, sample.random(TOY, 4, BOUNDS), keep=lambda path: {"rate": path.x[-1]})
    with pytest.raises(ValueError, match="keep returns rate, and the table"):
        found.to_pandas()


def test_statistics_leave_out_what_diverged():
    design = sample.Design(("rate",), np.array([[0.5], [2.0], [0.7], [0.1]]))
    found = sample.sweep(
        TOY, design, keep=lambda path: {"x": path.x[-1], "t": path.x[:2]}, periods=1100
    )
    assert found.finite.tolist() == [True, False, True, True] and found.diverged == 1
    table = found.to_pandas()
    assert not table["finite"][1] and np.isinf(table["x"][1])
    good = table[table["finite"]]["x"].describe(percentiles=[0.05, 0.5, 0.95])
    row = found.statistics().loc["x"]
    assert (row["runs"], row["diverged"]) == (3, 1)
    for name in ("mean", "std", "min", "5%", "50%", "95%", "max"):
        assert row[name] == pytest.approx(good[name], rel=1e-12), name
    assert list(found.statistics().index) == ["t[0]", "t[1]", "x"]


def test_statistics_of_paths():
    design = sample.Design(("rate",), np.array([[0.5], [2.0], [0.7], [0.1]]))
    found = sample.sweep(TOY, design, periods=1100)
    bands = found.statistics()
    assert bands.attrs == {"runs": 3, "diverged": 1}
    good = found.values.parts[:, found.finite]
    np.testing.assert_allclose(bands["parts"].sel(statistic="mean"), good.mean(axis=1), rtol=1e-13)
    np.testing.assert_allclose(
        bands["parts"].sel(statistic="std"), good.std(axis=1, ddof=1), rtol=1e-12, atol=1e-300
    )


def test_statistics_of_nothing():
    design = sample.Design(("rate",), np.array([[2.0], [2.0]]))
    table = sample.sweep(TOY, design, keep=lambda path: path.x[-1], periods=1100).statistics()
    assert table["runs"].tolist() == [0] and table["mean"].isna().all()


def test_pictures():
    design = sample.cross(sample.random(TOY, 64, BOUNDS), ["default", "boom"])
    found = sample.sweep(TOY, design, keep=sample.Outcomes("x", "x:std"))
    figure = found.plot()
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["x", "x:std"]
    assert len(sample.sweep(TOY, design).plot().axes[0].lines) == 1
