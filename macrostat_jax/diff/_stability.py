"""Local stability: the eigenvalues of the step's Jacobian at a steady state, and what moves them.

A small disturbance x(t) - x* follows A = df/dx at x*. Along a right eigenvector v it is multiplied by the
eigenvalue λ in every period, and the left eigenvector w says how much of a disturbance is of that kind.
A simple eigenvalue moves with a parameter by dλ = w'(dA)v / w'v, where dA holds the direct effect on the
Jacobian and the one through the steady state (Magnus, 1985, Econometric Theory 1: 179-191).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .._model import Model
from .._rest import Rest, independent_combinations, rest
from ._long_run import implicit, input_labels, steady_inputs, values_of
from ._target import Wrt

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Part = Literal["real", "imag", "modulus", "half_life", "cycle"]
SHOWN = 12
"""How many eigenvalues a printed table has room for."""


class Modes(NamedTuple):
    """Eigenvalues of A (n,), the largest first, of each pair the one above the real axis first; their
    eigenvectors as columns, with w'v = 1; error estimates; kinds; and groups of equal ones."""

    values: np.ndarray
    right: np.ndarray
    left: np.ndarray
    errors: np.ndarray
    kinds: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    radius: float


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Stability:
    """The eigenvalues of a model at rest, labelled. Made by `stability`; print it for a table.

    Attributes:
        model: the model.
        eigenvalues: (n,) complex, the largest modulus first.
        errors: (n,), how far rounding may have moved each.
        kinds: `"simple"`; `"conserved"` (a unit eigenvalue of something that the step conserves);
            `"zero"` (gone within as many periods as there are of these); `"repeated"` (equal ones with
            eigenvectors of their own); `"defective"` (equal ones that lack eigenvectors, to rounding).
        slopes: (n, C) complex, derivatives of the eigenvalues by the inputs, along the steady state. Of
            repeated and defective ones the derivative of their mean: one by one they have none. NaN for
            those that are zero, and for inputs without a steady state beside this one.
        participation: (n, V), the share of each variable in each mode, |w v| scaled to sum 1.
        jacobian: (V, V), the derivative of each variable by each variable a period before.
        variables, columns: the labels of V variables and C inputs.
        at: the values of the inputs, (C,).
        state: the steady state.
        spectral_radius: the largest modulus but for conserved ones.
        conserved: what the step conserves, in words.
    """

    model: Model
    eigenvalues: Any
    errors: np.ndarray
    kinds: tuple[str, ...]
    slopes: Any
    participation: np.ndarray
    jacobian: np.ndarray
    variables: tuple[str, ...]
    columns: tuple[str, ...]
    at: np.ndarray
    state: Any
    spectral_radius: float
    conserved: tuple[str, ...]

    @property
    def moduli(self) -> np.ndarray:
        """(n,)"""
        return np.abs(self.eigenvalues)

    @property
    def half_lives(self) -> np.ndarray:
        """Periods until a disturbance has halved, (n,): ln(1/2) / ln |λ|; infinite from |λ| = 1 on."""
        with np.errstate(divide="ignore"):
            found = np.log(0.5) / np.log(self.moduli)
        return np.where(self.moduli < 1, found, np.inf)

    @property
    def cycles(self) -> np.ndarray:
        """Periods of a whole cycle, (n,): 2π / |arg λ|; infinite for positive real ones, 2 for negative."""
        with np.errstate(divide="ignore"):
            return 2 * np.pi / np.abs(np.angle(self.eigenvalues))

    @property
    def stable(self) -> bool:
        """Does the economy return to this steady state after a small disturbance?"""
        return self.spectral_radius < 1

    @property
    def verdict(self) -> str:
        """A sentence."""
        radius, outside = self.spectral_radius, self._outside()
        trend = any(
            kind == "defective" and abs(value - 1) < 1e-4
            for kind, value in zip(self.kinds, self.eigenvalues, strict=True)
        )
        if trend:
            return (
                "NOT STABLE: the unit eigenvalue is defective: a disturbance of what should be conserved "
                "grows by a constant amount per period, a trend."
            )
        if outside:
            return (
                f"UNSTABLE: {outside} of {len(self.kinds)} eigenvalues outside the unit circle; spectral "
                f"radius {radius:.6g}, a disturbance doubles in {np.log(2) / np.log(radius):.3g} periods."
            )
        if not radius < 1:
            return (
                f"UNDECIDED: spectral radius {radius:.6g}, on the unit circle: slopes do not tell."
            )
        half = np.log(0.5) / np.log(radius) if radius > 0 else 0.0
        return f"Stable: spectral radius {radius:.6g}, half-life {half:.3g} periods."

    def _outside(self) -> int:
        beyond = self.moduli > 1 + np.minimum(self.errors, 1e-4)
        return int(sum(b and k != "conserved" for b, k in zip(beyond, self.kinds, strict=True)))

    def sensitivity(self, of: Part = "modulus") -> pd.DataFrame:
        """How the eigenvalues move with the inputs: rows the eigenvalues that are not zero, columns the
        inputs.

        Args:
            of: `"modulus"`, `"real"` or `"imag"` per unit of the input; `"half_life"` or `"cycle"` in
                periods per unit.

        Raises:
            ValueError: of something else.
        """
        import pandas as pd

        value, slope = self.eigenvalues[:, None], self.slopes
        with np.errstate(divide="ignore", invalid="ignore"):
            growth = slope / value  # d ln λ
            size, angle = np.abs(value), np.angle(value)
            parts = {
                "real": slope.real,
                "imag": slope.imag,
                "modulus": size * growth.real,
                "half_life": np.log(2) / np.log(size) ** 2 * growth.real,
                "cycle": -2 * np.pi / (angle * np.abs(angle)) * growth.imag,
            }
        if of not in parts:
            raise ValueError(f"There is no sensitivity of {of!r}, but of {', '.join(parts)}.")
        frame: Any = pd.DataFrame(parts[of], self._names(), list(self.columns))
        frame = frame[np.array(self.kinds) != "zero"]
        return frame.rename_axis(index="eigenvalue", columns="input")

    def to_pandas(self) -> pd.DataFrame:
        """A row per eigenvalue: real, imag, modulus, half_life, cycle, error, kind, and the variable with
        the largest share."""
        import pandas as pd

        most = [self.variables[i] for i in np.argmax(self.participation, axis=1)]
        return pd.DataFrame(
            {
                "real": self.eigenvalues.real,
                "imag": self.eigenvalues.imag,
                "modulus": self.moduli,
                "half_life": self.half_lives,
                "cycle": self.cycles,
                "error": self.errors,
                "kind": list(self.kinds),
                "mostly": most,
            },
            self._names(),
        ).rename_axis("eigenvalue")

    def to_xarray(self) -> xr.Dataset:
        """`eigenvalue`, `error` and `kind` (mode), `slope` (mode, input), `participation` (mode,
        variable), `jacobian` (variable, prior)."""
        import xarray as xr

        return xr.Dataset(
            {
                "eigenvalue": ("mode", self.eigenvalues),
                "error": ("mode", self.errors),
                "kind": ("mode", list(self.kinds)),
                "slope": (("mode", "input"), self.slopes),
                "participation": (("mode", "variable"), self.participation),
                "jacobian": (("variable", "prior"), self.jacobian),
            },
            coords={
                "mode": self._names(),
                "input": list(self.columns),
                "variable": list(self.variables),
                "prior": list(self.variables),
            },
            attrs={"model": self.model.name, "spectral_radius": self.spectral_radius},
        )

    def _names(self) -> list[str]:
        return [f"{i + 1}" for i in range(len(self.kinds))]

    def __str__(self) -> str:
        lines = [f"{self.model.name}: {self.verdict}"]
        lines += [f"  It conserves {what}." for what in self.conserved]
        zeros = self.kinds.count("zero")
        shown = [i for i, kind in enumerate(self.kinds) if kind not in ("zero", "conserved")][
            :SHOWN
        ]
        lines += ["", f"  {'eigenvalue':<24}{'modulus':>9}{'half-life':>11}{'cycle':>8}  mostly"]
        for i in shown:
            value, cycle = self.eigenvalues[i], self.cycles[i]
            number = f"{value.real:.6g}" + (f" {value.imag:+.6g}i" if value.imag else "")
            note = "" if self.kinds[i] == "simple" else f" ({self.kinds[i]})"
            top = np.argsort(-self.participation[i], kind="stable")[:2]
            what = ", ".join(self.variables[k] for k in top if self.participation[i, k] > 0.1)
            lines.append(
                f"  {number:<24}{self.moduli[i]:>9.4g}{self.half_lives[i]:>11.3g}"
                f"{'' if np.isinf(cycle) else f'{cycle:.3g}':>8}  {what}{note}"
            )
        if zeros:
            lines.append(f"  and {zeros} zero: what no later period depends on, or not for long")
        for kind, meaning in (
            (
                "defective",
                "they lack eigenvectors; one by one they have no derivatives, only their mean",
            ),
            ("repeated", "equal; one by one they have no derivatives in general, only their mean"),
        ):
            if kind in self.kinds:
                lines.append(f"  {kind}: {self.kinds.count(kind)} eigenvalues, {meaning}")
        return "\n".join(lines)

    __repr__ = __str__


