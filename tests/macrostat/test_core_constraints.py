"""Linear constraints: what is checked, what is derived, and where."""

import logging
import math
from typing import Any

import pytest
import torch
from core_cases import Toy, ToyParameters, entry

from macrostat.core import ConstraintError, ConstraintResolver, LinearConstraint, ParameterLocation


def constrained(*constraints: LinearConstraint) -> type[ToyParameters]:
    class Constrained(ToyParameters):
        def get_constraints(self):
            return constraints

    return Constrained


def test_free_and_derived():
    constraint = LinearConstraint(["a", "b", "c"], 1)  # type: ignore[arg-type]
    assert constraint.param_names == ("a", "b", "c")
    assert constraint.free_params == ("a", "b")
    assert constraint.derived_param == "c"


@pytest.mark.parametrize(
    ("names", "target", "message"),
    [
        (("a",), 1.0, "at least two"),
        (("a", "a"), 1.0, "unique"),
        (("a", 3), 1.0, "strings"),
        ("ab", 1.0, "sequence of strings"),
        (7, 1.0, "sequence of strings"),
        (("a", "b"), True, "bool"),
        (("a", "b"), "1", "number"),
        (("a", "b"), math.inf, "finite"),
    ],
)
def test_malformed_constraints(names: Any, target: Any, message: str):
    with pytest.raises(ConstraintError, match=message):
        LinearConstraint(names, target)
    assert issubclass(ConstraintError, ValueError)


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([("a", "zz")], "unknown parameter 'zz'"),
        ([("a", "b"), ("c", "b")], r"\['b'\] appear as derived in multiple"),
        ([("a", "b"), ("b", "c")], r"\['b'\] are derived in one constraint but appear as free"),
        ([("a", "S1.w")], "mixes scalar and indexed"),
        ([("S1.w", "S1.S2.m")], "spans multiple tensor keys"),
        ([("a", "b", "Other.q")], None),
    ],
)
def test_checks_at_construction(constraints: list, message: str | None):
    cls = constrained(*(LinearConstraint(names, 1.0) for names in constraints))
    if message is None:
        assert cls()["Other.q"] == pytest.approx(0.2)
        return
    with pytest.raises(ConstraintError, match=message):
        cls()


@pytest.mark.parametrize(("target", "side"), [(5.0, "above its upper"), (-1.0, "below its lower")])
def test_derived_must_lie_within_its_bounds(target: float, side: str):
    with pytest.raises(ConstraintError, match=f"'b' to .*{side}"):
        constrained(LinearConstraint(("a", "b"), target))()


def test_rounding_does_not_break_a_bound():
    parameters = constrained(LinearConstraint(("a", "b", "c"), 1.0))(
        parameters={"a": 0.9, "b": 0.1}
    )
    assert parameters["c"] == pytest.approx(0.0, abs=1e-12)
    parameters.verify_parameters()


def test_a_violation_is_logged(caplog: pytest.LogCaptureFixture):
    ToyParameters()
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        constrained(LinearConstraint(("a", "b"), 1.0))()
    assert "Constraint violation" in caplog.text and "'b'" in caplog.text


def test_derived_before_every_export():
    parameters = ToyParameters()
    parameters["a"] = 0.6
    assert parameters.get_values()["c"] == pytest.approx(0.1)
    parameters["b"] = 0.2
    assert parameters.vectorize_parameters()["c"].item() == pytest.approx(0.2)
    assert parameters.get_free_param_names() == ["a", "b", "S2.w", "S1.w", "S1.S2.m", "Other.q"]


def test_locations():
    resolver = ToyParameters().get_constraint_resolver()
    assert len(resolver) == 7 and "a" in resolver and "zz" not in resolver
    assert resolver.locate("S2.w") == ParameterLocation("w", (1,))
    assert resolver.locate("S1.S2.m") == ParameterLocation("m", (0, 1))
    assert resolver.locate("Other.q") == ParameterLocation("Other_q", None)
    with pytest.raises(ConstraintError, match="'zz'"):
        resolver.locate("zz")


def test_the_resolver_is_cached_until_the_sectors_change():
    parameters = ToyParameters()
    first = parameters.get_constraint_resolver()
    assert parameters.get_constraint_resolver() is first
    parameters["vector_sectors"] = []
    assert parameters.get_constraint_resolver().locate("S2.w") == ParameterLocation("S2_w", None)


def test_writing_leaves_the_old_tensor_alone():
    leaf = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    params = {"w": leaf}
    place = ParameterLocation("w", (1,))
    place.write(params, leaf[0] * 5)
    assert torch.equal(leaf, torch.tensor([1.0, 2.0, 3.0]))
    assert place.read(params).item() == 5.0
    params["w"].sum().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, torch.tensor([6.0, 0.0, 1.0]))


def test_gradients_run_through_the_free_parameters():
    """y = 2 a + 3 c with c = 1 - a - b: dy/da = 2 - 3, dy/db = -3, dy/dc = 0."""
    leaves = {name: torch.tensor(0.3, requires_grad=True) for name in "abc"}
    params = LinearConstraint(("a", "b", "c"), 1.0).apply(
        dict(leaves), ConstraintResolver({n: ParameterLocation(n) for n in "abc"})
    )
    y = 2 * params["a"] + 3 * params["c"]
    grads = torch.autograd.grad(y, list(leaves.values()), allow_unused=True)
    assert [None if g is None else g.item() for g in grads] == [-1.0, -3.0, None]


def test_constraints_hold_after_shocks():
    model = Toy()
    model.scenarios.add_scenario({"a_add": 0.1, "a_multiply": 0.5}, name="shock")
    behavior = model.get_model_training_instance("shock")
    row = {key: series[6] for key, series in behavior.scenarios.items()}
    params = behavior.apply_parameter_shocks(6, row)
    assert params["a"].item() == pytest.approx(0.5 * 0.5 + 0.1)
    assert (params["a"] + params["b"] + params["c"]).item() == pytest.approx(1.0)


def test_vector_constraints():
    class Shares(ToyParameters):
        def get_default_parameters(self):
            return super().get_default_parameters() | {"S2.w": entry(0.5)}

        def get_constraints(self):
            return (LinearConstraint(("S1.w", "S2.w"), 1.0),)

    behavior = Toy(parameters=Shares()).get_model_training_instance()
    params = behavior.apply_parameter_shocks(0, {"S1_w_add": torch.tensor([0.3])})
    assert params["w"].tolist() == pytest.approx([0.4, 0.6])
