"""`macrostat.diff.diagnose`: the instance's own parameters, scenario and options; torch code is refused."""

from __future__ import annotations

import pytest
from diff_cases import own_model

import macrostat_jax.diff as core
from macrostat.diff import diagnose
from macrostat.models import get_model
from macrostat_jax import models


def test_the_instance_counts():
    model = get_model("GL06SIM")()
    report = diagnose(model)
    assert report.passed, report
    assert report["TaxRate"].value == pytest.approx(0.2)
    # One period of the torch API's timesteps initialises; the core runs the others.
    steps = model.parameters.hyper["timesteps"] - model.parameters.hyper["timesteps_initialization"]
    alone = core.diagnose(models.GL06SIM, periods=steps)
    for name in models.GL06SIM.Params.fields:
        assert report[name].derivative == pytest.approx(alone[name].derivative, rel=1e-6)
    model.parameters["TaxRate"] = 0.3
    changed = diagnose(model, lambda path: path.national_income[-1])
    assert changed["TaxRate"].value == pytest.approx(0.3)
    # Y* = G / theta, reached but for 1e-8 or so.
    assert changed["TaxRate"].derivative == pytest.approx(-20 / 0.3**2, rel=1e-3)


def test_a_line_of_the_model():
    model = get_model("GL06LP2")()
    report = diagnose(model, wrt=("target_proportion_upper", "target_proportion_lower"))
    for found in report.findings:
        assert found.verdict == "flat" and found.cause and found.cause.place
        assert found.cause.place.file.endswith("gl06lp2.py")


def test_torch_code_is_refused_with_what_to_use():
    with pytest.raises(TypeError, match=r"check_model_differentiability\(model, loss_fn\)"):
        diagnose(own_model())


def test_unknown_scenarios_are_listed():
    with pytest.raises((KeyError, ValueError)):
        diagnose(get_model("GL06SIM")(), scenario="nowhere")
