"""Fitting parameters to data, and how well the data identify them."""

from ._data import read_data as read_data
from ._identifiability import Identifiability as Identifiability
from ._identifiability import identifiability as identifiability
from ._levenberg_marquardt import Iteration as Iteration
from ._levenberg_marquardt import LeastSquares as LeastSquares
from ._levenberg_marquardt import levenberg_marquardt as levenberg_marquardt
from ._multistart import multi_start as multi_start
from ._observed import Moments as Moments
from ._observed import Observed as Observed
from ._priors import Beta as Beta
from ._priors import Exponential as Exponential
from ._priors import Gamma as Gamma
from ._priors import HalfNormal as HalfNormal
from ._priors import InverseGamma as InverseGamma
from ._priors import LogNormal as LogNormal
from ._priors import Normal as Normal
from ._priors import Prior as Prior
from ._priors import Uniform as Uniform
from ._problem import Problem as Problem
from ._region import LinearConstraint as LinearConstraint
from ._region import Region as Region
from ._starts import Basin as Basin
from ._starts import MultiStart as MultiStart
