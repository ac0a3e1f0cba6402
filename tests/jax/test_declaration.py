"""A declaration checks itself: each rule, and that its message names model, field and rule."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from macrostat_jax import (
    AddingUp,
    Axis,
    Model,
    Record,
    Scalar,
    Vector,
    exogenous,
    flow,
    index,
    models,
    param,
    simulate,
    stock,
)


class Params(Record):
    a: Scalar = param(0.5, bounds=(0, 1))
    b: Scalar = param(0.3, bounds=(0, 1))
    c: Scalar = param(0.2, bounds=(0, 1))
    v: Vector = param((1.0, 2.0), shape=2)


class Scenario(Record):
    g: Scalar = exogenous(1.0)


class State(Record):
    x: Scalar = index("x")
    y: Vector = index("y", shape=Axis("sector", ("Farms", "Mills")))


def start(params, scenario):
    return State.filled(0.0)


def step(prior, params, scenario):
    return State(x=params.a * prior.x + scenario.g, y=prior.y + params.v)


def declare(**changes: Any) -> Model:
    arguments = {
        "Params": Params,
        "Scenario": Scenario,
        "State": State,
        "initial_state": start,
        "step": step,
    } | changes
    return Model("TOY", **arguments)


def test_the_toy_itself_is_right():
    model = declare(constraints=(AddingUp(("a", "b", "c")),))
    assert repr(model) == "Model(TOY: 4 parameters, 2 variables)"
    path = simulate(model, periods=3)
    np.testing.assert_allclose(path.x, [1, 1.5, 1.75])
    np.testing.assert_allclose(path.y, [[1, 2], [2, 4], [3, 6]])


# Records


def test_a_field_needs_a_declaration():
    with pytest.raises(TypeError, match=r"Wrong.x: declare it with param, .* not float"):

        class Wrong(Record):
            x: Scalar = 1.0  # type: ignore[assignment]


def test_a_field_without_a_value_needs_a_declaration():
    with pytest.raises(TypeError, match=r"Wrong.x: declare it with param, .* not NoneType"):

        class Wrong(Record):
            x: Scalar


def test_a_field_needs_a_type():
    message = r"Wrong.rate: it is no field without its type: write rate: Scalar = param\(...\)"
    with pytest.raises(TypeError, match=message):

        class Wrong(Record):
            rate = param(1.0)  # pyright: ignore[reportGeneralTypeIssues]


def test_a_field_may_not_hide_a_method():
    with pytest.raises(TypeError, match=r"Wrong.replace: the name is a method of Record"):

        class Wrong(Record):
            replace: Scalar = param(1.0)  # type: ignore[assignment]

    with pytest.raises(TypeError, match=r"Other.fields: the name is an attribute of Record"):

        class Other(Record):
            fields: Scalar = param(1.0)  # type: ignore[assignment]


def test_public_names_are_unique():
    with pytest.raises(TypeError, match=r"Wrong: two fields have the public name 'TaxRate'"):

        class Wrong(Record):
            tax_rate: Scalar = param(1.0)
            other: Scalar = param(1.0, name="TaxRate")


def test_a_public_name_is_no_other_fields_name():
    with pytest.raises(TypeError, match=r"Wrong.a: its public name 'b' is another field's name"):

        class Wrong(Record):
            a: Scalar = param(1.0, name="b")
            b: Scalar = param(1.0)


def test_bounds_are_two_numbers():
    for wrong in ((0, None), (0,), 0.5, "ab"):
        with pytest.raises(TypeError, match=r"bounds are two numbers, \(low, high\), .* not"):
            param(1.0, bounds=wrong)  # type: ignore[arg-type]


def test_axes():
    assert Axis("sector", ("a", "b")).slots == ("a", "b")
    assert Axis("agent", size=3).slots == ("0", "1", "2")
    with pytest.raises(ValueError, match=r"Axis 'sector': size 3 contradicts its 2 labels"):
        Axis("sector", ("a", "b"), size=3)
    with pytest.raises(ValueError, match=r"Axis 'agent': give its labels, or a size of at least 1"):
        Axis("agent")
    with pytest.raises(ValueError, match=r"Axis 'sector': two slots have the label 'a'"):
        Axis("sector", ("a", "b", "a"))
    for labels in (4, "abc"):
        with pytest.raises(TypeError, match=r"Axis 'firm': labels are a sequence .* size=3"):
            Axis("firm", labels)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Axis 'dim_0': the size is an integer, not 2.0"):
        param(1.0, shape=2.0)


def test_records_have_public_names_and_are_extended_in_place():
    class More(models.GL06SIM.Params):
        tax_rate: Scalar = param(0.3)
        surcharge: Scalar = param(0.1, name="Extra_Charge")

    assert list(More.fields) == [*models.GL06SIM.Params.fields, "surcharge"]
    assert More.fields["tax_rate"].default == 0.3
    record = More.filled(1.0)
    assert list(record.to_dict())[-2:] == ["PropensityToConsumeSavings", "Extra_Charge"]
    assert record["Extra_Charge"] == record["surcharge"] == 1.0
    assert record.replace(Extra_Charge=2.0, tax_rate=3.0).surcharge == 2.0


def test_unknown_names_are_errors_with_what_there_is():
    record = Params.filled(1.0)
    for wrong in (lambda: record["d"], lambda: record.replace(d=1.0), lambda: Params.key_of("d")):
        with pytest.raises(KeyError, match=r"'d' is not in .*Params: a, b, c, v"):
            wrong()
    with pytest.raises(TypeError, match=r"Params has named fields: use to_dict\(\)"):
        list(record)
    with pytest.raises(AttributeError):
        record.a = 2.0  # type: ignore[misc]
    with pytest.raises(
        TypeError, match=r"'tax_rate' is given twice: as 'tax_rate' and as 'TaxRate'"
    ):
        models.GL06SIM.params(tax_rate=0.1, TaxRate=0.2)
    with pytest.raises(TypeError, match=r"'government_demand' is given twice"):
        models.GL06SIM.scenario(government_demand=1.0, GovernmentDemand=2.0)
    with pytest.raises(TypeError, match=r"GL06SIM: the shock 'tax_rate_add' is given twice"):
        models.GL06SIM.shocks(tax_rate_add=0.1, TaxRate_add=0.2)
    with pytest.raises(TypeError, match=r"missing 1 required keyword-only argument: 'y'"):
        State(x=1.0)  # type: ignore[call-arg]


def test_records_are_pytrees_and_print():
    record = Params(a=0.5, b=0.25, c=jnp.ones(3), v=np.arange(9.0))  # type: ignore[arg-type]
    doubled = jax.tree.map(lambda x: 2 * x, record)
    assert isinstance(doubled, Params) and doubled.a == 1.0
    assert repr(type("Empty", (Record,), {})()) == "Empty()"
    text = repr(record)
    assert text.splitlines()[1:3] == ["    a = 0.5", "    b = 0.25"] and "float64[9]" in text


# Models


def test_records_are_classes_of_fields():
    for wrong in (dict, None, Params.filled(1.0)):
        with pytest.raises(TypeError, match=r"Model TOY: Params is a class derived from Record"):
            declare(Params=wrong)


def test_an_axis_is_the_same_everywhere():
    class Other(Record):
        w: Vector = param(1.0, shape=Axis("sector", ("Mills", "Farms")))

    message = (
        r"the axis 'sector' is of size 2 \(Mills, Farms\) .* and of size 2 \(Farms, Mills\) in"
    )
    with pytest.raises(ValueError, match=message):
        declare(Params=Other, step=lambda prior, params, scenario: prior)


def test_a_fourth_argument_with_a_default_is_an_option_that_lacks_its_star():
    def with_default(prior, params, scenario, sharpness=None):
        return prior

    message = (
        r"'sharpness' of step stands where random .* star: def step\(..., \*, sharpness=None\)"
    )
    with pytest.raises(TypeError, match=message):
        declare(step=with_default)


@pytest.mark.parametrize(
    ("record", "field", "message"),
    [
        ("Params", exogenous(1.0), r"Model TOY: Params.q is declared as exogenous; .* param"),
        ("Scenario", param(1.0), r"Model TOY: Scenario.q is declared as param; .* exogenous"),
        ("State", param(1.0), r"Model TOY: State.q is declared as param; .* index, flow, stock"),
    ],
)
def test_roles(record, field, message):
    wrong = type(record, (Record,), {"__annotations__": {"q": Scalar}, "q": field})
    with pytest.raises(TypeError, match=message):
        declare(**{record: wrong})


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (param(2.0, bounds=(0, 1)), r"Model TOY: the default 2.0 of 'q' is not within its bounds"),
        (param(math.nan), r"Model TOY: the default nan of 'q' is not within its bounds"),
        (param(math.inf), r"Model TOY: the default inf of 'q' is not within its bounds"),
        (
            param((0.5, 2.0), bounds=(0, 1), shape=2),
            r"Model TOY: the default .* of 'q' is not with",
        ),
        (
            param((1.0, 2.0, 3.0), shape=2),
            r"the default of 'q' has shape \(3,\), declared is \(2,\)",
        ),
        (param("high"), r"Model TOY: the default of 'q' is a number or an array .* not 'high'"),
        (param(1.0, bounds=(2, 0)), r"Model TOY: 'q' has the bounds \[2.0, 0.0\]"),
        (param(1.0, bounds=(math.nan, 2)), r"Model TOY: 'q' has the bounds \[nan, 2.0\]"),
    ],
)
def test_defaults(field, message):
    wrong = type("Wrong", (Params,), {"__annotations__": {"q": Scalar}, "q": field})
    with pytest.raises((ValueError, TypeError), match=message):
        declare(Params=wrong)


def test_a_stock_belongs_to_somebody():
    class Wrong(State):
        m: Scalar = stock("m")

    with pytest.raises(ValueError, match=r"Model TOY: the stock 'm' belongs to nobody"):
        declare(State=Wrong)


def test_a_flow_needs_both_sides():
    with pytest.raises(TypeError, match="gets"):
        flow("f", pays="Household")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ([("a", "q")], r"Model TOY: a constraint names 'q', which is not a parameter.*a, b, c, v"),
        ([("v[0]", "v[x]")], r"Model TOY: a constraint names 'v\[x\]', which is not a parameter"),
        ([("v[0]", "v[2]")], r"Model TOY: a constraint names 'v\[2\]', of shape \(2,\)"),
        ([("a", "v")], r"Model TOY: the parameters \('a', 'v'\) .* different shapes"),
        ([("a", "v[1]"), ("w", "v")], r"Model TOY: 'v' is derived by two constraints"),
        ([("a", "v[1]"), ("v", "w")], r"Model TOY: \['v\[1\]'\] is derived .* free in another"),
        ([("a", "b"), ("c", "b")], r"Model TOY: 'b' is derived by two constraints"),
        ([("a", "b"), ("b", "c")], r"Model TOY: \['b'\] is derived by one .* free in another"),
    ],
)
def test_constraints(constraints, message):
    class More(Params):
        w: Vector = param(0.5, shape=2)

    with pytest.raises(ValueError, match=message):
        declare(Params=More, constraints=tuple(AddingUp(names) for names in constraints))


def test_constraints_that_cannot_hold():
    with pytest.raises(
        ValueError, match=r"Model TOY: with the defaults, 'b' would be 2.5, outside"
    ):
        declare(constraints=(AddingUp(("a", "b"), total=3.0),))
    with pytest.raises(ValueError, match=r"at least two different parameters, not \('a',\)"):
        AddingUp(("a",))
    with pytest.raises(ValueError, match=r"at least two different parameters, not \('a', 'a'\)"):
        AddingUp(("a", "a"))


@pytest.mark.parametrize("function", ["initial_state", "step", "steady_state"])
def test_functions_return_the_state_in_its_shape(function):
    def returning(state):
        if function == "step":
            return {function: lambda prior, params, scenario: state}
        return {function: lambda params, scenario: state}

    with pytest.raises(TypeError, match=rf"Model TOY: {function} must return State, not Params"):
        declare(**returning(Params.filled(1.0)))
    message = rf"Model TOY: {function} gives 'y' the shape \(3,\), declared is \(2,\)"
    with pytest.raises(ValueError, match=message):
        declare(**returning(State(x=jnp.zeros(()), y=jnp.zeros(3))))


def test_every_variable_is_a_number():
    for value, kind in ((None, "NoneType"), ({}, "dict")):
        state = State(x=value, y=jnp.zeros(2))  # type: ignore[arg-type]

        def returned(*, state=state):
            return state

        with pytest.raises(TypeError, match=rf"TOY: step must give 'x' a number .* not {kind}"):
            declare(step=lambda prior, params, scenario: returned())
        with pytest.raises(TypeError, match=rf"TOY: initial_state must give 'x' .* not {kind}"):
            declare(initial_state=lambda params, scenario: returned())


def test_what_a_step_raises_names_the_model():
    def misspelt(prior, params, scenario):
        return State(x=params.alpha, y=prior.y)

    def branching(prior, params, scenario):
        return prior if prior.x > 0 else State.filled(1.0)

    cases = ((misspelt, AttributeError), (branching, jax.errors.TracerBoolConversionError))
    for wrong, error in cases:
        with pytest.raises(error) as caught:
            declare(step=wrong)
        notes = "".join(caught.value.__notes__)
        assert "Model TOY: raised by step, which is traced when it is declared." in notes


def test_integers_keep_their_dtype_and_may_not_lose_it():
    class Places(Record):
        x: Vector = index("x", shape=3)
        flag: Scalar = index("f")

    def begin(params, scenario):
        return Places(x=jnp.array([0, 1, 2]), flag=jnp.array(False))

    def visit(prior, params, scenario):
        taken = jnp.zeros(3).at[prior.x].add(params.a)  # an index must be an integer
        return Places(x=(prior.x + 1) % 3, flag=taken[0] > 1)

    model = declare(State=Places, initial_state=begin, step=visit)
    path = simulate(model, periods=2)
    assert path.x.dtype == jnp.array([0]).dtype and path.flag.dtype == bool
    np.testing.assert_array_equal(path.x, [[1, 2, 0], [2, 0, 1]])

    def forget(prior, params, scenario):
        return Places(x=prior.x.astype(float), flag=prior.flag)

    message = r"Model TOY: 'x' changes its dtype over a step: initial_state gives int\d\d, .* float"
    with pytest.raises(TypeError, match=message):
        declare(State=Places, initial_state=begin, step=forget)


def test_python_integers_are_numbers():
    def begin(params, scenario):
        return State(x=0, y=np.zeros(2))  # type: ignore[arg-type]

    def one(prior, params, scenario):
        return State(x=jnp.where(prior.x > 0, 0, 1), y=prior.y)

    path = simulate(declare(initial_state=begin, step=one), periods=2)
    assert path.x.dtype == float and list(path.x) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"shocks": ("a_plus",)},
            KeyError,
            "'a_plus' is neither a series of TOY .* nor a parameter shock",
        ),
        ({"shocks": ("q_add",)}, KeyError, "'q' is not in .*Params"),
        ({"trigger": 100}, ValueError, "Model TOY: trigger 100 is not within 100 periods"),
        ({"periods": 5.0}, TypeError, "Model TOY: periods is a number of periods, not 5.0"),
        (
            {"scenarios": {"s": {"h": 1.0}}},
            KeyError,
            "'h' is neither a series of TOY .* nor a parameter shock",
        ),
        ({"scenarios": {"s": {"g": math.nan}}}, ValueError, "TOY: series 'g' must be finite"),
        ({"scenarios": {"s": {"g": [1.0] * 101}}}, ValueError, "TOY: series 'g' takes one value"),
    ],
)
def test_scenarios_are_checked_when_they_are_declared(changes, error, message):
    with pytest.raises(error, match=message):
        declare(**changes)


# Values


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"a": 1.5}, ValueError, r"TOY: parameter 'a' must lie in its bounds \[0, 1\], not 1.5"),
        ({"a": [0.5, 1.5]}, ValueError, r"TOY: parameter 'a' must lie in its bounds"),
        ({"a": math.nan}, ValueError, r"TOY: parameter 'a' must be finite, not nan"),
        ({"v": [1.0, math.inf]}, ValueError, r"TOY: parameter 'v' must be finite"),
        ({"v": [1.0, 2.0, 3.0]}, ValueError, r"TOY: parameter 'v' has shape \(2,\) .* not \(3,\)"),
        ({"q": 1.0}, KeyError, r"'q' is not in .*Params: a, b, c, v"),
        ({"a": "0.3"}, TypeError, r"TOY: parameter 'a' takes numbers, not '0.3'"),
        ({"a": None}, TypeError, r"TOY: parameter 'a' takes numbers, not None"),
        ({"v": ["1", "2"]}, TypeError, r"TOY: parameter 'v' takes numbers"),
        ({"v": [[1.0], [2.0, 3.0]]}, TypeError, r"TOY: parameter 'v' takes numbers"),
        ({"a": jax.random.key(0)}, TypeError, r"TOY: parameter 'a' takes numbers"),
        ({"a": 0.5 + 1j}, TypeError, r"TOY: parameter 'a' takes real numbers, not \(0.5\+1j\)"),
    ],
)
def test_parameter_values(values, error, message):
    with pytest.raises(error, match=message):
        declare().params(**values)


def test_parameters_by_either_name_and_in_batches():
    sim = models.GL06SIM
    assert sim.params(TaxRate=0.3).tax_rate == sim.params(tax_rate=0.3).tax_rate == 0.3
    model = declare(constraints=(AddingUp(("a", "b", "c")),))
    params = model.params(a=np.array([0.1, 0.2]), v=np.ones((2, 2)))
    np.testing.assert_allclose(params.c, [0.6, 0.5])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"g": [1.0] * 6, "periods": 5}, ValueError, r"series 'g' takes .* up to 5 of them"),
        ({"g": [1.0] * 4, "periods": 5, "start": 2}, ValueError, r"up to 3 .* period 2 to 5"),
        ({"g": math.inf}, ValueError, r"TOY: series 'g' must be finite"),
        ({"g": "20"}, TypeError, r"TOY: series 'g' takes numbers, not '20'"),
        ({"periods": 0}, ValueError, r"periods must be at least 1, not 0"),
        ({"periods": 5.0}, TypeError, r"TOY: periods must be an integer, not 5.0"),
        ({"periods": 5, "start": 5}, ValueError, r"start must lie in 0 to 4, not 5"),
        ({"h": 1.0}, KeyError, r"'h' is not in .*Scenario: g"),
        ({"name": "boom"}, KeyError, r"TOY has no scenario 'boom'. There are: none besides"),
    ],
)
def test_scenario_values(arguments, error, message):
    with pytest.raises(error, match=message):
        declare().scenario(**arguments)


def test_scenario_paths():
    model = declare(scenarios={"boom": {"g": 2.0, "a_add": 0.1}}, trigger=3, periods=5)
    np.testing.assert_array_equal(model.scenario().g, [1, 1, 1, 1, 1])
    np.testing.assert_array_equal(model.scenario("boom").g, [1, 1, 1, 2, 2])
    np.testing.assert_array_equal(model.scenario(g=3.0, start=2).g, [1, 1, 3, 3, 3])
    np.testing.assert_array_equal(model.scenario(g=[3.0, 4.0], start=1).g, [1, 3, 4, 1, 1])
    public = declare(scenarios={"boom": {"G": 2.0}}, trigger=3, periods=5)  # the name in tables
    np.testing.assert_array_equal(public.scenario("boom").g, [1, 1, 1, 2, 2])
    for name in ("g", "G"):  # one's own path of a series takes the place of the scenario's
        series: Any = {name: 3.0}
        own = model.scenario("boom", start=4, **series)
        np.testing.assert_array_equal(own.g, [1, 1, 1, 1, 3])
    np.testing.assert_array_equal(model.shocks("boom")["a_add"], [0, 0, 0, 0.1, 0.1])
    np.testing.assert_array_equal(
        model.shocks(a_multiply=2.0, start=4)["a_multiply"], [1, 1, 1, 1, 2]
    )
    assert model.shocks() == {}
    traced = jax.jit(lambda g: model.scenario(g=g, start=3).g)(7.0)
    np.testing.assert_array_equal(traced, [1, 1, 1, 7, 7])
    for given in (jnp.float32(7.0), jnp.asarray(7)):  # JAX has no common type of these and float64
        traced = jax.jit(lambda g: model.scenario(g=g, start=3).g)(given)
        np.testing.assert_array_equal(traced, [1, 1, 1, 7, 7])
        assert traced.dtype == (np.float32 if given.dtype == np.float32 else float)
