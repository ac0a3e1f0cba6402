"""Comparing Jacobians, and Jacobians as a matrix or a table."""

import math
from typing import Any

import pandas as pd
import pytest
import torch
from core_cases import Toy
from diff_cases import final

from macrostat.diff import (
    JacobianAutograd,
    JacobianBase,
    JacobianComparisonReport,
    JacobianNumerical,
    ParameterComparison,
    compare_jacobian_dicts,
)
from macrostat.models import get_model

NAN, INF = math.nan, math.inf


def compared(a: list[float], b: list[float], **tolerances: Any) -> ParameterComparison:
    report = compare_jacobian_dicts({"p": torch.tensor(a)}, {"p": torch.tensor(b)}, **tolerances)
    return report.per_parameter["p"]


def test_differences_by_hand():
    one = compared([0.5, -4.0, 100.0], [0.25, -5.0, 100.0])
    assert vars(one) == {
        "name": "p",
        "max_abs_diff": 1.0,
        "mean_abs_diff": pytest.approx(1.25 / 3),
        # Divided by max(1, |a|, |b|): 1, 5, 100.
        "max_rel_diff": 0.25,
        "mean_rel_diff": pytest.approx((0.25 + 0.2) / 3),
        "num_elements": 3,
        "num_close": 1,
        "has_nan_inf": False,
    }
    assert compared([-3.0], [3.0]).max_rel_diff == 2.0
    # What is small as such is small relatively.
    assert compared([1e-9], [-1e-9]).max_rel_diff == pytest.approx(2e-9)


def test_close_elements():
    # 1e-5 of the larger one, and 1e-8.
    assert compared([100.0, 100.0], [100.0009, 100.002]).num_close == 1
    assert compared([0.0, 0.0], [0.9e-8, 1.1e-8]).num_close == 1
    assert compared([1.0, 1.0], [1.05, 1.2], rtol=0.1).num_close == 1
    assert compared([0.0, 0.0], [0.05, 0.2], atol=0.1).num_close == 1


@pytest.mark.parametrize(
    "a, b", [([NAN], [1.0]), ([1.0], [NAN]), ([INF], [1.0]), ([INF], [INF]), ([INF], [-INF])]
)
def test_what_is_not_finite_is_never_close_or_small(a: list, b: list):
    one = compared([1.0, *a], [1.0, *b])
    assert one.has_nan_inf
    assert one.num_close == 1
    assert not one.max_rel_diff < 1e30
    report = compare_jacobian_dicts(
        {"fine": torch.ones(2), "off": torch.ones(2), "zapped": torch.tensor([1.0, *a])},
        {"fine": torch.ones(2), "off": torch.zeros(2), "zapped": torch.tensor([1.0, *b])},
    )
    assert not report.overall_max_rel_diff < 1e30
    assert not report.overall_max_abs_diff < 1e30
    assert [one.name for one in report.worst_parameters()] == ["zapped", "off", "fine"]
    rows = report.summary().splitlines()
    first = next(row for row in rows if row.startswith(("zapped", "off", "fine")))
    assert first.startswith("zapped") and first.endswith("YES")


def test_the_summary_has_one_row_per_parameter_the_worst_first():
    names = {"small": 1e-6, "none": 0.0, "big": 5.0, "middle": 0.1}
    a = {name: torch.ones(2) for name in names}
    b = {name: torch.ones(2) - size for name, size in names.items()}
    report = compare_jacobian_dicts(a, b, method_a="autograd", method_b="numerical")
    lines = report.summary().splitlines()
    assert lines[0] == "Jacobian comparison: autograd vs numerical"
    assert lines[1] == "Parameters compared: 4"
    rows = [line.split()[0] for line in lines if line.split() and line.split()[0] in names]
    assert rows == ["big", "middle", "small", "none"]
    assert [one.name for one in report.worst_parameters(2)] == rows[:2]
    assert report.worst_parameters(0) == []
    assert len(report.worst_parameters()) == 4
    assert report.overall_max_abs_diff == pytest.approx(5.0)
    assert report.overall_max_rel_diff == pytest.approx(5.0 / 4)  # |1 - 5| = 4 is the larger one
    many = {f"p{i}": torch.tensor(float(i)) for i in range(9)}
    report = compare_jacobian_dicts(many, {name: -value for name, value in many.items()})
    assert len(report.worst_parameters()) == 5


