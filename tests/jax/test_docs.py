"""Pages about models: what they say, that the committed ones say it still, and their formats."""

from __future__ import annotations

import re
from pathlib import Path

import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from macrostat_jax import (
    Axis,
    Model,
    Record,
    Scalar,
    Vector,
    _document,
    docs,
    index,
    models,
    param,
    plot,
    simulate,
)
from macrostat_jax._document import Code, Equation, Heading, Picture, Table, Text

PAGES = Path(__file__).parents[2] / "docs" / "models"
NAMES = models.names()

REMAKE = "run: python -m macrostat_jax.docs docs/models"


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_page_is_up_to_date(name):
    assert (PAGES / f"{name}.md").read_text() == docs.page(models.get(name)), REMAKE


def test_the_committed_index_is_up_to_date():
    assert (PAGES / "index.md").read_text() == docs.index(), REMAKE


def test_every_page_and_picture_is_that_of_a_model():
    links = {link for page in PAGES.glob("*.md") for link in linked(page.read_text())}
    there = {str(path.relative_to(PAGES)) for path in PAGES.rglob("*.*") if path.is_file()}
    assert there - links == {"index.md"}
    assert links - there == set(), REMAKE


def linked(text):
    return re.findall(r"\]\(([^)]+)\)", text)


def test_pictures_are_small():
    assert max(path.stat().st_size for path in PAGES.rglob("*.png")) < 40_000


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_everything_that_is_declared(name):
    model, page = models.get(name), docs.page(models.get(name))
    for record in (model.Params, model.Scenario, model.State):
        for key, field in record.fields.items():
            assert f"| `{key}`" in page
            assert field.symbol.replace("|", r"\vert ") in page
            assert field.equation.replace("|", r"\vert ") in page
    for scenario in model.scenarios:
        assert f"### {scenario}\n" in page


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_as_many_cells_in_every_row(name):
    tables = re.findall(r"(?:^\|.*\|\n)+", docs.page(models.get(name)), re.MULTILINE)
    assert len(tables) >= 2
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(cells) == 1, table


def test_a_page_of_simex():
    page = docs.page(models.GL06SIMEX)
    assert page.startswith(
        "# GL06SIMEX: government money with expected income\n\nGodley and Lavoie"
    )
    rows = [
        r"| `consumption_demand` | $C_d = \alpha_1 YD^e + \alpha_2 H_{h,-1}$ | index of Household"
        " | USD | 3.7E |",
        "| `tax_supply` | $T_s = T_d$ | flow, paid by Household to Government | USD | 3.3 |",
        "| `household_money_stock` | $H_h = H_{h,-1} + YD - C_d$ | stock, asset of Household | USD"
        " | 3.9 |",
        r"| `tax_rate` | $\theta$ | 0.2 | 0 to 1 | % per period |",
        "| `government_demand` | $G_d$ | 20 | USD |",
        "| Money | $-H_s$ | $+H_h$ | 0 |",
        r"| Change in Money | $-\Delta H_h$ |  | $+\Delta H_s$ | 0 |",
    ]
    assert [row for row in rows if row not in page] == []


def test_a_scenario_says_what_changes_and_when():
    page = docs.page(models.GL06LP)
    assert (
        "From period 50 (the first is 0): `interest_rate_bills` is 0.04; `bond_price` is 15."
        in page
    )
    public = _document.markdown(docs.blocks(models.GL06LP, public=True))
    assert "`PropensityToConsumeIncome_add` is -0.1" in public
    assert "`InterestRateBills` is 0.04; `BondPrice` is 15." in public


def test_a_model_without_a_docstring_has_its_name_for_a_title(monkeypatch):
    monkeypatch.setattr(type(models.GL06SIM), "description", "")
    assert docs.page(models.GL06SIM).startswith("# GL06SIM\n\n```python\n")


def test_constraints_are_sums():
    page = docs.page(models.GL06INSOUT)
    assert page.count("$$\n") == 2 * len(models.GL06INSOUT.constraints)
    assert re.search(r"\$\$\n\\lambda_\{20\}.* = 1\n\$\$", page)


