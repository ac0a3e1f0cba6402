"""Problems: data matched to a model, bijections, priors; against pandas, scipy and autodiff."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from macrostat_jax import AddingUp, estimation, models, simulate
from macrostat_jax.estimation._bijections import Bijection, Group

SIM, PC, LP = models.GL06SIM, models.GL06PC, models.GL06LP
RNG = np.random.default_rng(5)
INF = np.inf
QUARTERS = pd.period_range("1990Q1", periods=40, freq="Q")


def path_of(model=SIM, periods=40, **values):
    return simulate(model, model.params(**values), periods=periods)


def sim_data(index: Any = QUARTERS, periods=40):
    path = path_of(periods=periods)
    columns = {"Y": np.asarray(path.national_income), "C": np.asarray(path.consumption_supply)}
    return pd.DataFrame(columns, index=index)


def problem(data=None, **changes):
    given: dict[str, Any] = {
        "observe": {"national_income": "Y"},
        "free": ("tax_rate", "propensity_to_consume_income"),
    }
    return estimation.Problem(SIM, sim_data() if data is None else data, **(given | changes))


# Bijections -------------------------------------------------------------------------------------


def bijection(low, high, *groups, scale=1.0):
    low, high = np.array(low, float), np.array(high, float)
    return Bijection(low, high, np.full(len(low), scale), groups)


BIJECTIONS = {
    "interval": (bijection([0, -3], [1, 700]), []),
    "half-lines": (bijection([2, -INF], [INF, -1], scale=3.0), []),
    "none": (bijection([-INF] * 2, [INF] * 2, scale=5.0), []),
    "mixed": (bijection([0, 2, -INF, -INF], [1, INF, -1, INF]), []),
    "simplex": (bijection([0] * 3, [1] * 3, Group((0, 1, 2), 0.0, 1.0, True)), [1.0]),
    "bounds that bind": (bijection([0.1] * 3, [0.4] * 3, Group((0, 1, 2), 0.1, 0.4)), [1.0]),
    "no bounds": (bijection([-INF] * 2, [INF] * 2, Group((0, 1), -INF, INF)), [0.0]),
    "one-sided": (bijection([0] * 2, [INF] * 2, Group((0, 1), -INF, 5.0)), [7.0]),
    "one of a pair": (bijection([0, -1], [1, 1], Group((1,), 0.0, 1.0)), [0.8]),
    "two groups": (
        bijection([0] * 4, [1] * 4, Group((0, 2), 0.0, 1.0, True), Group((3,), 0.0, 1.0, True)),
        [1.0, 0.5],
    ),
}


@pytest.mark.parametrize("name", BIJECTIONS)
def test_bijections_stay_within_bounds_come_back_and_know_their_determinant(name):
    one, totals = BIJECTIONS[name]
    points = RNG.normal(scale=2.0, size=(20, len(one.low)))
    found, slopes = jax.jit(
        jax.vmap(lambda u: (one.constrain(u, totals), jax.jacfwd(lambda x: one.constrain(x, totals).values)(u)))
    )(points)  # fmt: skip
    values, rests = np.asarray(found.values), np.asarray(found.rests)
    assert ((one.low < values) & (values < one.high)).all()
    for group, rest, total in zip(one.groups, rests.T, totals, strict=False):
        assert ((group.low < rest) & (rest < group.high)).all()
        whole = values[:, list(group.members)].sum(axis=1) + rest
        np.testing.assert_allclose(whole, total, rtol=0, atol=1e-12)
    np.testing.assert_allclose(one.unconstrain(values, totals), points, rtol=1e-9, atol=1e-9)
    determinants = np.linalg.slogdet(np.asarray(slopes))[1]
    np.testing.assert_allclose(found.log_det, determinants, rtol=0, atol=1e-9)


def test_zero_makes_equal_shares():
    one, totals = BIJECTIONS["simplex"]
    np.testing.assert_allclose(one.constrain(jnp.zeros(3), totals).values, 0.25, rtol=1e-15)


def test_values_outside_have_no_u():
    one, _ = BIJECTIONS["mixed"]
    inside = [0.5, 3.0, -2.0, 9.0]
    for at, bad in ((0, 0.0), (0, 1.0), (0, 1.1), (1, 2.0), (2, -1.0)):
        values = [*inside[:at], bad, *inside[at + 1 :]]
        assert np.isnan(one.unconstrain(np.array(values), [])).tolist() == [
            i == at for i in range(4)
        ]


def test_the_model_s_own_sums_are_kept():
    """GL06INSOUT: four portfolio shares of which the last is what the others leave."""
    model = models.GL06INSOUT
    names = [f"wealth_share_{kind}_constant" for kind in ("m2", "bills", "bonds")]
    share = f"{names[0].replace('m2', 'm1')}"
    data = {"real_consumption": np.ones(5)}
    one = estimation.Problem(model, data, free={name: (-1, 1) for name in names})
    assert one.names == tuple(names) and one.derived == (share,)
    params = one.params(one.start + RNG.normal(size=3))
    assert sum(float(params[name]) for name in (*names, share)) == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match=r"is what .* leave of 1"):
        estimation.Problem(model, data, free=(share,))


def test_groups_that_the_user_ties():
    model = models.IOPC
    data = {"x": np.asarray(simulate(model, periods=5).national_income)}
    shares = [f"household_budget_share[{i}]" for i in range(3)]
    for tied in ([shares], [AddingUp(tuple(shares), 1.0)]):
        one = estimation.Problem(
            model, data, observe={"national_income": "x"}, free=shares[:2], tied=tied
        )
        share = np.asarray(one.params(one.start + np.array([0.3, -0.8])).household_budget_share)
        assert share.sum() == pytest.approx(1, abs=1e-14) and one.derived == (shares[2],)
    np.testing.assert_allclose(one.values(one.start), [0.15, 0.35], rtol=1e-14)


# Priors -----------------------------------------------------------------------------------------

PRIORS: dict[Any, Any] = {
    estimation.Normal(1.0, 2.0): stats.norm(1, 2),
    estimation.HalfNormal(2.0): stats.halfnorm(scale=2),
    estimation.LogNormal(0.3, 0.5): stats.lognorm(0.5, scale=np.exp(0.3)),
    estimation.Beta(2.0, 3.0, -1.0, 3.0): stats.beta(2, 3, -1, 4),
    estimation.Gamma(2.0, 0.5): stats.gamma(2, scale=0.5),
    estimation.InverseGamma(3.0, 2.0): stats.invgamma(3, scale=2),
    estimation.Exponential(2.0): stats.expon(scale=2),
    estimation.Uniform(-1.0, 2.0): stats.uniform(-1, 3),
}


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_priors_are_scipy_s(prior):
    other: Any = PRIORS[prior]
    x = np.linspace(-2.03, 4.07, 41)
    with np.errstate(divide="ignore"):
        expected = other.logpdf(x)
    np.testing.assert_allclose(jax.vmap(prior.logpdf)(x), expected, rtol=1e-10, atol=1e-12)
    slope = jax.vmap(jax.grad(prior.logpdf))(x[np.isfinite(expected)])
    assert np.isfinite(slope).all()
    q = np.linspace(0.05, 0.95, 7)
    np.testing.assert_allclose(prior.quantile(q), other.ppf(q), rtol=1e-12)
    inside = prior.quantile(q, (0.2, 1.5))
    within = (other.cdf(inside) - other.cdf(0.2)) / (other.cdf(1.5) - other.cdf(0.2))
    np.testing.assert_allclose(within, q, rtol=1e-9)
    assert prior.mean == pytest.approx(other.mean()) and prior.sd == pytest.approx(other.std())


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_priors_as_squares_from_their_modes(prior):
    """Half the square is the drop of the log density from its maximum, which a grid finds."""
    low, high = np.maximum(prior.support[0], -6), np.minimum(prior.support[1], 6)
    x = np.linspace(low, high, 20_001)[1:-1]
    height = PRIORS[prior].logpdf(x)
    assert height.max() <= PRIORS[prior].logpdf(prior.mode) + 1e-12
    found = jax.vmap(prior.residual)(x)
    np.testing.assert_allclose(found**2 / 2, PRIORS[prior].logpdf(prior.mode) - height, atol=1e-9)
    slope = jax.vmap(jax.grad(prior.residual))(np.append(x, prior.mode))
    assert np.isfinite(slope).all() and (slope >= 0).all()


@pytest.mark.parametrize(
    "prior", [estimation.Gamma(0.5, 1.0), estimation.Beta(0.5, 2.0), estimation.Beta(2.0, 0.9)]
)
def test_a_density_without_end_has_no_mode(prior):
    assert np.isnan(prior.mode)


@pytest.mark.parametrize(
    "prior",
    [
        estimation.Normal(0.5, 0.3),
        estimation.Beta(2.0, 4.0),
        estimation.LogNormal(-1.0, 0.5),
        estimation.Uniform(0.1, 0.6),
    ],
    ids=str,
)
def test_the_prior_of_u_has_mass_one(prior):
    """The density over u integrates to 1: the Jacobian and the cut at the bounds are both in it."""
    one = problem(free={"tax_rate": (0, 1)}, priors={"tax_rate": prior})
    density = jax.vmap(lambda u: jnp.exp(one.log_prior(u[None])))
    grid = np.linspace(-30, 30, 40_001)
    # Of a jump, Simpson's rule sees one step of the grid at most.
    assert integrate.simpson(density(grid), x=grid) == pytest.approx(1, abs=1e-3)


# Residuals and likelihood ------------------------------------------------------------------------


def test_residuals_are_model_less_data_in_units_of_sigma():
    data = sim_data()
    data.iloc[[3, 17], 0] = np.nan
    one = problem(data, sigma=2.0, start={"tax_rate": 0.25})
    path = path_of(tax_rate=0.25)
    kept = ~data.Y.isna().to_numpy()
    expected = (np.asarray(path.national_income) - data.Y.to_numpy())[kept] / 2
    np.testing.assert_allclose(one.residuals(one.start), expected, rtol=1e-12, atol=1e-12)
    assert one.residual_count == 38 and one.labels[3] == ("national_income", "1991Q1")
    assert float(one.cost(one.start)) == pytest.approx(expected @ expected / 2, rel=1e-12)
    np.testing.assert_allclose(one.path(one.start).wages, path.wages)
    many = jax.vmap(one.residuals)(np.stack([one.start, one.start + 0.1]))
    np.testing.assert_allclose(many[0], expected, rtol=1e-12, atol=1e-12)


def test_the_likelihood_is_scipy_s():
    data = sim_data() + RNG.normal(size=(40, 2))
    observe = {
        "national_income": estimation.Observed("Y", sigma=1.5, weight=4.0),
        "consumption_supply": "C",
    }
    one = problem(data, observe=observe)
    path = path_of()
    errors = [
        np.asarray(path.national_income) - data.Y,
        np.asarray(path.consumption_supply) - data.C,
    ]
    known = stats.norm.logpdf(errors[0], 0, 0.75).sum()
    # The maximum over the unknown sigma of the other: their root mean square.
    free = stats.norm.logpdf(errors[1], 0, np.sqrt(np.mean(errors[1] ** 2))).sum()
    assert float(one.log_likelihood(one.start)) == pytest.approx(known + free, rel=1e-12)
    total = float(one.log_prior(one.start)) + known + free
    assert float(one.log_density(one.start)) == pytest.approx(total, rel=1e-12)


def test_moments_and_their_weights():
    half = RNG.normal(size=(3, 3))
    weights, target = half @ half.T + np.eye(3), np.array([90.0, 70.0, 1.0])

    def of(path):
        return jnp.stack([path.national_income[-1], path.consumption_supply[-1], path.wages[0]])

    one = estimation.Problem(
        SIM,
        free=["tax_rate"],
        moments=estimation.Moments(of, target, weights, name="ends"),
        periods=30,
    )
    off = np.asarray(of(path_of(periods=30))) - target
    assert 2 * float(one.cost(one.start)) == pytest.approx(off @ weights @ off, rel=1e-12)
    assert one.labels == (("ends", "0"), ("ends", "1"), ("ends", "2"))


def test_it_computes_in_float64_and_leaves_the_user_s_dtype(float32):
    one = problem()
    assert one.start.dtype == np.float64 and one.inputs.params.tax_rate.dtype == np.float64
    assert one.residuals(one.start).dtype == jnp.float32
    fit = estimation.fit(problem(start={"tax_rate": 0.3}))
    assert fit.success and fit.estimates.dtype == np.float64
    assert fit.values["tax_rate"] == pytest.approx(0.2, rel=1e-6)


# Transforms and frequencies, against pandas -------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"transform": "log"}, lambda y, c: np.log(y)),
        ({"transform": "difference"}, lambda y, c: y.diff()),
        ({"transform": "growth", "lag": 4}, lambda y, c: y.pct_change(4)),
        ({"transform": "log_growth"}, lambda y, c: np.log(y).diff()),
        ({"transform": "index", "base": "1991Q2"}, lambda y, c: y / y["1991Q2"]),
        ({"transform": "index", "base": ("1990Q1", "1990Q4")}, lambda y, c: y / y[:4].mean()),
        ({"over": "consumption_supply", "over_column": "C"}, lambda y, c: y / c),
        ({"transform": lambda x, xp: xp.cumsum(x)}, lambda y, c: y.cumsum()),
    ],
)
def test_transforms_are_pandas_ones_on_both_sides(how, expected):
    data = sim_data() * (1 + 0.05 * RNG.normal(size=(40, 2)))
    one = problem(data, observe={"national_income": estimation.Observed("Y", **how)})
    series, table = one.series[0], sim_data()
    there, ours = expected(data.Y, data.C).dropna(), expected(table.Y, table.C).dropna()
    np.testing.assert_allclose(series.target, there, rtol=1e-12)
    assert [series.dates[row] for row in series.rows] == [str(date) for date in there.index]
    model = np.asarray(one.residuals(one.start)) * series.spread + series.target
    np.testing.assert_allclose(model, ours, rtol=1e-9, atol=1e-11)


def test_data_that_are_transformed_already_and_in_per_cent():
    growth = 100 * sim_data().Y.pct_change()
    how = estimation.Observed("g", transform="growth", transformed=True, scale=100)
    one = problem(growth.to_frame("g"), observe={"national_income": how}, start_date="1990Q1")
    assert one.residual_count == 39
    np.testing.assert_allclose(one.residuals(one.start), 0, atol=1e-10)


def test_a_change_needs_the_date_before_it():
    growth = sim_data().Y.pct_change().to_frame("g")
    how = estimation.Observed("g", transform="growth", transformed=True)
    with pytest.raises(ValueError, match="1990Q2 needs the model's value 1 earlier"):
        problem(growth.iloc[1:], observe={"national_income": how})


def test_a_missing_value_costs_the_growth_rates_beside_it():
    data = sim_data()
    data.iloc[10, 0] = np.nan
    one = problem(data, observe={"national_income": estimation.Observed("Y", transform="growth")})
    missing = {"1990Q1", "1992Q3", "1992Q4"}
    assert {str(q) for q in QUARTERS} - {date for _, date in one.labels} == missing


@pytest.mark.parametrize("as_mapping", [True, False])
def test_annual_data_are_sums_of_flows_and_ends_of_stocks(as_mapping):
    path = path_of()
    table = pd.DataFrame(
        {"Y": path.national_income, "C": path.consumption_supply, "H": path.household_money_stock},
        index=QUARTERS,
    )
    years = table.groupby(QUARTERS.year)
    annual = pd.DataFrame({"C": years.C.sum(), "H": years.H.last(), "Y": years.Y.mean()})
    annual.index = pd.PeriodIndex(annual.index.astype(str), freq="Y")
    data: Any = {"q": table.Y, **{name: annual[name] for name in annual}}
    if not as_mapping:  # the years' values in the rows of their last quarters
        rows = annual.set_axis(annual.index.asfreq("Q", "end"))
        data = pd.concat([table[["Y"]].set_axis(["q"], axis=1), rows], axis=1)
    year: Any = {} if as_mapping else {"freq": "Y"}
    observe = {
        "national_income": "q",
        "consumption_supply": estimation.Observed("C", **year),
        "household_money_stock": estimation.Observed("H", **year),
        "mean income": estimation.Observed(
            "Y", of=lambda p: p.national_income, aggregate="mean", **year
        ),
    }
    one = problem(data, observe=observe)
    assert [s.size for s in one.series] == [40, 10, 10, 10] and one.calendar.freq == "Q-DEC"
    np.testing.assert_allclose(one.residuals(one.start), 0, atol=1e-12)
    assert ("household_money_stock", "1999") in one.labels


def test_an_index_of_lower_frequency_must_be_told():
    annual = pd.Series([400.0], index=pd.PeriodIndex(["1990"], freq="Y"), name="Y")
    with pytest.raises(ValueError, match="say aggregate="):
        problem(annual.to_frame(), freq="Q", start_date="1990Q1")


# Reading ----------------------------------------------------------------------------------------


def test_every_kind_of_data_says_the_same(tmp_path):
    pytest.importorskip("pyarrow")
    import xarray as xr

    table = sim_data()
    csv, parquet = tmp_path / "data.csv", tmp_path / "data.parquet"
    table.rename_axis("date").to_csv(csv)
    table.rename_axis(None).to_csv(bare := tmp_path / "bare.csv")
    table.set_axis(QUARTERS.astype(str)).rename_axis("date").reset_index().to_parquet(parquet)
    split = table.reset_index(drop=True).assign(year=QUARTERS.year, quarter=QUARTERS.quarter)
    stamps = table.set_axis(QUARTERS.to_timestamp(how="end").normalize())
    array = xr.Dataset({n: ("time", table[n]) for n in table}, coords={"time": stamps.index})
    for source in (
        table, csv, bare, str(parquet), split, stamps, array, table.iloc[::-1], dict(table.items()),
        stamps.set_axis(stamps.index.astype(str)), stamps.tz_localize("UTC"),
    ):  # fmt: skip
        found = estimation.read_data(source)
        pd.testing.assert_frame_equal(found, table, check_names=False, check_column_type=False)
        assert problem(source).calendar.span == "1990Q1 to 1999Q4"


def test_rows_without_dates_count_periods():
    table = sim_data(index=None)
    for source in (table, {"Y": table.Y.to_numpy()}, table.rename_axis("period").reset_index()):
        one = problem(source)
        assert one.calendar.span == "0 to 39" and one.calendar.periods == 40
    assert problem({"Y": np.append(table.Y, [np.nan] * 3)}).calendar.periods == 40
    assert problem(table, periods=60).calendar.periods == 60


def test_dates_as_files_have_them(tmp_path):
    """Years as numbers, midnights, FRED's and OECD's headings: each is what it looks like."""
    values = np.arange(1.0, 9.0)
    quarters = pd.period_range("1990Q1", periods=8, freq="Q")
    years = pd.period_range("1990", periods=8, freq="Y")

    def read(head, labels):
        file = tmp_path / "data.CSV"
        file.write_text(
            f"{head},Y\n" + "".join(f"{a},{b}\n" for a, b in zip(labels, values, strict=True))
        )
        return estimation.read_data(file).index

    assert read("date", years.year).equals(years)
    assert read("YEAR", years.year).equals(years)
    midnights = [f"{day} 00:00:00" for day in quarters.to_timestamp().strftime("%Y-%m-%d")]
    assert read("time", midnights).equals(quarters)
    assert read("observation_date", quarters.to_timestamp().strftime("%Y-%m-%d")).equals(quarters)
    assert read("date", quarters.to_timestamp().strftime("%Y%m%d")).equals(quarters)
    assert read("TIME_PERIOD", [f"{one.year}-Q{one.quarter}" for one in quarters]).equals(quarters)
    assert list(read("date", range(8))) == list(range(8))
    table = pd.DataFrame({"Y": values}, index=years.year)
    with pytest.raises(ValueError, match=r"begin with the number 1990.* If they are years"):
        problem(table)
    assert problem(table, periods=2000).calendar.periods == 2000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,Y\n01/04/1990,1\n01/07/1990,2\n", "which number is the month"),
        ("date,Y\nJan-25,1\nFeb-25,2\n", "labelled Jan-25, Feb-25: write years with four digits"),
        ("date,Y\n90Q1,1\n90Q2,2\n", "labelled 90Q1, 90Q2: write years with four digits"),
        ("date;Y\n1990-01-01;1\n", "separated by ';', not by commas"),
        ("year,quarter,Y\n1990,5,1\n", "'quarter' of the data must hold whole numbers from 1 to 4"),
        ("year,quarter,Y\n1990,Q1,1\n", "'quarter' of the data must hold whole numbers"),
        ("year,month,Y\n1990,13,1\n", "'month' of the data must hold whole numbers from 1 to 12"),
        ("date,Y\n", "no rows"),
        ("", "data.csv cannot be read: No columns"),
        ("when,Y\n1990Q1,1\n1990Q2,2\n", "'when' of the data does not hold numbers.*dates='when'"),
        (
            "date,Y\n1990Q1,1\n1990Q2,.\n",
            "'Y' .*not hold numbers: '.' in the row 1990Q2. A missing",
        ),
    ],
)
def test_files_that_could_be_misread(tmp_path, text, message):
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        estimation.read_data(tmp_path / "data.csv")


def test_spaces_after_commas_are_no_part_of_names(tmp_path):
    (tmp_path / "data.csv").write_text("date, Y, C\n1990Q1, 1.0, \n1990Q2, 2.0, 3.0\n")
    found = estimation.read_data(tmp_path / "data.csv")
    assert list(found.columns) == ["Y", "C"] and found["C"].isna().tolist() == [True, False]


def test_an_index_that_is_one_already_needs_its_base():
    """The column is 100 in 1995, not where it begins."""
    income = sim_data().Y + np.arange(40.0)
    base = income["1995Q1":"1995Q4"].mean()
    data = pd.DataFrame({"Y": 100 * income / base}, index=QUARTERS)
    how = {"transform": "index", "transformed": True, "scale": 100.0}
    with pytest.raises(ValueError, match="is an index already: say its base="):
        problem(data, observe={"national_income": estimation.Observed("Y", **how)})
    right = estimation.Observed("Y", base=("1995Q1", "1995Q4"), **how)
    model = path_of().national_income
    expected = 100 * model / model[20:24].mean() - data.Y.to_numpy()
    one = problem(data, observe={"national_income": right}, sigma=1.0)
    np.testing.assert_allclose(one.residuals(one.start), expected, atol=1e-10)
    wrong = estimation.Observed("Y", base="1990Q1", **how)
    with pytest.raises(ValueError, match="in its base '1990Q1', where it should be scale=100"):
        problem(data, observe={"national_income": wrong})


def test_elements_by_position_and_by_label():
    """LINEAR2D's components are labelled 1 and 2, and counted from 0."""
    model = models.LINEAR2D
    state = np.asarray(simulate(model, periods=6).state)
    by_position = {"state[0]": state[:, 0], "state[1]": state[:, 1]}
    by_label = {"State.1": state[:, 0], "State.2": state[:, 1]}
    for data, observe in ((by_position, None), (by_label, None), (by_label, ["state"])):
        one = estimation.Problem(model, data, observe, ["a11", "x0_2"])
        np.testing.assert_allclose(one.residuals(one.start), 0, atol=1e-13)