def test_names_that_one_side_lacks_are_listed():
    a, b = {"p": torch.ones(1), "q": torch.ones(1)}, {"p": torch.ones(1), "r": torch.ones(1)}
    report = compare_jacobian_dicts(a, b, "left", "right")
    assert list(report.per_parameter) == ["p"]
    assert report.only_in_a == {"q": None}
    assert report.only_in_b == {"r": None}
    assert report.unexpectedly_missing == ["q", "r"]
    assert "Only in left: q (UNEXPECTED)" in report.summary()
    assert "Only in right: r (UNEXPECTED)" in report.summary()
    nothing = compare_jacobian_dicts({}, {})
    assert nothing == JacobianComparisonReport("A", "B")
    assert nothing.overall_max_abs_diff == 0
    assert "Parameters compared: 0" in nothing.summary()


def test_sectors_are_compared_slot_by_slot_and_absences_explained():
    model = Toy()

    def loss(output):
        return (
            final(output) + (output["W"][-1] * torch.tensor([1.0, 10.0])).sum() + output["M"].sum()
        )

    autograd = JacobianAutograd(model).compute(loss)
    numerical = JacobianNumerical(model, epsilon=1e-3).compute(loss)
    assert {"w", "m", "Other_q", "D", "c"} <= autograd.keys()
    assert {"S1.w", "S2.w", "S1.S2.m", "Other.q"} <= numerical.keys()
    for report in (
        compare_jacobian_dicts(autograd, numerical),
        compare_jacobian_dicts(numerical, autograd),
    ):
        assert list(report.per_parameter) == ["Other.q", "S1.S2.m", "S1.w", "S2.w", "a", "b"]
        assert report.overall_max_rel_diff < 1e-4
        assert not report.unexpectedly_missing
        absent = {**report.only_in_a, **report.only_in_b}
        assert absent == {"D": "a data parameter", "c": "derived by a constraint"}
        assert "c (expected: derived by a constraint)" in report.summary()
    # The slots are told apart: the second sector counts ten times.
    assert numerical["S2.w"].item() == pytest.approx(10 * numerical["S1.w"].item(), rel=1e-4)
    swapped = {**numerical, "S1.w": numerical["S2.w"], "S2.w": numerical["S1.w"]}
    assert compare_jacobian_dicts(autograd, swapped).worst_parameters(1)[0].name in ("S1.w", "S2.w")
    assert compare_jacobian_dicts(autograd, swapped).overall_max_rel_diff > 0.5
    # Of plain dicts nothing is known, and nothing is dropped.
    plain = compare_jacobian_dicts(dict(autograd), dict(numerical))
    assert set(plain.only_in_a) == {"w", "m", "Other_q", "D", "c"}
    assert set(plain.only_in_b) == {"S1.w", "S2.w", "S1.S2.m", "Other.q"}
    assert len(plain.unexpectedly_missing) == 9


def test_shapes_that_differ_are_an_error():
    with pytest.raises(ValueError, match=r"derivatives by 'p'.*\(2,\) and \(3,\)"):
        compare_jacobian_dicts({"p": torch.ones(2)}, {"p": torch.ones(3)})
    with pytest.raises(ValueError, match="derivatives by 'p'"):  # they would broadcast
        compare_jacobian_dicts({"p": torch.ones(1)}, {"p": torch.ones(())})


def test_dtypes_and_empty_losses():
    report = compare_jacobian_dicts(
        {"p": torch.ones(2, dtype=torch.float32), "q": torch.ones(0)},
        {"p": torch.ones(2, dtype=torch.float64, requires_grad=True), "q": torch.ones(0)},
    )
    assert report.overall_max_abs_diff == 0
    assert report.per_parameter["q"].num_elements == 0


# Matrices and tables --------------------------------------------------------------------------

NAMES = ["a11", "a12", "a21", "a22", "x0_1", "x0_2"]


@pytest.fixture(scope="module")
def jacobian() -> JacobianAutograd:
    return JacobianAutograd(get_model("LINEAR2D")())


