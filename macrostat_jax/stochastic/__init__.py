"""Random models: relaxations of their discrete choices, estimators of the gradients of expectations."""

from ._relaxations import EXACT as EXACT
from ._relaxations import Exact as Exact
from ._relaxations import GumbelSoftmax as GumbelSoftmax
from ._relaxations import StraightThrough as StraightThrough