def stability(
    model: Model,
    *,
    wrt: Wrt = ("params", "scenario"),
    params: Any = None,
    scenario: Any = None,
    state: Any = None,
) -> Stability:
    """The eigenvalues of d step / d state at a steady state, and their derivatives by the inputs.

    Args:
        model, params, scenario, state: as in `long_run`.
        wrt: as in `long_run`: by what the eigenvalues are differentiated.

    Returns:
        A `Stability`: print it for a table.

    Raises:
        As `long_run`; an unstable steady state is no error here: the verdict says so.
    """
    inputs = steady_inputs(model, wrt)
    found = rest(model, inputs, params, scenario, state)
    by_inputs, _, undefined = implicit(found)
    modes = eigen(found)
    m = by_inputs.shape[1]
    directions = np.concatenate([np.nan_to_num(by_inputs), np.eye(m)])
    moved = found.slopes_of_jacobian(directions) if m else np.zeros((0, *found.step.by_state.shape))
    slopes = np.full((found.x.size, m), np.nan + 0j)
    for group in modes.groups:
        if modes.kinds[group[0]] != "zero":
            slopes[list(group)] = _slope(found.step.by_state, modes, group, moved)
    slopes[:, undefined] = np.nan
    shares = np.abs(modes.left * modes.right).T
    total = shares.sum(axis=1, keepdims=True)
    return Stability(
        model,
        modes.values,
        modes.errors,
        modes.kinds,
        slopes,
        np.divide(shares, total, out=np.zeros_like(shares), where=total > 0),
        found.step.by_state,
        found.labels,
        tuple(input_labels(model, inputs)),
        values_of(found, inputs),
        found.state,
        modes.radius,
        independent_combinations(found.conserved, found.labels),
    )