def test_a_matrix(jacobian: JacobianAutograd):
    found = jacobian.compute(lambda o: o["State"])
    matrix = jacobian.to_tensor()
    assert matrix.shape == (12, 6)
    assert torch.equal(matrix[:, 3], found["a22"].flatten())
    assert torch.equal(jacobian.to_tensor(param_order=["x0_1", "a11"]), matrix[:, [4, 0]])
    other = {"p": torch.arange(4.0).reshape(2, 2)}
    assert torch.equal(jacobian.to_tensor(other), torch.arange(4.0)[:, None])
    scalar = jacobian.compute(lambda o: o["State"].sum())
    assert jacobian.to_tensor(scalar).shape == (1, 6)
    assert jacobian.to_tensor({}).numel() == 0
    cube = jacobian.compute(lambda o: o["State"][None])
    assert torch.equal(jacobian.to_tensor(cube), matrix)


@pytest.mark.parametrize("method", ["to_tensor", "to_pandas"])
def test_errors_of_both(method: str, jacobian: JacobianAutograd):
    for cls in (JacobianBase, JacobianAutograd, JacobianNumerical):
        empty: Any = cls(get_model("LINEAR2D")())
        assert empty.jacobian is None
        with pytest.raises(ValueError, match=r"^jacobian_dict must be provided"):
            getattr(empty, method)()
    found = jacobian.compute(lambda o: o["State"])
    with pytest.raises(KeyError, match=r"zz not found.*a11, a12"):
        getattr(jacobian, method)(found, param_order=["a11", "zz"])
    with pytest.raises(ValueError, match="param_order names no parameter"):
        getattr(jacobian, method)(found, param_order=[])
    with pytest.raises(ValueError, match="Incompatible loss structure"):
        getattr(jacobian, method)({"p": torch.ones(2), "q": torch.ones(3)})


def test_tables(jacobian: JacobianAutograd):
    jacobian.compute(lambda o: o["State"][-1].sum())
    table = jacobian.to_pandas()
    assert list(table.columns) == NAMES
    pd.testing.assert_index_equal(table.index, pd.Index(["loss"], name="element"))

    found = jacobian.compute(lambda o: o["State"][:, 0])
    table = jacobian.to_pandas()
    pd.testing.assert_index_equal(table.index, pd.RangeIndex(6, name="element"))
    assert table["a11"].tolist() == found["a11"].tolist()
    table = jacobian.to_pandas(timesteps=6)
    pd.testing.assert_index_equal(table.index, pd.RangeIndex(6, name="timestep"))
    table = jacobian.to_pandas(variable_names=list("abcdef"), timesteps=6)
    pd.testing.assert_index_equal(table.index, pd.Index(list("abcdef"), name="variable"))

    found = jacobian.compute(lambda o: o["State"])
    table = jacobian.to_pandas(param_order=["x0_1", "a11"])
    assert list(table.columns) == ["x0_1", "a11"]
    assert table.index.names == ["timestep", "variable"]
    assert table.loc[(3, "var_1"), "a11"] == found["a11"][3, 1].item()
    table = jacobian.to_pandas(timesteps=6, variable_names=["x", "y"])
    assert table.loc[(5, "y"), "x0_1"] == found["x0_1"][5, 1].item()
    assert jacobian.to_pandas({}).empty


def test_tables_of_wrong_labels(jacobian: JacobianAutograd):
    path = jacobian.compute(lambda o: o["State"][:, 0])
    both = jacobian.compute(lambda o: o["State"])
    cube = jacobian.compute(lambda o: o["State"][None])
    wrong: list[tuple[Any, dict[str, Any]]] = [
        (path, {"timesteps": 5}),
        (path, {"variable_names": ["a"]}),
        (both, {"timesteps": 5}),
        (both, {"variable_names": ["a", "b", "c"]}),
    ]
    for given, labels in wrong:
        with pytest.raises(ValueError, match="Incompatible loss structure"):
            jacobian.to_pandas(given, **labels)
    with pytest.raises(ValueError, match=r"Unsupported loss shape: \(1, 6, 2\)"):
        jacobian.to_pandas(cube)


def test_swapped_labels_are_an_error(jacobian: JacobianAutograd):
    """Six times two is two times six: the product alone does not tell."""
    both = jacobian.compute(lambda o: o["State"])
    with pytest.raises(ValueError, match="Incompatible loss structure"):
        jacobian.to_pandas(both, timesteps=2, variable_names=list("abcdef"))
