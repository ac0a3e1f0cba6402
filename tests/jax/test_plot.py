"""Pictures: each is drawn to a file, opened, and found to hold the data it is of."""

from __future__ import annotations

import dataclasses

import jax
import matplotlib.image
import numpy as np
import pytest

from macrostat_jax import models, plot, simulate
from macrostat_jax.diff import jacobian, long_run, stability, step_sparsity
from macrostat_jax.plot._parts import date_ticks

PERIODS = 30


@pytest.fixture(scope="module")
def income():
    """dY(t) of model SIM by its parameters."""
    with jax.enable_x64(True):
        return jacobian(models.GL06SIM, "national_income", periods=PERIODS)


@pytest.fixture
def drawn(tmp_path):
    """Saves a figure, opens the file, and sees that the page is not blank and no text is cut off."""

    def check(figure):
        figure.savefig(tmp_path / "picture.png")
        page = matplotlib.image.imread(tmp_path / "picture.png")[..., :3]
        assert page.std() > 0.01
        edges = np.concatenate([page[0], page[-1], page[:, 0], page[:, -1]])
        assert np.all(edges == 1), "something reaches over the edge of the page"
        return figure.axes[0]

    return check


def texts(axis):
    return [label.get_text() for label in axis.get_yticklabels()]


def test_heat_map(income, drawn):
    axis = drawn(plot.heatmap(income))
    image = axis.images[0].get_array()
    assert image.shape == (3, PERIODS) and texts(axis) == income.columns()
    np.testing.assert_allclose(image[0], 0.01 * 0.2 * np.asarray(income["tax_rate"]))
    limit = axis.images[0].get_clim()
    assert limit == (-np.abs(image).max(), np.abs(image).max())  # white is zero
    assert axis.figure.axes[1].get_ylabel() == "change, USD"
    rows = drawn(plot.heatmap(income, by_row=True))
    np.testing.assert_allclose(np.abs(rows.images[0].get_array()).max(axis=1), 1)
    assert texts(rows)[0] == f"tax_rate  (±{np.abs(image[0]).max():.2g})"
    with pytest.raises(KeyError, match="wealth"):
        plot.heatmap(income, "wealth")
    with pytest.raises(KeyError, match="'tax_supply' was not differentiated"):
        plot.heatmap(income, "tax_supply")


def test_a_heat_map_shows_where_there_is_no_derivative(income, drawn):
    holed = {
        "national_income": {
            label: np.where(np.arange(PERIODS) == 5, np.nan, value)
            if label == "tax_rate"
            else value
            for label, value in income.values["national_income"].items()
        }
    }
    image = drawn(plot.heatmap(dataclasses.replace(income, values=holed))).images[0]
    assert np.ma.getmaskarray(np.ma.masked_invalid(image.get_array())).sum() == 1
    assert image.cmap.get_bad()[0] == pytest.approx(0.6)


def bars(axis):
    """Label -> (effect of 1 % more, of 1 % less), of a tornado."""
    more, less = axis.containers
    widths = zip(more.patches, less.patches, strict=True)
    return {
        label: (up.get_width(), down.get_width())
        for label, (up, down) in zip(texts(axis), widths, strict=True)
    }


def test_tornado_of_the_long_run_shows_elasticities(drawn):
    table = long_run(models.GL06SIM)
    axis = drawn(plot.tornado(table, "household_money_stock"))
    found = bars(axis)
    # H* = (1 - a1) / a2 (1 - theta) G / theta: elasticities by hand.
    expected = {
        "propensity_to_consume_income": -0.6 / 0.4,
        "tax_rate": -1 - 0.2 / 0.8,
        "propensity_to_consume_savings": -1,
        "scenario.government_demand": 1,
    }
    assert set(found) == set(expected)
    for label, value in expected.items():
        assert found[label] == pytest.approx((value, -value), rel=1e-9)
    sizes = [abs(found[label][0]) for label in texts(axis)]
    assert sizes == sorted(sizes, reverse=True) and axis.yaxis_inverted()
    assert "% of 80 USD   (1 more: none" in axis.get_xlabel()
    assert {"-1.5", "+1"} <= {text.get_text() for text in axis.texts}
    few = drawn(plot.tornado(table, "household_money_stock", most=2))
    assert len(bars(few)) == 2 and "3 more: smaller" in few.get_xlabel()
    with pytest.raises(KeyError):
        plot.tornado(table, "wealth")


def test_tornado_of_a_path(income, drawn):
    axis = drawn(plot.tornado(income, period=3))
    assert bars(axis)["tax_rate"][0] == pytest.approx(0.002 * float(income["tax_rate"][3]))
    assert (
        "in period 3" in axis.get_title() and axis.get_xlabel() == "change of national_income, USD"
    )
    path = simulate(models.GL06SIM, periods=PERIODS)
    share = drawn(plot.tornado(income, path=path))
    assert bars(share)["tax_rate"][0] == pytest.approx(
        0.2 * float(income["tax_rate"][-1] / path.national_income[-1])
    )


