"""Random models: relaxations of their discrete choices, estimators of the gradients of expectations."""

from ._check import Bias as Bias
from ._check import Check as Check
from ._check import check as check
from ._compare import Comparison as Comparison
from ._compare import compare as compare
from ._estimators import ESTIMATORS as ESTIMATORS
from ._events import Event as Event
from ._events import events as events
from ._gradient import Estimate as Estimate
from ._gradient import gradient as gradient
from ._relaxations import EXACT as EXACT
from ._relaxations import Exact as Exact
from ._relaxations import GumbelSoftmax as GumbelSoftmax
from ._relaxations import StraightThrough as StraightThrough