def test_a_scenario_from_the_data_and_an_initial_state_by_name():
    spending = 20 + np.arange(40.0)
    truth = SIM.scenario(periods=40, government_demand=spending)
    first = SIM.State.filled(0.0).replace(household_money_stock=50.0)
    path = simulate(SIM, scenario=truth, initial=first)
    data = pd.DataFrame({"Y": path.national_income, "G": spending}, index=QUARTERS)
    one = problem(
        data,
        scenario={"government_demand": "G"},
        initial={"household_money_stock": 50.0},
        free={"tax_rate": None, "initial.household_money_stock": (0, 100)},
    )
    np.testing.assert_allclose(one.residuals(one.start), 0, atol=1e-12)
    assert one.names[1] == "initial.household_money_stock"
    moved = one.unconstrain({"initial.household_money_stock": 80.0})
    assert float(one.residuals(moved)[0]) * one.series[0].spread == pytest.approx(
        0.4 * 30 / (1 - 0.6 * 0.8), rel=1e-12
    )
    data.loc["1993Q2", "G"] = np.nan
    with pytest.raises(ValueError, match="none in 1 of them, the first 1993Q2"):
        problem(data, scenario={"government_demand": "G"})


def test_what_is_not_given_of_the_initial_state_follows_the_parameters():
    """NK3E starts with output at its equilibrium: also where inflation alone is given and that is free."""
    model, truth = models.NK3E, models.NK3E.params(equilibrium_output=6.0)
    scenario = model.scenario(periods=8)
    first = model.initial_state(truth, scenario[0]).replace(inflation=4.0)
    path = simulate(model, truth, scenario, initial=first, periods=8)
    data = {name: np.asarray(path[name]) for name in ("y", "pi")}
    one = estimation.Problem(model, data, free=["equilibrium_output"], initial={"pi": 4.0})
    np.testing.assert_allclose(one.residuals(one.unconstrain([6.0])), 0, atol=1e-12)
    # A variable before the first period that is free itself goes its own way.
    both = {"equilibrium_output": None, "initial.real_rate": (0, 50)}
    two = estimation.Problem(model, data, free=both, initial={"pi": 4.0})
    u = two.unconstrain([6.0, float(first.real_rate)])
    np.testing.assert_allclose(two.residuals(u), 0, atol=1e-12)