def test_impulse_responses_with_bands(drawn):
    model = models.GL06SIM
    rates = np.linspace(0.15, 0.25, 11)
    one = drawn(plot.impulse_response(model, "government_demand", ["national_income"], periods=40))
    line = one.lines[0].get_ydata()
    # A unit of spending is multiplied by 1 / (1 - a1 (1 - theta)) in its period.
    assert line[0] == pytest.approx(1 / 0.52) and len(line) == 20
    params = model.params(tax_rate=rates)
    figure = plot.impulse_response(
        model, "government_demand", ["national_income"], periods=40, params=params, bands=(0.8,)
    )
    axis = drawn(figure)
    first = 1 / (1 - 0.6 * (1 - rates))
    assert axis.lines[0].get_ydata()[0] == pytest.approx(np.median(first))
    edge = axis.collections[0].get_paths()[0].vertices
    at_start = edge[edge[:, 0] == 0][:, 1]
    assert [at_start.min(), at_start.max()] == pytest.approx(np.quantile(first, [0.1, 0.9]))
    assert axis.get_legend().get_title().get_text() == "median and 80 % of 11 runs"
    assert axis.get_ylabel().endswith(", USD")
    with pytest.raises(ValueError, match="shares of the runs"):
        plot.impulse_response(model, "government_demand", bands=(90,))
    with pytest.raises(ValueError, match="period must lie in 0 to 99"):
        plot.impulse_response(model, "government_demand", period=100)


def test_map_of_eigenvalues(drawn):
    found = stability(models.LINEAR2D)
    axis = drawn(plot.eigenvalues(found, by="a12", share=0.5))
    points = np.asarray(axis.collections[0].get_offsets())
    np.testing.assert_allclose(points, [[0.85, 0.132287566], [0.85, -0.132287566]], rtol=1e-7)
    circle = axis.lines[0].get_xydata()
    np.testing.assert_allclose(np.hypot(*circle.T), 1)
    half = axis.lines[1].get_xydata()  # the ring of a half-life of one period
    np.testing.assert_allclose(np.hypot(*half.T), 0.5)
    arrows = [text for text in axis.texts if text.get_text() == ""]
    slope = found.slopes[0, found.columns.index("a12")] * 0.05
    assert arrows[0].xy == pytest.approx((0.85 + slope.real, 0.132287566 + slope.imag))
    assert any("half-life 4.6, cycle 40.7" in text.get_text() for text in axis.texts)
    with pytest.raises(KeyError, match="'tax_rate' is not one of a11"):
        plot.eigenvalues(found, by="tax_rate")
    kinds = drawn(plot.eigenvalues(stability(models.GL06PC)))
    labels = [text.get_text() for text in kinds.get_legend().get_texts()]
    assert labels == ["simple (2)", "unit root of what is conserved (2)", "zero (10)"]


def test_pattern_of_nonzeros(drawn):
    pattern = step_sparsity(models.GL06PC)
    axis = drawn(plot.sparsity(pattern))
    image = np.ma.masked_invalid(axis.images[0].get_array())
    np.testing.assert_array_equal(~np.ma.getmaskarray(image), pattern.to_pandas().to_numpy())
    assert f"{pattern.products} products by {pattern.by}" in axis.get_title()
    assert len(np.unique(image.compressed())) == min(pattern.products, 8)
    assert texts(axis) == list(pattern.to_pandas().index)
    plain = drawn(plot.sparsity(np.tri(4), rows="abcd", title="Lower triangle"))
    assert "Lower triangle\n10 of 16 nonzero" in plain.get_title() and texts(plain) == list("abcd")
    drawn(plot.sparsity(np.eye(300, dtype=bool)))
    with pytest.raises(ValueError, match="4 columns need as many labels, not 2"):
        plot.sparsity(np.eye(4), columns=["a", "b"])
    with pytest.raises(ValueError, match="A pattern is a matrix"):
        plot.sparsity(np.ones(3))


def test_step_ladder(drawn):
    steps = 2.0 ** -np.arange(2, 30, 3)
    right, left = (np.sin(1 + steps) - np.sin(1)) / steps, (np.sin(1) - np.sin(1 - steps)) / steps
    quotients = {"right": right, "left": left}
    axis = drawn(
        plot.step_ladder(steps, quotients, np.cos(1), label="sin by x", noise=1e-16 / steps)
    )
    np.testing.assert_array_equal(axis.lines[0].get_ydata(), right)
    np.testing.assert_array_equal(axis.lines[1].get_xdata(), steps)
    gaps = axis.figure.axes[1]
    np.testing.assert_allclose(gaps.lines[0].get_ydata(), np.abs(right - np.cos(1)))
    assert gaps.get_yscale() == "log" and gaps.lines[-1].get_label() == "rounding"
    alone = drawn(plot.step_ladder(steps, right, noise=1e-16 / steps))
    assert len(alone.figure.axes) == 1 and alone.figure.get_suptitle() == "Step ladder"
    with pytest.raises(ValueError, match=r"has the shape \(3,\), for 10 steps"):
        plot.step_ladder(steps, np.ones(3))
    with pytest.raises(ValueError, match="greater than 0"):
        plot.step_ladder([0.1, -0.1], [1.0, 1.0])


def test_dates_stand_at_the_beginnings_of_years():
    quarters = [f"{year}Q{quarter}" for year in range(1959, 2010) for quarter in (1, 2, 3, 4)][:203]
    shown = [quarters[i] for i in date_ticks(quarters)]
    assert shown[:3] == ["1959Q1", "1965Q1", "1971Q1"] and len(shown) <= 10
    assert date_ticks(["2001", "2002", "2003"]) == [0, 1, 2]
    assert date_ticks(["2001Q3", "2001Q4", "2002Q1"]) == [0, 1, 2]
    assert date_ticks([]) == []