def test_a_model_of_ones_own_is_written(tmp_path):
    linear = models.LINEAR2D
    records = (linear.Params, linear.Scenario, linear.State)
    model = Model("MINE", *records, linear.initial_state, linear.step, periods=5)
    page = docs.write_page(model, tmp_path / "new")
    assert page == tmp_path / "new" / "MINE.md"
    assert page.read_text() == docs.page(model)
    assert "models.MINE" not in page.read_text()
    (picture,) = (tmp_path / "new" / "pictures").iterdir()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_write_leaves_the_old_page(tmp_path, monkeypatch):
    path = _document.write(tmp_path / "page.md", "old")

    def fails(temporary, *args, **kwargs):
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(KeyboardInterrupt):
        _document.write(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["page.md"]
    assert path.read_text() == "old"


def test_another_style_is_refused():
    with pytest.raises(ValueError, match="must be one of markdown, rst, latex, not 'html'"):
        docs.page(models.LINEAR2D, "html")  # type: ignore[arg-type]


BLOCKS = [
    Heading("On *x* & `y_1`", 1),
    Heading("Part"),
    Heading("Section", 3),
    Text("Costs 5 % of $a_1$, *not* `b_2`."),
    Equation(r"a &= b \\ c &= d", "first"),
    Table(["", "A|B"], [["r$", "$|x|$"], ["s", ""]]),
    Picture("p.png", "A picture"),
    Code("x = 1"),
]


def test_markdown():
    assert _document.markdown(BLOCKS) == (
        "# On *x* & `y_1`\n\n## Part\n\n### Section\n\nCosts 5 % of $a_1$, *not* `b_2`.\n\n"
        "$$\n\\begin{aligned}\na &= b \\\\ c &= d\n\\end{aligned}\n$$\n\n"
        "|  | A\\|B |\n| --- | --- |\n| r\\$ | $\\vert x\\vert $ |\n| s |  |\n\n"
        "![A picture](p.png)\n\n```python\nx = 1\n```\n"
    )


def test_restructured_text():
    assert _document.rst(BLOCKS) == (
        "=================\nOn *x* & ``y_1``\n=================\n\n".replace("=" * 17, "=" * 16)
        + "Part\n----\n\nSection\n~~~~~~~\n\nCosts 5 % of :math:`a_1`, *not* ``b_2``.\n\n"
        ".. math::\n   :label: first\n\n"
        "   \\begin{aligned}\n   a &= b \\\\ c &= d\n   \\end{aligned}\n\n"
        ".. list-table::\n   :header-rows: 1\n\n   * -\n     - A|B\n   * - r$\n     - :math:`|x|`\n"
        "   * - s\n     -\n\n"
        ".. image:: p.png\n   :alt: A picture\n\n.. code-block:: python\n\n   x = 1\n"
    )


def test_latex():
    text = _document.latex(BLOCKS, "\\usepackage{xcolor}")
    assert text.index("\\usepackage{xcolor}") < text.index("\\begin{document}")
    parts = [
        "\\title{On \\emph{x} \\& \\texttt{y\\_1}}\n\\maketitle",
        "\\section{Part}",
        "\\subsection{Section}",
        "Costs 5 \\% of $a_1$, \\emph{not} \\texttt{b\\_2}.",
        "\\begin{align}\\label{eq:first}\na &= b \\\\ c &= d\n\\end{align}",
        "r\\$ & $|x|$ \\\\",
        "\\includegraphics[width=\\linewidth]{p.png}",
        "\\begin{verbatim}\nx = 1\n\\end{verbatim}",
    ]
    assert [part for part in parts if part not in text] == []
    for begin, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}"), (begin, name)


def test_a_picture_of_a_scenario_shows_what_it_changes():
    name = "Rise in interest rates"
    figure = plot.scenario(models.GL06LP, name, ["national_income"])
    (panel,) = figure.axes
    with_it, without = (np.asarray(line.get_ydata()) for line in panel.lines)
    expected = simulate(models.GL06LP, scenario=name).national_income
    np.testing.assert_array_equal(with_it, expected)
    np.testing.assert_array_equal(without, simulate(models.GL06LP).national_income)
    shown = {panel.get_title().split()[-1] for panel in plot.scenario(models.GL06LP, name).axes}
    assert {"national_income", "disposable_income", "household_bill_stock"} <= shown
    assert "consumption_government" not in shown
    bottom = plot.scenario(models.GL06LP, name).axes[3:6]
    assert {panel.get_xlabel() for panel in bottom} == {"period"}
    assert {panel.get_ylabel() for panel in bottom} == {"USD"}


FIRMS = Axis("firm", size=12)


class Params(Record):
    growth: Scalar = param(0.1)


class Scenario(Record):
    pass


class Firms(Record):
    sales: Vector = index("s", "s_{-1} (1 + g)", shape=FIRMS)
    output: Scalar = index("Y", r"\sum s", unit="USD")


def start(params, scenario):
    return Firms(sales=1.0 + jnp.arange(12.0), output=jnp.asarray(78.0))


def step(prior, params, scenario):
    sales = prior.sales * (1 + params.growth)
    return Firms(sales=sales, output=jnp.sum(sales))


def test_a_picture_of_agents_shows_their_median_and_spread():
    boom = {"Boom": {"growth_add": 0.1}}
    model = Model("FIRMS", Params, Scenario, Firms, start, step, scenarios=boom, periods=6)
    figure = plot.scenario(model, "Boom")
    panels = {panel.get_title().split()[-1]: panel for panel in figure.axes}
    assert list(panels) == ["output", "sales"]  # aggregates first
    sales, boomed = simulate(model).sales, simulate(model, scenario="Boom").sales
    for number, path in enumerate((boomed, sales)):
        line, band = panels["sales"].lines[number], panels["sales"].collections[number]
        drawn = np.asarray(line.get_ydata())
        np.testing.assert_allclose(drawn, np.median(path, axis=1), rtol=1e-12)
        edges = np.asarray(band.get_paths()[0].vertices)[:, 1]
        ends = np.quantile(path, [0.1, 0.9])
        assert edges.min() < ends[0] < ends[1] < edges.max()
        assert set(np.quantile(path[-1], [0.1, 0.9])) <= set(edges)
    for panel in panels.values():  # what one looks at is on top
        scenario, default = panel.lines
        assert scenario.get_zorder() > default.get_zorder()


def test_pictures_are_the_same_every_time(tmp_path):
    """As bytes; and as the committed one, where the version of matplotlib is that which drew the guide."""
    written = [tmp_path / "one" / "pictures", tmp_path / "other" / "pictures"]
    for folder in written:
        docs.write_pictures(models.RandomWalk, folder.parent)
    (one,), (other,) = (list(folder.iterdir()) for folder in written)
    assert one.read_bytes() == other.read_bytes()
    committed = matplotlib.image.imread(PAGES / "pictures" / one.name)[..., :3]
    now = matplotlib.image.imread(one)[..., :3]
    assert now.shape == committed.shape, REMAKE
    with Image.open(PAGES.parent / "pictures" / "ten-minutes-path.png") as file:
        if matplotlib.__version__ in file.info["Software"]:
            assert np.mean(np.abs(now - committed) > 0.2) < 0.005, REMAKE