def eigen(found: Rest) -> Modes:
    """Eigenvalues and eigenvectors of the step's Jacobian, with what is known of their accuracy."""
    from scipy.linalg import eig

    a, eps = found.step.by_state, found.eps
    n = len(a)
    # Variables that no later period reads are zero eigenvalues, which rounding would smear: left out.
    read = np.flatnonzero(np.any(a != 0, axis=0))
    within: Any = a[np.ix_(read, read)]
    solved: Any = eig(within, left=True, right=True) if len(read) else 3 * (np.zeros((0, 0)),)
    left_read, right_read = solved[1], solved[2]
    values: Any = np.zeros(n, complex)
    left, right = np.zeros((n, n), complex), np.zeros((n, n), complex)
    k = len(read)
    values[:k] = solved[0].reshape(-1)
    left[np.ix_(read, np.arange(k))] = left_read.conj()
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = a[:, read] @ right_read / values[:k]
    whole[read] = right_read
    right[:, :k] = np.where(np.isfinite(whole), whole, 0)
    order: Any = np.lexsort((-values.imag, -values.real, -np.round(np.abs(values), 12)))
    values, left, right = values[order], left[:, order], right[:, order]
    products = np.sum(left * right, axis=0)
    # Rounding changes each entry of A in proportion to it.
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = 4 * eps * np.sum(np.abs(left) * (np.abs(a) @ np.abs(right)), axis=0)
        errors = np.where(spread > 0, spread / np.abs(products), 0.0)
        left = np.where(products == 0, left, left / products)
    largest = float(np.max(np.abs(values), initial=0.0))
    cap = eps ** (1 / 3) * max(largest, eps)  # a threefold defective one is known no better
    errors = np.minimum(errors, cap)
    groups = _groups(values, errors, cap)
    kinds = [""] * n
    for group in groups:
        at = list(group)
        mean = np.mean(values[at])
        vectors = right[:, at] / np.maximum(np.linalg.norm(right[:, at], axis=0), 1e-300)
        alone = np.linalg.svd(vectors, compute_uv=False)[-1] > 1e-4 if len(at) > 1 else True
        if np.abs(mean) <= max(np.max(errors[at]), 0.0):
            kind = "zero"
        elif abs(mean - 1) <= max(cap, 1e-9) and found.conserved.shape[1]:
            kind = "conserved" if len(at) == found.conserved.shape[1] else "defective"
        else:
            kind = "simple" if len(at) == 1 else "repeated" if alone else "defective"
        if kind == "defective":
            errors[at] = np.maximum(errors[at], eps ** (1 / len(at)) * largest)
        for i in at:
            kinds[i] = kind
    free = [i for i in range(n) if kinds[i] != "conserved"]
    radius = float(np.max(np.abs(values[free]), initial=0.0))
    return Modes(values, right, left, errors, tuple(kinds), groups, radius)


