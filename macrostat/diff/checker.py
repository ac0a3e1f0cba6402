"""Is a model differentiable, and how far can its gradients be trusted?"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from macrostat_jax.diff._judge import IMMATERIAL, Comparison, compare_all

from .. import _engine
from ._loss import LossFn
from ._result import JacobianResult, describe
from .jacobian_autograd import JacobianAutograd
from .jacobian_numerical import Differences, JacobianNumerical


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
            lacks; of a random model, what random inputs all runs had in common.
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
        for method, names in self.details.get("non_finite", {}).items():
            lines.append(f"  {method}: {', '.join(names)}")
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
        if random := self.details.get("random"):
            lines.append(f"Common random numbers: every run had those of {random['inputs']}")
        for part in self.details.values():
            for name, one in part.get("parameters", {}).items():
                if one["verdict"] != "agrees":
                    kink = one.get("kink")
                    lines.append(
                        f"  {part['compares']}: {name} {one['verdict']}: differs by "
                        f"{one['max_abs_diff']:.3e} of {one['largest']:.3e}, "
                        f"error estimate {one['error_estimate']:.1e}"
                        + (f"; a kink: left and right differ by {kink:.1e}" if kink else "")
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
    difference's own error estimate (from halving its step, plus round-off; what changes the loss by less than
    a billionth of its size when the parameter doubles is none). Where e exceeds 1e-2 of the
    derivative, the verdict is "inconclusive", which does not pass; so it is at a kink, where left and right
    derivatives differ by more than that tolerance. All of it is computed in float64 where loss and model
    permit; what `JacobianAutograd.compute` gives in the model's own dtype must be finite as well.

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
    modes = ("rev", "fwd") if compare_forward_reverse else ("rev",)
    given = _engine.output_dtype(model.parameters.hyper)
    dtype = torch.float64
    try:
        reverse = auto._compute(loss_fn, "rev", None, dtype, dtype)
    except Exception:
        if given == dtype:
            raise
        reverse = None
    if reverse is None:
        # A loss (or a step) that mixes in float32 tensors of its own may refuse float64; what it
        # raises for other reasons comes again.
        dtype = given
        reverse = auto._compute(loss_fn, "rev", None, dtype, torch.float64)
    values = [auto._loss(loss_fn, dtype) for _ in range(2)]
    eps = max(torch.finfo(kind).eps for kind in (dtype, values[0].dtype))
    gradients: dict[str, Mapping[str, torch.Tensor]] = {"reverse": reverse}
    again = auto._compute(loss_fn, "rev", None, dtype, torch.float64)
    same = _identical(values[0], values[1]) and all(
        _identical(reverse[k], again[k]) for k in reverse
    )
    details: dict[str, dict[str, Any]] = {"determinism": {"ok": same}}
    definition = getattr(model.behavior, "definition", None)
    if definition is not None and _engine.is_random(definition):
        noise, seed = getattr(model, "noise", None), model.parameters.hyper["seed"]
        details["random"] = {"inputs": f"seed {seed}" if noise is None else "model.noise"}

    forward_part = numerical_part = None
    if compare_forward_reverse:
        gradients["forward"] = forward = auto._compute(loss_fn, "fwd", None, dtype, torch.float64)
        forward_part = _part("Forward vs reverse", forward, reverse, None, rtol, atol, eps)
        gap = {"max_abs_diff_fwd_rev": forward_part["max_abs_diff"]}
        details["autograd_fwd"] = forward_part | gap
    if numerical is not None:
        found = numerical._differences(loss_fn, numerical_mode, halved=True)
        gradients["numerical"] = differences = JacobianResult(found.values, **describe(model))
        numerical_part = _part(
            "Autograd vs numerical",
            reverse,
            differences,
            found,
            rtol,
            atol,
            max(eps, found.eps),
            _floors(model, values[0], differences),
        )
        gap = {"max_abs_diff_autodiff_num": numerical_part["max_abs_diff"]}
        details["numerical"] = numerical_part | gap
    if given != dtype:
        # What `JacobianAutograd.compute` gives; exp(100) is finite in float64 alone.
        for mode, name in zip(modes, ("reverse", "forward"), strict=False):
            with contextlib.suppress(Exception):  # a loss may refuse `given`, too
                gradients[f"{name} in {given}"] = auto._compute(loss_fn, mode, None, given, given)
    non_finite = {
        method: [name for name, g in jacobian.items() if not bool(torch.isfinite(g).all())]
        for method, jacobian in gradients.items()
    }
    details["non_finite"] = {method: names for method, names in non_finite.items() if names}
    details["autograd_rev"] = {"nan_or_inf": bool(non_finite["reverse"])}
    oks = [part["ok"] for part in (forward_part, numerical_part) if part is not None]
    report = DifferentiabilityReport(
        passed=same and not details["non_finite"] and all(oks),
        nan_or_inf=bool(details["non_finite"]),
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


def _identical(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Bit by bit; NaN counts as equal to NaN."""
    return np.array_equal(a.detach().cpu().numpy(), b.detach().cpu().numpy(), equal_nan=True)


def _part(
    compares: str,
    a: JacobianResult,
    n: JacobianResult,
    differences: Differences | None,
    rtol: float,
    atol: float,
    eps: float,
    floors: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """One comparison as the report keeps it."""
    left, right = _arrays(a, n)
    errors = gaps = None
    if differences is not None:
        gaps = _numpy(differences.kinks)
        errors = _numpy(differences.errors)
    found: dict[str, Comparison] = compare_all(left, right, errors, rtol, atol, eps, gaps, floors)
    parameters = {name: asdict(one) for name, one in found.items()}
    # Both modes of autograd have every parameter; differences are of the free scalar ones.
    only_a = {k: a.expected_absent(k) if differences else None for k in left if k not in right}
    only_b = {k: a.expected_absent(k) if differences else None for k in right if k not in left}
    missing = [k for k, reason in {**only_a, **only_b}.items() if reason is None]
    verdicts = {name: one["verdict"] for name, one in parameters.items()}
    return {
        "compares": compares,
        "ok": all(verdict == "agrees" for verdict in verdicts.values()) and not missing,
        "max_abs_diff": _largest([one.max_abs_diff for one in found.values()]),
        "rel_err": _largest([one.rel_err for one in found.values()]),
        "inconclusive": [name for name, verdict in verdicts.items() if verdict == "inconclusive"],
        "only_in_a": only_a,
        "only_in_b": only_b,
        "parameters": parameters,
    }


def _floors(
    model: Any, loss: torch.Tensor, differences: Mapping[str, torch.Tensor]
) -> dict[str, np.ndarray]:
    """By scalar parameter, the derivatives that do not matter and cannot be told from rounding."""
    size = IMMATERIAL * float(loss.detach().double().abs().max()) if loss.numel() else 0.0
    found = {}
    for name, value in differences.items():
        at = abs(float(model.parameters[name]))
        found[name] = np.full(tuple(value.shape), size / (at if at > 0 else 1.0))
    return found


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
