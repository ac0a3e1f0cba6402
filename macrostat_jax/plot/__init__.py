"""Pictures of paths, derivatives and dynamics, as matplotlib figures.

Every function returns a `matplotlib.figure.Figure` that no window or global state knows of: show it in a
notebook, or `figure.savefig("picture.png")`. The colours can be told apart by the colour-blind.
"""

from ._derivatives import heatmap as heatmap
from ._derivatives import impulse_response as impulse_response
from ._derivatives import tornado as tornado
from ._dynamics import eigenvalues as eigenvalues
from ._dynamics import sparsity as sparsity
from ._dynamics import step_ladder as step_ladder
from ._fit import fit as fit
from ._fit import profile as profile
from ._paths import paths as paths
from ._paths import scenario as scenario
from ._sensitivity import elasticities as elasticities
from ._sensitivity import screening as screening
from ._sensitivity import sobol_indices as sobol_indices
