"""Is a model differentiable, and how far can its gradients be trusted?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from macrostat_jax.diff._judge import Comparison, compare_all

from .. import _engine
from ._loss import LossFn
from ._result import JacobianResult, describe
from .jacobian_autograd import JacobianAutograd
from .jacobian_numerical import JacobianNumerical


@dataclass
class DifferentiabilityReport:
    """What the checks found; `print(report.summary())`. What was not compared is None.

    Attributes:
        passed: everything finite and repeatable, and every comparison made agrees.
        nan_or_inf: a NaN or infinity in any gradient, forward, reverse or numerical.
        fwd_vs_rev_ok, autodiff_vs_numerical_ok: does every parameter agree at its own scale (for the
            numerical side: within the finite difference's own error estimate)?
        max_abs_diff_fwd_rev, max_abs_diff_autodiff_num: the largest difference.
        rel_err_fwd_rev, rel_err_autodiff_num: the largest over parameters, each at its own scale.
        details: per method and parameter: verdict, differences, error estimates, and names that one side
            lacks.
    """

    passed: bool
    nan_or_inf: bool
    fwd_vs_rev_ok: bool | None
    autodiff_vs_numerical_ok: bool | None
    max_abs_diff_fwd_rev: float | None
    max_abs_diff_autodiff_num: float | None
    rel_err_fwd_rev: float | None
    rel_err_autodiff_num: float | None
    details: dict[str, dict[str, Any]] = field(default_factory=dict)

    def summary(self) -> str:
        """Pass or fail, how far the methods agree, and every parameter that does not."""
        lines = [f"Passed: {self.passed}", f"NaN/Inf gradients: {self.nan_or_inf}"]
        if self.fwd_vs_rev_ok is not None:
            lines.append(
                f"Forward vs reverse: rel≈{self.rel_err_fwd_rev:.3e} "
                f"(max abs diff={self.max_abs_diff_fwd_rev:.3e})"
            )
        if self.autodiff_vs_numerical_ok is not None:
            lines.append(
                f"Autograd vs numerical: rel≈{self.rel_err_autodiff_num:.3e} "
                f"(max abs diff={self.max_abs_diff_autodiff_num:.3e})"
            )
        if not self.details.get("determinism", {}).get("ok", True):
            lines.append("Not deterministic: two identical runs gave different losses")
        for part in self.details.values():
            for name, one in part.get("parameters", {}).items():
                if one["verdict"] != "agrees":
                    lines.append(
                        f"  {part['compares']}: {name} {one['verdict']}: differs by "
                        f"{one['max_abs_diff']:.3e} of {one['largest']:.3e}, "
                        f"error estimate {one['error_estimate']:.1e}"
                    )
            for side in ("only_in_a", "only_in_b"):
                for name, reason in part.get(side, {}).items():
                    why = f"expected: {reason}" if reason else "unexpected"
                    lines.append(f"  {part['compares']}: {side} {name} ({why})")
        return "\n".join(lines)


def check_model_differentiability(
    model: Any,
    loss_fn: LossFn,
    scenario: int | str = 0,
    target: Literal["parameters"] = "parameters",
    rtol: float = 1e-5,
    atol: float = 1e-8,
    compare_forward_reverse: bool = True,
    compare_numerical: bool = True,
    numerical_mode: Literal["central", "forward", "backward"] = "central",
    epsilon: float = 1e-3,
    parameter_space: Literal["direct", "log"] = "log",
    raise_on_failure: bool | None = None,
) -> DifferentiabilityReport:
    """Compares reverse with forward mode and with finite differences.

    A parameter agrees if |a - n| <= atol + rtol max(|a|, |n|) + e in every element, where e is the finite
    difference's own error estimate (from halving its step, plus round-off). Where e exceeds 1e-2 of the
    derivative, the verdict is "inconclusive", which does not pass.

    Args:
        model: a `macrostat` model instance.
        loss_fn: any function from the output dict to a floating-point tensor.
        scenario: id or name.
        target: only `"parameters"`.
        rtol, atol: tolerances.
        compare_forward_reverse, compare_numerical: what to compare.
        numerical_mode, epsilon, parameter_space: of the finite differences.
        raise_on_failure: raise instead of returning a report that did not pass.

    Raises:
        RuntimeError: if asked to, with the summary. ValueError: see `JacobianNumerical` (a parameter that
            is zero needs `parameter_space="direct"`).
    """
    if target != "parameters":
        raise NotImplementedError(f"Only target='parameters' is supported, not {target!r}.")
    auto = JacobianAutograd(model, scenario)
    numerical = (
        JacobianNumerical(model, scenario, epsilon, parameter_space) if compare_numerical else None
    )
    loss_dtype = torch.float64
    try:
        reverse = auto._compute(loss_fn, "rev", None, loss_dtype, torch.float64)
    except (RuntimeError, TypeError):
        # A loss that mixes in float32 tensors of its own may refuse float64 outputs.
        loss_dtype = torch.get_default_dtype()
        reverse = auto._compute(loss_fn, "rev", None, loss_dtype, torch.float64)
    eps = torch.finfo(_working_dtype(model, reverse, loss_dtype)).eps
    gradients: list[Mapping[str, torch.Tensor]] = [reverse]
    details: dict[str, dict[str, Any]] = {
        "determinism": {"ok": _repeats(auto, loss_fn, loss_dtype, reverse)}
    }

    forward_part = numerical_part = None
    if compare_forward_reverse:
        forward = auto._compute(loss_fn, "fwd", None, loss_dtype, torch.float64)
        gradients.append(forward)
        forward_part = _part("Forward vs reverse", forward, reverse, None, rtol, atol, eps)
        details["autograd_fwd"] = forward_part
    if numerical is not None:
        found = numerical._differences(loss_fn, numerical_mode, halved=True)
        values = JacobianResult(found.values, **describe(model))
        gradients.append(values)
        errors = {name: error.numpy() for name, error in found.errors.items()}
        numerical_part = _part(
            "Autograd vs numerical", reverse, values, errors, rtol, atol, max(eps, found.eps)
        )
        details["numerical"] = numerical_part
    nan_or_inf = any(
        not bool(torch.isfinite(g).all()) for grads in gradients for g in grads.values()
    )
    details["autograd_rev"] = {
        "nan_or_inf": not all(bool(torch.isfinite(g).all()) for g in reverse.values())
    }
    oks = [part["ok"] for part in (forward_part, numerical_part) if part is not None]
    report = DifferentiabilityReport(
        passed=not nan_or_inf and details["determinism"]["ok"] and all(oks),
        nan_or_inf=nan_or_inf,
        fwd_vs_rev_ok=(forward_part or {}).get("ok"),
        autodiff_vs_numerical_ok=(numerical_part or {}).get("ok"),
        max_abs_diff_fwd_rev=(forward_part or {}).get("max_abs_diff"),
        max_abs_diff_autodiff_num=(numerical_part or {}).get("max_abs_diff"),
        rel_err_fwd_rev=(forward_part or {}).get("rel_err"),
        rel_err_autodiff_num=(numerical_part or {}).get("rel_err"),
        details=details,
    )
    if raise_on_failure and not report.passed:
        raise RuntimeError(f"Differentiability check failed:\n{report.summary()}")
    return report


def _working_dtype(model: Any, jacobian: JacobianResult, loss_dtype: torch.dtype) -> torch.dtype:
    """The coarsest dtype that the gradient went through."""
    if _engine.is_compiled(model):
        return loss_dtype
    return next(iter(jacobian.values())).dtype if jacobian else torch.get_default_dtype()


def _repeats(
    auto: JacobianAutograd, loss_fn: LossFn, loss_dtype: torch.dtype, before: JacobianResult
) -> bool:
    """Does the same computation give the same numbers, bit by bit? (NaN counts as equal to NaN.)"""
    again = auto._compute(loss_fn, "rev", None, loss_dtype, torch.float64)
    return all(
        np.array_equal(before[name].cpu().numpy(), again[name].cpu().numpy(), equal_nan=True)
        for name in before
    )


def _part(
    compares: str,
    a: JacobianResult,
    n: JacobianResult,
    errors: Mapping[str, np.ndarray] | None,
    rtol: float,
    atol: float,
    eps: float,
) -> dict[str, Any]:
    """One comparison as the report keeps it."""
    left, right = _arrays(a, n)
    found: dict[str, Comparison] = compare_all(left, right, errors, rtol, atol, eps)
    only_a = {k: a.expected_absent(k) for k in left if k not in right}
    only_b = {k: a.expected_absent(k) for k in right if k not in left}
    missing = [k for k, reason in {**only_a, **only_b}.items() if reason is None]
    return {
        "compares": compares,
        "ok": all(one.verdict == "agrees" for one in found.values()) and not missing,
        "max_abs_diff": _largest([one.max_abs_diff for one in found.values()]),
        "rel_err": _largest([one.rel_err for one in found.values()]),
        "inconclusive": [k for k, one in found.items() if one.verdict == "inconclusive"],
        "only_in_a": only_a,
        "only_in_b": only_b,
        "parameters": {name: asdict(one) for name, one in found.items()},
    }


def _arrays(
    a: JacobianResult, b: JacobianResult
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    if a.keys() != b.keys():
        return _numpy(a.by_scalar()), _numpy(b.by_scalar())
    return _numpy(a), _numpy(b)


def _numpy(jacobian: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: value.detach().double().cpu().numpy() for name, value in jacobian.items()}


def _largest(values: list[float]) -> float:
    return float(np.max(values)) if values else 0.0
