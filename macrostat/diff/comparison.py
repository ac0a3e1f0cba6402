"""Two Jacobians, compared parameter by parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ._result import JacobianResult


@dataclass
class ParameterComparison:
    """One parameter's derivatives in two Jacobians.

    Relative differences are |a - b| / max(1, |a|, |b|). An element is close when
    |a - b| <= atol + rtol max(|a|, |b|). A NaN or an infinity makes its difference NaN, never small.
    """

    name: str
    max_abs_diff: float
    mean_abs_diff: float
    max_rel_diff: float
    mean_rel_diff: float
    num_elements: int
    num_close: int
    has_nan_inf: bool


@dataclass
class JacobianComparisonReport:
    """The comparison of two Jacobians; `print(report.summary())`.

    Attributes:
        method_a, method_b: what they are called.
        per_parameter: name -> `ParameterComparison`, for the names that both have.
        only_in_a, only_in_b: names that the other one lacks -> why that is expected, or None.
    """

    method_a: str
    method_b: str
    per_parameter: dict[str, ParameterComparison] = field(default_factory=dict)
    only_in_a: dict[str, str | None] = field(default_factory=dict)
    only_in_b: dict[str, str | None] = field(default_factory=dict)

    @property
    def overall_max_abs_diff(self) -> float:
        return _largest([one.max_abs_diff for one in self.per_parameter.values()])

    @property
    def overall_max_rel_diff(self) -> float:
        return _largest([one.max_rel_diff for one in self.per_parameter.values()])

    @property
    def unexpectedly_missing(self) -> list[str]:
        """Names that one side lacks without a reason known to the comparison."""
        both = {**self.only_in_a, **self.only_in_b}
        return [name for name, reason in both.items() if reason is None]

    def worst_parameters(self, n: int = 5) -> list[ParameterComparison]:
        """The n parameters with the largest relative differences, those with NaN first."""
        return sorted(self.per_parameter.values(), key=_badness, reverse=True)[:n]

    def summary(self) -> str:
        """One row per parameter, the worst first, and the names that one side lacks."""
        head = f"{'Parameter':<40s} {'max_abs':>10s} {'mean_abs':>10s} {'max_rel':>10s} "
        head += f"{'mean_rel':>10s} {'close':>12s} {'nan/inf':>7s}"
        lines = [
            f"Jacobian comparison: {self.method_a} vs {self.method_b}",
            f"Parameters compared: {len(self.per_parameter)}",
            f"Overall max abs diff: {self.overall_max_abs_diff:.3e}  "
            f"max rel diff: {self.overall_max_rel_diff:.3e}",
            "",
            head,
            "-" * len(head),
        ]
        for one in self.worst_parameters(len(self.per_parameter)):
            close = f"{one.num_close}/{one.num_elements}"
            lines.append(
                f"{one.name:<40s} {one.max_abs_diff:>10.3e} {one.mean_abs_diff:>10.3e} "
                f"{one.max_rel_diff:>10.3e} {one.mean_rel_diff:>10.3e} {close:>12s} "
                f"{'YES' if one.has_nan_inf else 'no':>7s}"
            )
        for method, names in ((self.method_a, self.only_in_a), (self.method_b, self.only_in_b)):
            for name, reason in names.items():
                lines.append(
                    f"Only in {method}: {name} ({f'expected: {reason}' if reason else 'UNEXPECTED'})"
                )
        return "\n".join(lines)


def compare_jacobian_dicts(
    jac_a: Mapping[str, torch.Tensor],
    jac_b: Mapping[str, torch.Tensor],
    method_a: str = "A",
    method_b: str = "B",
    atol: float = 1e-8,
    rtol: float = 1e-5,
) -> JacobianComparisonReport:
    """Compares two Jacobians element by element.

    Sector parameters, one tensor in an autograd Jacobian and one name per sector in a numerical one, are
    compared slot by slot under the scalar names.

    Args:
        jac_a, jac_b: results of `JacobianAutograd.compute` or `JacobianNumerical.compute`, or plain dicts
            name -> tensor.
        method_a, method_b: labels for the report.
        atol, rtol: when an element counts as close.

    Returns:
        A report over the names that both have; what only one has is listed in it.

    Raises:
        ValueError: a parameter whose derivatives have different shapes.
    """
    a, b = dict(jac_a), dict(jac_b)
    if a.keys() != b.keys():
        a, b = (j.by_scalar() if isinstance(j, JacobianResult) else dict(j) for j in (jac_a, jac_b))
    report = JacobianComparisonReport(method_a, method_b)
    for name in sorted(a.keys() & b.keys()):
        report.per_parameter[name] = _compare(name, a[name], b[name], atol, rtol)
    for name in sorted(a.keys() - b.keys()):
        report.only_in_a[name] = _reason(name, jac_a, jac_b)
    for name in sorted(b.keys() - a.keys()):
        report.only_in_b[name] = _reason(name, jac_a, jac_b)
    return report


def _compare(
    name: str, a: torch.Tensor, b: torch.Tensor, atol: float, rtol: float
) -> ParameterComparison:
    if a.shape != b.shape:
        raise ValueError(
            f"The derivatives by {name!r} have different shapes: {tuple(a.shape)} and {tuple(b.shape)}."
        )
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    # inf - inf is NaN, which no maximum may swallow: NaN propagates through torch's max and mean.
    difference = (a - b).abs()
    size = torch.maximum(a.abs(), b.abs())
    relative = difference / size.clamp_min(1.0)
    finite = bool(torch.isfinite(a).all() and torch.isfinite(b).all())
    close = (difference <= atol + rtol * size) & torch.isfinite(size)
    empty = a.numel() == 0
    return ParameterComparison(
        name=name,
        max_abs_diff=0.0 if empty else difference.max().item(),
        mean_abs_diff=0.0 if empty else difference.mean().item(),
        max_rel_diff=0.0 if empty else relative.max().item(),
        mean_rel_diff=0.0 if empty else relative.mean().item(),
        num_elements=a.numel(),
        num_close=int(close.sum().item()),
        has_nan_inf=not finite,
    )


def _reason(name: str, *jacobians: Mapping[str, torch.Tensor]) -> str | None:
    for jacobian in jacobians:
        if isinstance(jacobian, JacobianResult) and (reason := jacobian.expected_absent(name)):
            return reason
    return None


def _largest(values: list[float]) -> float:
    """The maximum; NaN if there is one."""
    return math.nan if any(math.isnan(v) for v in values) else max(values, default=0.0)


def _badness(one: ParameterComparison) -> float:
    return math.inf if math.isnan(one.max_rel_diff) else one.max_rel_diff
