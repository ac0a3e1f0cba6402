"""A fit in words and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ._fit import Fit

CORRELATED = 0.5
"""Errors that are correlated more than this from date to date are said to be."""


def fit_report(fit: Fit) -> str:
    """What `print(fit)` shows."""
    problem = fit.problem
    what = "mode of the posterior" if fit.priors and problem.priors else "fit"
    lines = [
        f"{problem.model.name}: {what} by {fit.method} from {_starts(fit)}, {len(fit.residuals)} observations "
        f"({problem.calendar.span})",
        fit.outcome,
        "",
        *_parameters(fit),
    ]
    if fit.series:
        lines += ["", *_series(fit)]
    if notes := _notes(fit):
        lines += ["", *notes]
    return "\n".join(lines)


def _starts(fit: Fit) -> str:
    return "one start" if fit.starts is None else f"{len(fit.starts):,} starts"


def _parameters(fit: Fit) -> list[str]:
    table = fit.table()
    wide = max(len("parameter"), *(len(name) for name in table.index))
    head = f"  {'parameter':<{wide}}  {'estimate':>12}  {'std. error':>11}  {'95 % interval':^25}  bounds"
    lines = [head]
    for name, row in table.iterrows():
        error = row["standard_error"]
        if np.isnan(error):
            known, interval = "at a bound" if name in fit.at_bound else "-", ""
        elif np.isinf(error):
            known, interval = "unknown", ""
        else:
            known = f"{error:.3g}"
            interval = f"{row['low_95']:>11.6g} to {row['high_95']:<11.6g}"
        bounds = f"({row['lower_bound']:g}, {row['upper_bound']:g})"
        if name in fit.problem.derived:
            bounds += "  by adding up"
        lines.append(
            f"  {name:<{wide}}  {row['estimate']:>12.6g}  {known:>11}  {interval:^25}  {bounds}"
        )
    return lines


def _series(fit: Fit) -> list[str]:
    wide = max(len("series"), *(len(one.label) for one in fit.series))
    lines = [f"  {'series':<{wide}}  {'n':>5}  {'RMSE':>10}  {'R2':>8}  {'autocorr.':>9}"]
    for one in fit.series:
        r2 = "-" if np.isnan(one.r2) else f"{one.r2:.4f}"
        rho = "-" if np.isnan(one.autocorrelation) else f"{one.autocorrelation:.2f}"
        lines.append(
            f"  {one.label:<{wide}}  {len(one.data):>5}  {one.rmse:>10.4g}  {r2:>8}  {rho:>9}"
        )
    lines.append(f"  log-likelihood {fit.log_likelihood:.6g}, AIC {fit.aic:.6g}, BIC {fit.bic:.6g}")
    return lines


def _notes(fit: Fit) -> list[str]:
    notes = []
    if fit.identifiability.unidentified or fit.at_bound:
        notes.append(str(fit.identifiability))
    if np.isnan(fit.uncertainty.variance):
        notes.append("As many parameters as data: nothing is left to estimate the errors from.")
    drifting = [one.label for one in fit.series if one.autocorrelation > CORRELATED]
    if drifting:
        notes.append(
            f"The errors of {', '.join(drifting)} follow each other: the standard errors, which suppose "
            "that they are independent, are too small."
        )
    if fit.starts is not None:
        notes.append(fit.starts.sentence())
    return notes
