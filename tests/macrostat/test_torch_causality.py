"""Causal graphs of library models and of a user's own."""

from __future__ import annotations

import builtins
import inspect
import sys
import types

import matplotlib as mpl
import pytest
from core_cases import Toy

from macrostat.causality import (
    CausalityAnalyzer,
    CodeCausalityAnalyzer,
    DocstringCausalityAnalyzer,
    _interactive,
)
from macrostat.core import Behavior, Model
from macrostat.models import get_available_models, get_model, get_model_classes
from macrostat_jax import models
from macrostat_jax.causality import dependencies

GL06PC = get_model("GL06PC")
BehaviorGL06PC = get_model_classes("GL06PC").Behavior


@pytest.fixture
def without_window():
    """Figures that no screen is needed for, closed after the test."""
    import matplotlib.pyplot as plt

    before = mpl.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def sources(matrix, target):
    """The nodes that go into a variable."""
    column = matrix["state", target]
    return set(column.index[column.to_numpy() != 0])


# Library models


@pytest.mark.parametrize("name", get_available_models())
def test_the_graph_leads_to_what_the_trace_uses(name):
    definition = models.get(name)
    matrix = CodeCausalityAnalyzer(get_model(name)).analyze()
    records = {
        "params": definition.Params,
        "scenario": definition.Scenario,
        "prior": definition.State,
    }
    kinds = {"params": "parameters"}
    for key, inputs in dependencies(definition).items():
        expected = set()
        for source in inputs:
            kind, _, field = source.partition(".")
            named = records[kind].fields[field].name if kind in records else field or kind
            expected.add((kinds.get(kind, kind), named))
        assert ends(matrix, definition.State.fields[key].name) == expected


def ends(matrix, target):
    found, seen, waiting = set(), {target}, [target]
    while waiting:
        for kind, name in sources(matrix, waiting.pop()):
            if kind != "state":
                found.add((kind, name))
            elif name not in seen:
                seen.add(name)
                waiting.append(name)
    return found


def test_the_code_of_sim():
    analyzer = CodeCausalityAnalyzer(get_model("GL06SIM"))
    assert analyzer.adjacency_matrix is None
    matrix = analyzer.analyze()
    assert matrix is analyzer.adjacency_matrix
    assert matrix.index.names == ["source_type", "source_name"]
    assert matrix.columns.names == ["target_type", "target_name"]
    assert set(matrix.to_numpy().flat) == {0.0, 1.0}
    assert sources(matrix, "TaxDemand") == {("parameters", "TaxRate"), ("state", "LabourEarnings")}
    assert matrix.loc["prior", "state"].to_numpy().sum() > 0
    assert matrix.loc["state", "prior"].to_numpy().sum() == 0  # nothing determines the past
    edges = analyzer.edge_list()
    assert len(edges) == matrix.to_numpy().sum()
    assert list(edges) == [
        "source_type",
        "source_name",
        "target_type",
        "target_name",
        "weight",
        "source",
        "target",
    ]
    assert ("parameters:TaxRate", "state:TaxDemand") in set(
        zip(edges["source"], edges["target"], strict=True)
    )


def test_the_equations_of_sim_are_simultaneous():
    pytest.importorskip("networkx")
    assert CodeCausalityAnalyzer(get_model("GL06SIM")).check_for_cycles() == []
    shortest, *_ = DocstringCausalityAnalyzer(get_model("GL06SIM")).check_for_cycles()
    assert shortest[0] == "state:ConsumptionDemand" and "state:NationalIncome" in shortest


# A user's own


class Documented(Behavior):
    """What a user's own behavior looks like."""

    def initialize(self):
        self.nothing()

    def step(self, t, scenario, params):
        self.income(scenario, params)
        self.consumption(params)

    def income(self, scenario, params):
        """Income.

        Dependency
        ----------
        - scenario: G
        - params: a,
          b
        - Consumption

        Sets
        -----
        - Income
        """
        self.tax(params)

    def consumption(self, params):
        """Consumption out of wealth.

        Sets
        ----
        - Consumption

        Dependency
        ----------
        - prior: Wealth
        - state: Income
        - hyper: sigmoid_constant
        """

    def tax(self, params):
        """No sections: a helper."""

    def nothing(self):
        """Not part of a period.

        Dependency
        ----------
        - state: Nothing

        Sets
        ----
        - Everything
        """


class DocumentedModel(Model):
    def __init__(self, parameters=None, behavior: type[Behavior] = Documented, **kwargs):
        super().__init__(parameters=parameters, behavior=behavior, **kwargs)


def test_docstrings_of_a_users_model():
    pytest.importorskip("networkx")
    analyzer = DocstringCausalityAnalyzer(DocumentedModel)
    matrix = analyzer.analyze()
    assert sources(matrix, "Income") == {
        ("scenario", "G"),
        ("parameters", "a"),
        ("parameters", "b"),
        ("state", "Consumption"),
    }
    assert sources(matrix, "Consumption") == {
        ("prior", "Wealth"),
        ("state", "Income"),
        ("hyper", "sigmoid_constant"),
    }
    assert "Everything" not in matrix["state"]
    assert analyzer.check_for_cycles() == [["state:Consumption", "state:Income"]]


class Silent(Documented):
    def step(self, t, scenario, params):
        self.tax(params)


class Half(Documented):
    def step(self, t, scenario, params):
        """Half a docstring.

        Dependency
        ----------
        - state: Income
        """


def using(behavior, base: type[Model] = DocumentedModel):
    class Using(base):
        def __init__(self):
            super().__init__(behavior=behavior)

    return Using


