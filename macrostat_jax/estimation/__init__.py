"""Fitting parameters to data, and how well the data identify them."""

from ._identifiability import Identifiability as Identifiability
from ._identifiability import identifiability as identifiability
from ._levenberg_marquardt import Iteration as Iteration
from ._levenberg_marquardt import LeastSquares as LeastSquares
from ._levenberg_marquardt import levenberg_marquardt as levenberg_marquardt
from ._multistart import multi_start as multi_start
from ._region import LinearConstraint as LinearConstraint
from ._region import Region as Region
from ._starts import Basin as Basin
from ._starts import MultiStart as MultiStart