def _groups(values: np.ndarray, errors: np.ndarray, cap: float) -> tuple[tuple[int, ...], ...]:
    """The eigenvalues that rounding cannot tell apart."""
    left = list(range(len(values)))
    groups = []
    while left:
        group, queue = [], [left.pop(0)]
        while queue:
            i = queue.pop()
            group.append(i)
            near = [
                j
                for j in left
                if abs(values[i] - values[j]) <= min(4 * (errors[i] + errors[j]), cap)
            ]
            left = [j for j in left if j not in near]
            queue += near
        groups.append(tuple(sorted(group)))
    return tuple(groups)


def _slope(a: np.ndarray, modes: Modes, group: Sequence[int], moved: np.ndarray) -> np.ndarray:
    """The derivative of an eigenvalue, or of the mean of a group of equal ones, (m,).

    Of a group: with bases X, Y of the right and left invariant subspaces, that of the mean is
    trace((Y'X)^-1 Y' dA X) / size.
    """
    at = list(group)
    if len(at) == 1:
        i = at[0]
        return np.einsum("i,pij,j->p", modes.left[:, i], moved, modes.right[:, i])
    from scipy.linalg import schur

    mean, wide = (
        np.mean(modes.values[at]),
        np.max(np.abs(modes.values[at] - np.mean(modes.values[at]))),
    )
    others = np.delete(modes.values, at)
    within = wide + (np.min(np.abs(others - mean), initial=np.inf) - wide) / 2
    within = min(within, 1e300)

    def subspace(matrix: np.ndarray) -> np.ndarray:
        found: Any = schur(matrix, output="complex", sort=lambda z: abs(z - mean) <= within)
        _, basis, size = found
        assert size == len(at), "the group of eigenvalues is not apart from the others"
        return basis[:, :size]

    x, y = subspace(a), subspace(a.T)
    inverse = np.linalg.inv(y.T @ x)
    return np.einsum("kl,il,pij,jk->p", inverse, y, moved, x) / len(at)
