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
