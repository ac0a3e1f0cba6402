"""How far can a model's derivatives be trusted? Forward, reverse and finite differences, compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._model import Model
from .._simulate import simulate
from ._derivatives import jacobian
from ._finite import finite_differences
from ._judge import Comparison, compare_all
from ._labelled import Jacobian
from ._target import Of, Wrt

EVENTS_WITHIN = 1e-3
"""How near, as a share of a parameter, an event is looked for where the step is chosen automatically."""


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of `check`: print it, or read its parts.

    Attributes:
        passed: forward and reverse mode agree with each other and with the finite differences in every
            parameter, everything is finite and repeatable.
        forward_reverse, autodiff_numerical: output -> parameter -> `Comparison`.
        deterministic: the run, repeated, gave the same numbers bit by bit; that of a random model with
            the same key. All runs of a random model have its one key (common random numbers).
        events: of a random model that did not pass: where its path is not smooth within the step, which
            variable changes first, when and whose (`stochastic.Event`).
        forward, reverse, numerical: the three Jacobians; `numerical.errors` are its error estimates.
    """

    model: Model
    passed: bool
    deterministic: bool
    finite_path: bool
    forward_reverse: dict[str, dict[str, Comparison]]
    autodiff_numerical: dict[str, dict[str, Comparison]]
    forward: Jacobian
    reverse: Jacobian
    numerical: Jacobian
    rtol: float
    atol: float
    events: tuple[Any, ...] = ()

    @property
    def worst(self) -> list[tuple[str, Comparison]]:
        """(output, comparison with finite differences), the worst verdict and difference first."""
        rows = [(o, c) for o, by_name in self.autodiff_numerical.items() for c in by_name.values()]
        return sorted(rows, key=lambda row: (row[1].verdict == "agrees", -row[1].rel_err))

    def verdict(self, parameter: str) -> str:
        """The worst verdict on a parameter over all outputs and both comparisons."""
        order = ("non-finite", "disagrees", "inconclusive", "agrees")
        found = [
            by_output[output][parameter].verdict
            for by_output in (self.forward_reverse, self.autodiff_numerical)
            for output in by_output
        ]
        return min(found, key=order.index)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: plain numbers and text."""
        return {
            "model": self.model.name,
            "passed": self.passed,
            **({"events": [str(event) for event in self.events]} if self.events else {}),
            "deterministic": self.deterministic,
            "finite_path": self.finite_path,
            "rtol": self.rtol,
            "atol": self.atol,
            "numerical": self.numerical.mode,
            "parameters": {name: self.verdict(name) for name in self._parameters()},
            "forward_reverse": _plain(self.forward_reverse),
            "autodiff_numerical": _plain(self.autodiff_numerical),
        }

    def _parameters(self) -> list[str]:
        return list(next(iter(self.autodiff_numerical.values())))

    def summary(self) -> str:
        """A table: one row per parameter, the worst over all outputs."""
        lines = [
            f"{self.model.name}: {self.model.title}",
            f"  {len(self.forward.values)} outputs by {len(self._parameters())} inputs; "
            f"{self.numerical.mode}",
            *(
                ["  common random numbers: every run has the same noise"]
                if self.model.random
                else []
            ),
            "",
            f"  {'parameter':<34}{'largest':>12}{'fwd - rev':>11}{'ad - fd':>11}{'fd error':>11}  verdict",
        ]
        for name in self._parameters():
            ours = [by[name] for by in self.forward_reverse.values()]
            fd = [by[name] for by in self.autodiff_numerical.values()]
            lines.append(
                f"  {name:<34}{_most(fd, 'largest'):>12.4g}{_most(ours, 'rel_err'):>11.1e}"
                f"{_most(fd, 'rel_err'):>11.1e}{_relative_error(fd):>11.1e}  {self.verdict(name)}"
            )
        lines += ["", *self._verdict_lines()]
        return "\n".join(lines)

    def _verdict_lines(self) -> list[str]:
        if self.passed:
            accuracy = max((_most([c], "rel_err") for _, c in self.worst), default=0.0)
            ours = [c for by in self.forward_reverse.values() for c in by.values()]
            return [
                "  PASSED. Forward and reverse mode agree to "
                f"{max((c.rel_err for c in ours), default=0.0):.0e} of each derivative's size;",
                f"  finite differences confirm them to {accuracy:.0e}, within their own error estimates.",
            ]
        lines = ["  NOT PASSED:", *(f"    not smooth: {event}" for event in self.events)]
        if not self.finite_path:
            lines.append("    the simulated path itself is not finite")
        if not self.deterministic:
            lines.append(
                "    two identical runs differ: the step is not a function of its arguments"
            )
        seen = set()
        kinds = {
            "forward - reverse": self.forward_reverse,
            "finite difference": self.autodiff_numerical,
        }
        for kind, table in kinds.items():
            for output, by_name in table.items():
                for name, one in by_name.items():
                    if one.verdict != "agrees" and (kind, name) not in seen:
                        seen.add((kind, name))
                        lines.append(
                            f"    {name}: {one.verdict} ({kind}; for instance d {output}: "
                            f"differs by {one.max_abs_diff:.3g} of {one.largest:.3g}, "
                            f"error estimate {one.error_estimate:.2g})"
                        )
        return lines

    def __str__(self) -> str:
        return self.summary()


def check(
    model: Model,
    of: Of | Callable[[Any], Any] = None,
    *,
    wrt: Wrt = "params",
    rtol: float = 1e-5,
    atol: float = 1e-8,
    method: str = "central",
    space: str = "auto",
    step: float | str | None = None,
    params: Any = None,
    scenario: Any = None,
    shocks: dict[str, Any] | None = None,
    initial: Any = None,
    periods: int | None = None,
    key: Any = None,
    noise: Any = None,
) -> Check:
    """Takes a model's Jacobian in forward mode, reverse mode and by finite differences, and judges.

    Args:
        of: as in `jacobian`; the default is the mean over time of every variable.
        rtol, atol: tolerances, to which each finite difference's own error estimate is added, and what
            changes an output by less than a billionth of its size when the parameter doubles.
        method, space, step: of the finite differences. Others: as in `jacobian`.

    Returns:
        A `Check`; `print(check(model))` shows the table.

    Raises:
        As `jacobian` and `finite_differences`.
    """
    of = averages if of is None else of
    common: dict[str, Any] = dict(
        wrt=wrt,
        params=params,
        scenario=scenario,
        shocks=shocks,
        initial=initial,
        periods=periods,
        key=key,
        noise=noise,
    )
    numerical = finite_differences(model, of, method=method, space=space, step=step, **common)
    forward = jacobian(model, of, mode="forward", **common)
    reverse = jacobian(model, of, mode="reverse", **common)
    again = jacobian(model, of, mode="forward", **common)
    same = all(
        np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True)
        for a, b in zip(_leaves(forward), _leaves(again), strict=True)
    )
    eps = float(jnp.finfo(_leaves(forward)[0].dtype).eps)
    errors = numerical.errors or {}
    agree, confirm = {}, {}
    for output in forward.values:
        pair = forward.values[output], reverse.values[output]
        agree[output] = compare_all(*pair, None, rtol, atol, eps)
        pair = reverse.values[output], numerical.values[output]
        confirm[output] = compare_all(
            *pair,
            errors[output],
            rtol,
            atol,
            eps,
            (numerical.kinks or {})[output],
            (numerical.floors or {})[output],
        )
    events: tuple[Any, ...] = ()
    if model.random:
        same = same and _repeats(model, common)
    verdicts = [
        c.verdict for table in (agree, confirm) for by in table.values() for c in by.values()
    ]
    finite_path = all(bool(np.isfinite(np.asarray(v)).all()) for v in _leaves(numerical))
    passed = same and finite_path and all(v == "agrees" for v in verdicts)
    if model.random and not passed:
        from ..stochastic._events import events_near

        run = {name: common.pop(name) for name in ("wrt", "key", "noise")}
        near = step if isinstance(step, int | float) else EVENTS_WITHIN
        events = events_near(model, run["wrt"], near, run["key"], run["noise"], common)
    return Check(
        model=model,
        passed=passed,
        deterministic=same,
        finite_path=finite_path,
        forward_reverse=agree,
        autodiff_numerical=confirm,
        forward=forward,
        reverse=reverse,
        numerical=numerical,
        rtol=rtol,
        atol=atol,
        events=events,
    )


def _repeats(model: Model, inputs: dict[str, Any]) -> bool:
    """Do two runs with the same random numbers give the same path, bit by bit?"""
    run = {name: value for name, value in inputs.items() if name != "wrt"}
    first, second = (jax.tree.leaves(simulate(model, **run)) for _ in range(2))
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(first, second, strict=True))


def averages(path: Any) -> dict[str, Any]:
    """The mean over time of every float variable: small, and every variable has a part in it."""
    values = {key: getattr(path, key) for key in path.fields}
    return {k: v.mean(axis=0) for k, v in values.items() if jnp.issubdtype(v.dtype, jnp.floating)}


def _leaves(jacobian: Jacobian) -> list[Any]:
    return [value for columns in jacobian.values.values() for value in columns.values()]


def _plain(table: dict[str, dict[str, Comparison]]) -> dict[str, Any]:
    return {o: {n: dataclasses.asdict(c) for n, c in by.items()} for o, by in table.items()}


def _most(rows: list[Comparison], field: str) -> float:
    return float(np.max([getattr(row, field) for row in rows]))


def _relative_error(rows: list[Comparison]) -> float:
    return float(np.max([r.error_estimate / r.largest if r.largest > 0 else 0.0 for r in rows]))
