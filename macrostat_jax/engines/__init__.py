"""One definition, other engines: models run by NumPy, by dual numbers, by symbols, and by torch.

    from macrostat_jax import engines, models
    engines.simulate(models.GL06SIM, engine="numpy")
    engines.jacobian(models.GL06SIM, engine="dual")

JAX traces a model to a list of some forty kinds of primitive operations; each engine carries them out
by itself. They are slow, and there to be compared with: the same path and the same derivative by
unrelated means. The engine for torch is `bridge.Torch`, since nothing here imports torch.
"""

from ._dual import Dual as Dual
from ._dual import Number as Number
from ._evaluate import Engine as Engine
from ._formulas import Formulas as Formulas
from ._formulas import symbolic as symbolic
from ._numpy import NumPy as NumPy
from ._run import jacobian as jacobian
from ._run import simulate as simulate
from ._run import traced as traced
from ._structure import UnsupportedOperation as UnsupportedOperation
from ._sympy import SymPy as SymPy
