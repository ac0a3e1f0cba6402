"""Every operation of the NumPy engine and of dual numbers at its edges, against JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engine_cases import CASES, OF_EITHER_SIGN, answers, same
from jax import lax

from macrostat_jax import engines


@pytest.mark.parametrize("name", CASES)
def test_numpy_has_the_answers_of_jax(name):
    case = CASES[name]
    program, right = answers(case)
    found = engines.NumPy().run(program, *case.arrays)
    assert len(found) == len(right)
    for one, expected in zip(found, right, strict=True):
        same(one, expected, signs=name not in OF_EITHER_SIGN)


A, B = (
    x.ravel() for x in np.meshgrid([0.0, 1.0, -1.0, 2.0, 0.5, -2.5], [0.0, 1.0, -1.0, 2.0, 0.5])
)
TIES = np.array([[1.0, 1.0, 0.5], [2.0, -1.0, 2.0], [0.0, -0.0, 0.0]])

ANYWHERE = (
    "abs cbrt square sign floor ceil round tanh logistic erf erfc sin atan expm1 exp2 cosh neg"
)
NOT_BELOW_0 = "sqrt log log1p rsqrt"
OF_TWO = "add sub mul div rem max min atan2"
SLOPES = {
    **{
        name: (getattr(lax, name), (np.array([0.0, 1.0, -1.0, 0.5, -2.5]),))
        for name in ANYWHERE.split()
    },
    **{name: (getattr(lax, name), (np.array([0.0, 1.0, 0.25]),)) for name in NOT_BELOW_0.split()},
    **{name: (getattr(lax, name), (A, B)) for name in OF_TWO.split()},
    # Not at 0 ** 0, where the derivative by the base is 0, and JAX says NaN.
    "pow": (lax.pow, (np.abs(A[1:]), np.abs(B[1:]))),
    "whole powers": (lambda a: jnp.stack([a**n for n in (0, 1, 2, 3)]), (A,)),
    "clamp": (lax.clamp, (A, B, A[::-1])),
    "extremes": (lambda x: (x.max(0), x.min(1), x.max(), jnp.prod(x, 1)), (TIES,)),
    "scan of nothing": (
        lambda x: lax.scan(lambda c, r: (c * r, c * c), x[0, 0], x[:0, 0]),
        (TIES,),
    ),
}


@pytest.mark.parametrize("name", SLOPES)
def test_dual_numbers_at_kinks_and_ties(name):
    function, arrays = SLOPES[name]
    program = jax.make_jaxpr(function)(*arrays)
    dots = [np.cos(1 + np.arange(x.size)).reshape(x.shape) for x in arrays]
    value, right = jax.jvp(function, arrays, tuple(dots))
    pairs = [engines.Number(x, dot) for x, dot in zip(arrays, dots, strict=True)]
    found = engines.Dual().run(program, *pairs)
    leaves = zip(found, jax.tree.leaves(value), jax.tree.leaves(right), strict=True)
    for one, expected, slope in leaves:
        np.testing.assert_allclose(one.value, expected, rtol=1e-14, atol=0)
        dot = np.zeros(one.shape) if one.dot is None else one.dot
        np.testing.assert_allclose(dot, slope, rtol=1e-13, atol=1e-15)