def test_docstrings_that_say_too_little():
    with pytest.raises(ValueError, match=r"No docstring of Silent\.step.*Dependency and Sets"):
        DocstringCausalityAnalyzer(using(Silent)).analyze()
    with pytest.raises(ValueError, match=r"Half\.step has the section Dependency but not Sets"):
        DocstringCausalityAnalyzer(using(Half)).analyze()


def test_source_that_cannot_be_read():
    namespace = {"Documented": Documented}
    exec("class Typed(Documented):\n    def step(self, t, scenario, params): ...", namespace)
    with pytest.raises(ValueError, match=r"The source of Typed\.step cannot be read"):
        DocstringCausalityAnalyzer(using(namespace["Typed"])).analyze()


class Extended(BehaviorGL06PC):
    def step(self, t, scenario, params=None, **kwargs):
        """Taxes on wealth, too.

        Dependency
        ----------
        - prior: Wealth

        Sets
        ----
        - Taxes
        """
        super().step(t=t, scenario=scenario, params=params)


def test_a_library_period_with_something_more():
    library = DocstringCausalityAnalyzer(GL06PC).analyze()
    extended = DocstringCausalityAnalyzer(using(Extended, GL06PC)).analyze()
    assert sources(extended, "Taxes") == {*sources(library, "Taxes"), ("prior", "Wealth")}
    assert sources(extended, "NationalIncome") == sources(library, "NationalIncome")


def test_torch_code_is_not_traced():
    for model in (Toy, using(Extended, GL06PC)):
        with pytest.raises(TypeError, match="DocstringCausalityAnalyzer, or declare"):
            CodeCausalityAnalyzer(model).analyze()


# What all analyzers do


class Own(CausalityAnalyzer):
    def build_adjacency_matrix(self):
        return CodeCausalityAnalyzer(self.model_class).analyze()


def test_the_base_leaves_the_matrix_to_subclasses():
    with pytest.raises(NotImplementedError, match="Subclasses must implement this method"):
        CausalityAnalyzer(GL06PC).analyze()
    assert len(Own(GL06PC).edge_list()) > 30


@pytest.mark.parametrize("wrong", ["GL06PC", BehaviorGL06PC, None])
def test_what_is_no_class_of_models(wrong):
    with pytest.raises(TypeError, match=r"class of models, such as get_model\('GL06SIM'\)"):
        CodeCausalityAnalyzer(wrong)
    with pytest.raises(TypeError, match="without a call behind it"):
        CodeCausalityAnalyzer(GL06PC())  # type: ignore[arg-type]


def test_the_heat_map_shows_the_matrix(without_window):
    analyzer = CodeCausalityAnalyzer(get_model("GL06SIM"))
    figure, axes = analyzer.plot_heatmap()
    assert axes.figure is figure
    (image,) = axes.images
    shown = image.get_array()
    assert shown is not None and shown.sum() == analyzer.analyze().to_numpy().sum()
    rows = [label.get_text() for label in axes.get_yticklabels()]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert shown[rows.index("parameters: TaxRate"), columns.index("state\nTaxDemand")] == 1
    assert "state\nTaxRate" not in columns and "state: HouseholdMoneyStock" not in rows


def test_the_graph_is_drawn():
    (axes,) = CodeCausalityAnalyzer(get_model("GL06SIM")).plot_graph().axes
    assert "TaxRate" in {text.get_text() for text in axes.texts}


# The interactive graph


def test_signatures_are_the_published_ones():
    parameters = inspect.signature(CausalityAnalyzer.plot_with_cytoscape).parameters
    assert list(parameters) == ["self", "port", "node_styles"]
    assert parameters["port"].default == 8050
    assert set(parameters["node_styles"].default) == {
        "state",
        "parameters",
        "hyper",
        "scenario",
        "prior",
        "history",
    }


def test_the_interactive_graph_says_what_it_needs(monkeypatch):
    importing = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("dash"):
            raise ImportError(f"No module named {name!r}")
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match="pip install dash dash-cytoscape"):
        CodeCausalityAnalyzer(GL06PC).plot_with_cytoscape()


def test_the_interactive_graph_is_served(monkeypatch):
    ran = {}

    class Dash:
        def __init__(self, name):
            self.layout = None

        def run(self, port):
            ran.update(port=port, layout=self.layout)

    html = types.SimpleNamespace(Div=lambda children: children, H3=lambda text: text)
    dash = types.ModuleType("dash")
    vars(dash).update(Dash=Dash, html=html)
    cytoscape = types.ModuleType("dash_cytoscape")
    vars(cytoscape).update(Cytoscape=lambda **given: given)
    monkeypatch.setitem(sys.modules, "dash", dash)
    monkeypatch.setitem(sys.modules, "dash_cytoscape", cytoscape)
    styles = {"state": {"background-color": "red"}}
    analyzer = CodeCausalityAnalyzer(GL06PC)
    analyzer.plot_with_cytoscape(port=1234, node_styles=styles)
    title, graph = ran["layout"]
    assert (ran["port"], title) == (1234, "GL06PC")
    assert {"selector": ".state", "style": styles["state"]} in graph["stylesheet"]
    elements = graph["elements"]
    assert elements == _interactive.elements(analyzer.analyze())
    ids = {element["data"]["id"] for element in elements if "id" in element["data"]}
    links = [element["data"] for element in elements if "source" in element["data"]]
    assert len(links) == len(analyzer.edge_list())
    assert {end for link in links for end in link.values()} <= ids
