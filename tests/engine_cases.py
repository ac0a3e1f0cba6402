"""Programs of one operation each, at the edges of what it is defined for: every engine has JAX's answer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

inf, nan = np.inf, np.nan
EDGES = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 1.5, -2.5, 3.0, 1e300, -1e300, inf, -inf, nan])
WHOLE = np.array([0, 1, -1, 2, 7, -7, 2**62 + 1, -(2**63), 2**63 - 1])
SHORT = np.array([0, 1, -1, 2, 7, -7, -(2**31), 2**31 - 1], np.int32)
BOTH = np.array([True, False])
MIXED = np.array([[3.0, nan, 1.0, 1.0], [-inf, 2.0, -inf, 0.0], [-0.0, 0.0, 5.0, inf]])
TABLE = np.arange(12.0).reshape(3, 4)
OUTSIDE = np.array([0, 3, -1, -3, 2, 7, -9])

UNARY = """
    neg abs exp exp2 expm1 log log1p sqrt rsqrt cbrt square sin cos tan asin acos atan sinh cosh tanh
    logistic erf erfc erf_inv sign floor ceil round is_finite
"""
BINARY = "add sub mul div rem max min pow atan2 eq ne lt le gt ge"
ON_WHOLE = "add sub mul div rem max min eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor"


class Case(NamedTuple):
    function: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]


def _pairs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.meshgrid(values, values)
    return a.ravel(), b.ravel()


def _each() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name in UNARY.split():
        found[name] = Case(getattr(lax, name), (EDGES,))
    found["round to even"] = Case(jnp.round, (EDGES,))
    for name in BINARY.split():
        found[name] = Case(getattr(lax, name), _pairs(EDGES))
    for kind, values in (("int64", WHOLE), ("int32", SHORT)):
        for name in ON_WHOLE.split():
            found[f"{name} {kind}"] = Case(getattr(lax, name), _pairs(values))
        for name in ("neg", "abs", "sign", "square", "bitwise_not"):
            found[f"{name} {kind}"] = Case(getattr(lax, name), (values,))
        found[f"cube {kind}"] = Case(lambda x: lax.integer_pow(x, 3), (values,))
    for power in (2, 3, -1, -2):
        found[f"power {power}"] = Case(functools.partial(lax.integer_pow, y=power), (EDGES,))
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        found[f"{name} bool"] = Case(getattr(lax, name), _pairs(BOTH))
    found["bitwise_not bool"] = Case(lax.bitwise_not, (BOTH,))
    for dtype in (bool, np.int32, np.int64, np.uint8, np.float32):
        name = np.dtype(dtype).name
        beyond = np.append(EDGES, [300.0, -2.9, 2.9, 2.0**31, -(2.0**63)])
        found[f"floats as {name}"] = Case(
            lambda x, d=dtype: lax.convert_element_type(x, d), (beyond,)
        )
        found[f"whole as {name}"] = Case(
            lambda x, d=dtype: lax.convert_element_type(x, d), (WHOLE,)
        )
    low, x, high = (a.ravel() for a in np.meshgrid(*[np.array([-1.0, 0.0, 2.0, inf, nan])] * 3))
    found["clamp"] = Case(lax.clamp, (low, x, high))
    return found | _over_axes() | _positions() | _control() | _kept()


def _over_axes() -> dict[str, Case]:
    empty = np.zeros((2, 0))
    found = {
        "argmin": Case(lambda x: (jnp.argmin(x, 0), jnp.argmin(x, 1), jnp.argmin(x)), (MIXED,)),
        "argmax": Case(lambda x: (jnp.argmax(x, 0), jnp.argmax(x, 1), jnp.argmax(x)), (MIXED,)),
        "argmin int32": Case(lambda x: lax.argmin(x, 0, np.int32), (MIXED,)),
        "sum of no axes": Case(lambda x: lax.reduce_sum(x, ()), (TABLE,)),
        "sum of nothing": Case(lambda x: jnp.sum(x, 1), (empty,)),
        "product of nothing": Case(lambda x: jnp.prod(x, 1), (empty,)),
        "max of nothing": Case(lambda x: jnp.max(x, 1, initial=-inf), (empty,)),
        "min of nothing": Case(lambda x: jnp.min(x, 1, initial=inf), (empty,)),
        "sums that overflow": Case(
            lambda x: (jnp.sum(x, dtype=x.dtype), jnp.cumsum(x, dtype=x.dtype)), (SHORT,)
        ),
        "products that overflow": Case(lambda x: jnp.prod(x[1:], dtype=x.dtype), (SHORT,)),
        "running sums": Case(
            lambda x: (jnp.cumsum(x, 1), lax.cumsum(x, 0, reverse=True)), (TABLE,)
        ),
        "running sums of nothing": Case(lambda x: jnp.cumsum(x, 1), (empty,)),
        "extremes": Case(lambda x: (x.max(0), x.min(1), x.max(), x.max((0, 1))), (MIXED,)),
        "all and any": Case(
            lambda x: (jnp.all(x > 0, 0), jnp.any(x > 0, 1), jnp.any(x > 0)), (MIXED,)
        ),
        "all bits": Case(lambda x: (lax.reduce_and(x, (0,)), lax.reduce_or(x, (0,))), (WHOLE,)),
        "matrix products": Case(lambda x: (x @ x.T, jnp.einsum("ij,ik->ijk", x, x)), (TABLE,)),
        "whole matrix products": Case(lambda x: x[:4, None] @ x[None, 4:], (SHORT,)),
        "empty matrix products": Case(lambda x: x @ x.T, (empty,)),
        "pieces": Case(lambda x: (x[::-2, 1::2], jnp.concatenate([x, x[:, :0]], 1)), (TABLE,)),
        "sections": Case(lambda x: jnp.split(x, [1, 3], axis=1), (TABLE,)),
        "moments": Case(lambda x: (x.mean(0), x.std(1), jnp.var(x, ddof=1)), (TABLE,)),
    }
    return found


def _positions() -> dict[str, Case]:
    found = {}
    for name, array in (
        ("floats", TABLE[0]),
        ("whole", np.arange(4)),
        ("short", np.arange(4, dtype=np.int32)),
        ("bytes", np.arange(4, dtype=np.uint8)),
        ("truth", np.array([True, False, True, True])),
    ):
        for mode in ("fill", "clip"):
            found[f"take {name} {mode}"] = Case(
                lambda x, i, m=mode: jnp.take(x, i, mode=m), (array, OUTSIDE)
            )
    windows = lax.GatherDimensionNumbers((1,), (0,), (0,))
    add = lax.ScatterDimensionNumbers((1,), (), (0,))
    for mode in ("fill", "clip"):
        found[f"windows {mode}"] = Case(
            lambda x, i, m=mode: lax.gather(x, i[:, None], windows, (1, 3), mode=m),
            (TABLE, OUTSIDE),
        )
        found[f"added windows {mode}"] = Case(
            lambda x, i, u, m=mode: lax.scatter_add(x, i[:, None], u, add, mode=m),
            (TABLE[0], OUTSIDE, np.arange(14.0).reshape(7, 2)),
        )
    found |= {
        "fill value": Case(
            lambda x, i: jnp.take(x, i, mode="fill", fill_value=-5.0), (TABLE[0], OUTSIDE)
        ),
        "rows": Case(lambda x, i: x.at[i].get(mode="fill", fill_value=7.0), (TABLE, OUTSIDE)),
        "pairs": Case(lambda x, i: x.at[i, i].get(mode="clip"), (TABLE, OUTSIDE)),
        "counted from the end": Case(lambda x, i: x[i], (TABLE[0], np.array([-1, -4, 3]))),
        "add at": Case(lambda x, i: x.at[i].add(1.0), (TABLE[0], OUTSIDE)),
        "add at clipped": Case(lambda x, i: x.at[i].add(1.0, mode="clip"), (TABLE[0], OUTSIDE)),
        "add whole at": Case(lambda x, i: x.at[i].add(1), (np.arange(4), OUTSIDE)),
        "add rows at": Case(lambda x, i: x.at[i].add(x[0]), (TABLE, OUTSIDE)),
        "window": Case(lambda x, i: lax.dynamic_slice(x, (i[1], i[6]), (2, 2)), (TABLE, OUTSIDE)),
        "window before": Case(
            lambda x, i: lax.dynamic_slice(x, (i[6],), (2,)), (TABLE[0], OUTSIDE)
        ),
        "row": Case(lambda x, i: lax.dynamic_index_in_dim(x, i[5], 0), (TABLE, OUTSIDE)),
        "along axis": Case(
            lambda x: jnp.take_along_axis(x, jnp.argmin(x, 1, keepdims=True), 1), (TABLE,)
        ),
    }
    return found


@jax.custom_jvp
def straight_through(x: Any) -> Any:
    return jnp.round(x)


@straight_through.defjvp
def _(x: Any, dots: Any) -> Any:
    return straight_through(*x), 3 * dots[0]


@jax.custom_vjp
def backwards(x: Any) -> Any:
    return x * x


backwards.defvjp(lambda x: (x * x, x), lambda x, g: (7 * g,))


def _control() -> dict[str, Case]:
    def doubled(x: Any) -> Any:
        return lax.while_loop(lambda c: c[0] < 10, lambda c: (c[0] * 2, c[1] + 1), (x, 0))

    def branch(x: Any) -> Any:
        return lax.cond(x > 1, lambda: x * TABLE[1, 2], lambda: -x)

    branches = [lambda x, k=k: x + k for k in range(3)]
    table = [jnp.asarray(float(k)) for k in range(70)]
    positive = np.array([0.3, 2.0, 40.0])
    return {
        "while": Case(lambda x: doubled(x[0]), (positive,)),
        "while in a batch": Case(jax.vmap(doubled), (positive,)),
        "cond": Case(lambda x: (branch(x[0]), branch(x[1])), (positive,)),
        "cond in a batch": Case(jax.vmap(branch), (positive,)),
        "switch": Case(
            lambda i, x: [lax.switch(i[k], branches, x) for k in (0, 1, 2, 6)], (OUTSIDE, positive)
        ),
        "switch in a batch": Case(
            lambda i, x: jax.vmap(lambda k: lax.switch(k, branches, x))(i), (OUTSIDE, positive)
        ),
        "many cases": Case(
            lambda i: jax.vmap(lambda k: lax.select_n(k, *table))(i),
            (np.array([0, 69, 33], np.int32),),
        ),
        "three cases": Case(
            lambda i, x: lax.select_n(i, x, 2 * x, 3 * x), (np.array([2, 0, 1], np.int32), positive)
        ),
        "two cases": Case(lambda x: lax.select_n(x[0] > 1, x, 2 * x), (positive,)),
        "scan": Case(
            lambda x: lax.scan(lambda c, r: (c * r, c + r), 1.0, x, reverse=True), (positive,)
        ),
        "scan of nothing": Case(
            lambda x: lax.scan(lambda c, r: (c * r, (c, r > c)), 1.0, x), (positive[:0],)
        ),
        "scan without a path": Case(
            lambda x: lax.scan(lambda c, _: (c * 2, None), x, None, length=3), (positive,)
        ),
        "loop": Case(lambda x: lax.fori_loop(0, 3, lambda i, c: c * x + i, x), (positive,)),
        "custom_jvp": Case(straight_through, (positive,)),
        "custom_vjp": Case(backwards, (positive,)),
        "checkpoint": Case(jax.checkpoint(lambda x: jnp.sin(x) * x), (positive,)),
        "linear solve": Case(lambda x: jnp.linalg.solve(jnp.diag(x) + 0.3, x), (positive,)),
    }


def _kept() -> dict[str, Case]:
    """Numbers stay of their kind: a number of the program's own does not widen what it meets."""
    single = np.array([0.5, 2.0], np.float32)
    return {
        "single precision": Case(
            lambda x: (x * 2 + 0.1, jnp.sum(x) * 0.1, jnp.where(x > 1, x, 0)), (single,)
        ),
        "single numbers": Case(
            lambda x: (x[0] * 0.1, lax.scan(lambda c, r: (c * r + 0.1, c), x[0], x)), (single,)
        ),
        "short numbers": Case(
            lambda x: (x * 2 + 1, x // 4, x % 4, jnp.where(x > 1, x, 0)), (SHORT,)
        ),
        "whole quotients": Case(lambda x: (x // 4, x % 4, x // -3), (WHOLE,)),
        "drawn once": Case(
            lambda x: x * jax.random.normal(jax.random.key(0), (2,)), (np.array([0.5, 2.0]),)
        ),
    }


CASES = _each()


def answers(case: Case) -> tuple[Any, list[np.ndarray]]:
    """The program, and what JAX makes of it."""
    program = jax.make_jaxpr(case.function)(*case.arrays)
    return program, [
        np.asarray(one) for one in jax.tree.leaves(jax.jit(case.function)(*case.arrays))
    ]


OF_EITHER_SIGN = {"max", "min", "extremes", "erf_inv"}
"""Operations whose zeros may have either sign."""


def same(found: Any, right: np.ndarray, signs: bool = True, rtol: float = 4e-15) -> None:
    """Kind, shape and value, undefined ones too; of zeros the sign."""
    found = np.asarray(found)
    assert (found.dtype, found.shape) == (right.dtype, right.shape)
    if right.dtype.kind != "f":
        np.testing.assert_array_equal(found, right)
        return
    rtol = max(rtol, 4 * float(np.finfo(right.dtype).eps))
    np.testing.assert_allclose(found, right, rtol=rtol, atol=0)
    zero = (right == 0) & signs
    np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(right[zero]))
