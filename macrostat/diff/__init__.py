"""Jacobians of torch losses of a model's outputs, and checks of how far they can be trusted."""

from .checker import DifferentiabilityReport as DifferentiabilityReport
from .checker import check_model_differentiability as check_model_differentiability
from .comparison import JacobianComparisonReport as JacobianComparisonReport
from .comparison import ParameterComparison as ParameterComparison
from .comparison import compare_jacobian_dicts as compare_jacobian_dicts
from .diagnosis import diagnose as diagnose
from .jacobian_autograd import JacobianAutograd as JacobianAutograd
from .jacobian_base import JacobianBase as JacobianBase
from .jacobian_numerical import JacobianNumerical as JacobianNumerical
from .structure import sequence_space_jacobian as sequence_space_jacobian
