"""A fit in words and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ._fit import Fit

CORRELATED = 0.5
"""Errors that are correlated more than this from date to date are said to be."""
TOGETHER = 0.98
"""Estimates that are correlated more than this are said to be: what the data tell is one number of the two."""


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
        interval = ""
        if np.isnan(error):
            held = name in (*fit.at_bound, *fit.uncertainty.at_bound)
            known = "at a bound" if held else "-"
        elif np.isinf(error):
            known = "unknown"
        else:
            known = f"{error:.3g}"
            if np.isfinite(row["low_95"]):
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
    if fit.identifiability.unidentified:
        notes.append(str(fit.identifiability))
    if fit.at_bound:
        notes.append(_at_bound(fit))
    notes += _together(fit)
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


def _at_bound(fit: Fit) -> str:
    """What it means for the errors that parameters are at bounds."""
    names, errors = fit.at_bound, fit.standard_errors
    text = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} at a bound, where there is no interval"
    if held := [name for name in names if np.isnan(errors[name])]:
        they = "it stays" if len(held) == 1 else "they stay"
        text += f" and no standard error; those of the others suppose that {they} there"
    profiled = [f"fit.profile({name!r})" for name in names if name in fit.names]
    return f"{text}." + (f" {profiled[0]} says how far from it the data allow." if profiled else "")


def _together(fit: Fit) -> list[str]:
    """Estimates of which the data hardly tell one from the other."""
    errors, names = fit.uncertainty.standard_errors, fit.names
    known = [i for i in range(len(names)) if np.isfinite(errors[i]) and errors[i] > 0]
    found = []
    for at, i in enumerate(known):
        for j in known[at + 1 :]:
            share = fit.covariance[i, j] / (errors[i] * errors[j])
            if abs(share) > TOGETHER:
                found.append((abs(share), f"{names[i]} and {names[j]} ({share:+.3f})"))
    if not found:
        return []
    said = ", ".join(text for _, text in sorted(found, reverse=True)[:3])
    return [f"The data hardly tell apart, by the correlation of the estimates: {said}."]
