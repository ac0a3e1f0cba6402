"""Descriptions of models: of the library's, from their declaration, of a user's, from docstrings."""

from __future__ import annotations

import inspect

import pytest
from core_cases import ToyBehavior

from macrostat.core import Behavior
from macrostat.models import get_model
from macrostat.util import generate_docs
from macrostat_jax import models


class Documented(Behavior):
    def initialize(self):
        """At first there is nothing: 100 % of x_0.

        Equations
        ---------
        .. math::
            :nowrap:

            \\begin{align}
            C(0) &= 0 \\\\
            M(0) &= 0
            \\end{align}
        """

    def step(self, t, scenario, params):
        """A period."""
        self.money()
        self.consumption_demand(params)
        self.money()

    def money(self):
        """Money is kept, at the rate :math:`r`.

        Equations
        ---------
        .. math::
            M = M_{-1}

        Sets
        ----
        - M
        """

    def consumption_demand(self, params):
        """Out of ``M``.

        Equations
        ---------
        .. math::
            C = \\alpha M
        """


class Inherited(Documented):
    def money(self):
        """Money grows."""
        super().money()


def test_latex_of_a_users_behavior():
    text = generate_docs(Documented, title="Mine", preamble="\\usepackage{xcolor}\n")
    parts = [
        "\\usepackage{xcolor}\n\\begin{document}\n\\title{Mine}\n\\maketitle\n",
        "\\section{Initialization Equations}\n\nAt first there is nothing: 100 \\% of x\\_0.\n",
        "\\begin{align}\\label{eq:initialize}\nC(0) &= 0 \\\\\nM(0) &= 0\n\\end{align}\n",
        "\\section{Step Equations}\n\nA period.\n",
        "\\subsection{Money}\n\nMoney is kept, at the rate $r$.\n",
        "\\begin{align}\\label{eq:money}\nM = M_{-1}\n\\end{align}\n",
        "\\subsection{Consumption Demand}\n\nOut of \\texttt{M}.\n",
        "\\end{document}\n",
    ]
    places = [text.find(part) for part in parts]
    assert -1 not in places and places == sorted(places)
    assert text.count("\\label{eq:money}") == 1
    assert "Sets" not in text and "nowrap" not in text
    assert "\\subsection" not in generate_docs(Documented, subsec=False)
    assert "\\title" not in generate_docs(Documented)


def test_rst_and_markdown_of_a_users_behavior():
    rst = generate_docs(Documented, docstyle="RST", title="Mine")
    assert rst.startswith("====\nMine\n====\n")
    assert ".. math::\n   :label: money\n\n   \\begin{aligned}\n   M = M_{-1}\n" in rst
    text = generate_docs(Documented, docstyle="markdown")
    assert "### Consumption Demand\n\nOut of `M`.\n\n$$\nC = \\alpha M\n$$\n" in text


def test_what_a_method_inherits_is_part_of_it():
    text = generate_docs(Inherited, docstyle="markdown")
    assert text.index("Money grows.") < text.index("Money is kept") < text.index("Out of `M`")


def test_a_behavior_without_docstrings():
    text = generate_docs(ToyBehavior, docstyle="markdown")
    assert text == "## Initialization Equations\n\n## Step Equations\n"


@pytest.mark.parametrize("style", ["latex", "rst", "markdown"])
def test_a_library_model(style):
    behavior = get_model("GL06SIM")().behavior
    text = generate_docs(behavior, docstyle=style)
    for field in models.GL06SIM.State.fields.values():
        assert field.equation in text
    for title in ("Parameters", "Exogenous series", "Balance sheet", "Transaction matrix"):
        assert title in text
    assert "TaxRate" in text and "tax_rate" not in text
    assert "GL06SIM: the simplest model" in text
    assert "Mine" in generate_docs(behavior, docstyle=style, title="Mine")


def test_equations_of_a_library_model_have_headings_if_asked_for():
    behavior = get_model("GL06SIM")().behavior
    assert "\\subsection{Consumption demand (3.7)}\n\n\\begin{align}" in generate_docs(behavior)
    assert "\\label{eq:consumption_demand}" not in generate_docs(behavior, subsec=False)


def test_files(tmp_path):
    path = tmp_path / "sim.tex"
    behavior = get_model("LINEAR2D")().behavior
    assert generate_docs(behavior, str(path)) == path.read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["sim.tex"]
    text = generate_docs(behavior, tmp_path / "page.md", "markdown")
    assert "](pictures/LINEAR2D-default.png)" in text
    assert (tmp_path / "pictures" / "LINEAR2D-default.png").is_file()
    assert "](pictures" not in generate_docs(behavior, docstyle="markdown")


def test_a_library_behavior_that_is_overridden_is_described_by_its_docstrings():
    class Changed(get_model("GL06SIM")().behavior):
        def step(self, t, scenario, params=None, **kwargs):
            """Something else."""

    text = generate_docs(Changed, docstyle="markdown")
    assert "Something else." in text and "Balance sheet" not in text


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"Incorrect docstyle supplied. Accepted: \[latex, rst"):
        generate_docs(Documented, docstyle="html")
    with pytest.raises(TypeError, match="must be a class of behaviors"):
        generate_docs(get_model("GL06SIM"))  # type: ignore[arg-type]


def test_the_signature_is_the_published_one():
    parameters = inspect.signature(generate_docs).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "behavior_class": inspect.Parameter.empty,
        "output_file": None,
        "docstyle": "latex",
        "title": None,
        "subsec": True,
        "preamble": None,
    }