def test_unconstrain_takes_params_names_and_arrays():
    one = problem(free={"propensity_to_consume_income": (0.2, 0.9), "tax_rate": None})
    values = {"propensity_to_consume_income": 0.7, "tax_rate": 0.3}
    by_name = one.unconstrain(values)
    np.testing.assert_allclose(one.values(by_name), [0.7, 0.3], rtol=1e-14)
    np.testing.assert_array_equal(one.unconstrain(SIM.params(**values)), by_name)
    np.testing.assert_array_equal(one.unconstrain(np.array([[0.7, 0.3]] * 2))[1], by_name)
    np.testing.assert_allclose(one.values(one.unconstrain({"tax_rate": 0.3})), [0.6, 0.3])


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"observe": {"national_income": "GDP"}}, KeyError, "no column 'GDP'.*Columns: Y, C"),
        ({"observe": None}, KeyError, "no variables of GL06SIM: Y, C.*consumption_demand"),
        ({"observe": {"income": "Y"}}, KeyError, "'income' is not in .*State"),
        ({"free": {"tax": None}}, KeyError, "'tax' is not in .*Params"),
        ({"free": ()}, ValueError, "No parameter of GL06SIM is free"),
        ({"free": {"tax_rate": (0.3, 0.9)}}, ValueError, "starts at 0.2, outside the bounds"),
        ({"free": {"tax_rate": (0.2, 0.9)}}, ValueError, "starts at 0.2, at a bound"),
        ({"free": {"tax_rate": (-1, 0.9)}}, ValueError, r"reach beyond those of GL06SIM, \[0, 1\]"),
        ({"free": {"tax_rate": (0.9, 0.1)}}, ValueError, "need low < high"),
        ({"free": {"tax_rate": 3}}, ValueError, r"name: \(low, high\)"),
        ({"fixed": {"tax_rate": 0.2}}, ValueError, "both fixed and free"),
        ({"start": {"propensity_to_consume_savings": 0.2}}, KeyError, "which is not free"),
        ({"priors": {"tax_rate": estimation.Uniform(0, 2)}}, ValueError, "reaches from 0 to 2"),
        ({"priors": {"tax_rate": estimation.Normal(3, 1)}}, ValueError, "2% of its mass"),
        ({"priors": {"tax_rate": 0.2}}, TypeError, "estimation.Normal"),
        (
            {"priors": {"tax_rate": estimation.Normal(0.2, 0.1), "TaxRate": estimation.Uniform(0, 1)}},
            ValueError, "priors names 'tax_rate' twice",
        ),
        ({"start": {"tax_rate": 0.2, "TaxRate": 0.3}}, ValueError, "start names 'tax_rate' twice"),
        ({"priors": {"wages": estimation.Normal(3, 1)}}, KeyError, "'wages'"),
        ({"periods": 30}, ValueError, "10 of 40 .* 1990Q1 to 1999Q4, the run is 1990Q1 to 1997Q2"),
        ({"start_date": "1990Q3"}, ValueError, "2 of 40 observations"),
        ({"freq": "Y"}, ValueError, "frequency Q-DEC, the run of Y"),
        ({"sigma": 0.0}, ValueError, "positive"),
        ({"sigma": np.ones(40)}, ValueError, "sigma of 'national_income' must be a positive number"),
        ({"data": pd.DataFrame(np.ones((40, 2)), QUARTERS, ["Y", "Y"])}, ValueError, "several columns Y"),
        (
            {"free": {"initial.wages": (-1, 1)},
             "tied": [("initial.wages", "initial.household_money_stock", "initial.tax_demand")]},
            ValueError, "initial.household_money_stock are in a sum and neither free nor given",
        ),
        ({"sigma": {"GDP": 1.0}}, KeyError, "GDP"),
        ({"tied": [("tax_rate", "propensity_to_consume_income")]}, ValueError, "cannot be free"),
        ({"scenario": {"government_demand": "G"}}, KeyError, "no column 'G'.*Columns: Y, C"),
        ({"data": 3}, TypeError, "pandas DataFrame"),
        ({"data": "missing.csv"}, ValueError, "no file"),
        ({"data": "data.xlsx"}, ValueError, ".csv and .parquet"),
        ({"data": {"Y": [1.0]}}, ValueError, "2 free parameters .* and only 1 data"),
        ({"data": {"Y": ["a", "b", "c"]}}, ValueError, "'Y' of the data does not hold numbers"),
        ({"data": {"Y": [1.0, np.inf, 2.0]}}, ValueError, "infinity"),
        ({"data": {"Y": np.ones((3, 2))}}, ValueError, r"shape \(T,\)"),
        ({"data": {"Y": [1.0, 2.0], "C": [1.0]}}, ValueError, "one length"),
        ({"data": pd.DataFrame({"Y": [1.0, 2.0]}, index=["a", "b"])}, ValueError, "labelled a, b"),
        ({"data": pd.DataFrame({"Y": [1.0, 2.0]}, index=QUARTERS[[0, 0]])}, ValueError, "several rows"),
        ({"data": pd.DataFrame({"Y": [np.nan] * 40}, index=QUARTERS)}, ValueError, "no observation"),
        (
            {"data": {"Y": sim_data().Y, "C": np.ones(40)}}, ValueError,
            r"dates \(Y\) and some have none \(C\)",
        ),
        (
            {"observe": {"national_income": estimation.Observed("Y", transform="log")},
             "data": {"Y": [1.0, -1.0, 2.0]}}, ValueError, "first for the value -1",
        ),
    ],
)  # fmt: skip
def test_bad_input_says_what_and_why(change, error, message):
    change = dict(change)
    with pytest.raises(error, match=message):
        problem(change.pop("data", None), **change)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimation.Observed(transform="logs"), "no transform 'logs'"),
        (lambda: estimation.Observed(aggregate="median"), "no aggregate"),
        (lambda: estimation.Observed(lag=0), "lag"),
        (lambda: estimation.Observed(weight=-1), "weight"),
        (lambda: estimation.Observed(weight=np.ones(3)), "weight must be a positive number"),  # type: ignore
        (lambda: estimation.Normal(np.zeros(2), 1), "mu must be a finite number"),  # type: ignore
        (lambda: estimation.Observed(scale=0), "scale"),
        (lambda: estimation.Normal(0, -1), "sigma must be positive"),
        (lambda: estimation.Uniform(1, 1), "low must be less"),
        (lambda: estimation.Moments(len, [1.0, 2.0], np.ones(3)).root(), "must be"),
        (lambda: estimation.Moments(len, [1.0, 2.0], -np.eye(2)).root(), "positive definite"),
        (lambda: problem().unconstrain({"tax_rate": 1.5}), "not strictly within"),
        (lambda: estimation.Problem(SIM, free=["tax_rate"]), "give data, or moments"),
    ],
)
def test_bad_parts_say_what_and_why(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_function_of_the_path_gives_a_number_for_each_period():
    """A difference is one shorter than the path: JAX alone would take the last one twice."""
    how = estimation.Observed("x", of=lambda path: jnp.diff(path.national_income))
    with pytest.raises(ValueError, match=r"'change' gives the shape \(39,\): .* \(40,\)"):
        problem({"x": np.ones(40)}, observe={"change": how})


def test_a_start_where_the_model_is_not_defined():
    how = estimation.Observed("x", of=lambda path: jnp.log(path.national_income - 50))
    with pytest.raises(ValueError, match="residuals are not finite, the first for log income in 0"):
        problem({"x": np.ones(40)}, observe={"log income": how})
