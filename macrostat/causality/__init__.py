"""The causal graph of a model: which variables and parameters determine which variables.

from macrostat.causality import CodeCausalityAnalyzer

analyzer = CodeCausalityAnalyzer(get_model("GL06SIM"))
matrix = analyzer.analyze()
"""

from .causality_analyzer import CausalityAnalyzer as CausalityAnalyzer
from .code_causality_analyzer import CodeCausalityAnalyzer as CodeCausalityAnalyzer
from .docstring_causality_analyzer import DocstringCausalityAnalyzer as DocstringCausalityAnalyzer
