"""Derivatives of models: Jacobians, products, Hessians, finite differences, and checks of them."""

from ._check import Check as Check
from ._check import check as check
from ._derivatives import gradient as gradient
from ._derivatives import hessian as hessian
from ._derivatives import jacobian as jacobian
from ._derivatives import jvp as jvp
from ._derivatives import vjp as vjp
from ._finite import finite_differences as finite_differences
from ._labelled import Jacobian as Jacobian
from ._long_run import LongRun as LongRun
from ._long_run import long_run as long_run
from ._operators import Operator as Operator
from ._operators import gauss_newton_operator as gauss_newton_operator
from ._operators import hessian_operator as hessian_operator
from ._operators import linear_operator as linear_operator
from ._sparsity import Sparsity as Sparsity
from ._sparsity import step_sparsity as step_sparsity
from ._stability import Stability as Stability
from ._stability import stability as stability
from ._structured import ImpulseResponses as ImpulseResponses
from ._structured import impulse_responses as impulse_responses
from ._structured import sequence_space_jacobian as sequence_space_jacobian
from ._structured import step_jacobian as step_jacobian
from ._taylor import Taylor as Taylor
from ._taylor import taylor as taylor
