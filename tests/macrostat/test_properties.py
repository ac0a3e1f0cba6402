"""Laws over random cases: constraints, shocks, scenarios, files, the bridge; and a fuzz of the readers."""

from __future__ import annotations

import functools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from core_cases import Toy, ToyBehavior, ToyParameters, ToyScenarios, entry
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from test_files import FORMS, PARTS, again, assert_same_part, read, simulated, write

from bridge import to_jax, to_torch, torch_function
from macrostat.core import ConstraintError, LinearConstraint, Parameters, Scenarios, Variables

# The same cases in every run; a loaded machine is no failure.
few = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
many = settings(few, max_examples=200)

numbers = st.floats(-1e6, 1e6)
finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(max_size=8)


# Constraints ----------------------------------------------------------------------------------


@functools.cache
def adding_up(n: int, target: float, prefix: str) -> type[Parameters]:
    names = tuple(f"{prefix}{i}" if not prefix else f"S{i}.{prefix}" for i in range(n))

    class AddingUp(Parameters):
        def get_default_parameters(self):
            return {name: entry(target / n, -10.0, 10.0) for name in names}

        def get_default_hyperparameters(self):
            sectors = [name.split(".")[0] for name in names if "." in name]
            return super().get_default_hyperparameters() | {
                "vector_sectors": sectors,
                "dtype": torch.float64,
            }

        def get_constraints(self):
            return (LinearConstraint(names, target),)

    return AddingUp


@many
@given(
    free=st.lists(st.floats(-3, 3), min_size=1, max_size=5),
    target=st.sampled_from([0.0, 1.0, -2.5]),
    prefix=st.sampled_from(["", "w"]),
)
def test_constraints_hold_wherever_the_parameters_are_seen(free, target, prefix):
    cls = adding_up(len(free) + 1, target, prefix)
    names = list(cls().values)
    values = dict(zip(names[:-1], free, strict=True))
    derived = target - math.fsum(free)
    if not -10 <= derived <= 10:
        with pytest.raises(ConstraintError, match=f"'{names[-1]}'"):
            cls(parameters=values)
        return
    parameters = cls(parameters=values)
    rounding = 1e-14 * len(free)
    assert parameters[names[-1]] == pytest.approx(derived, abs=rounding)
    assert sum(parameters.get_values().values()) == pytest.approx(target, abs=rounding)
    assert parameters.get_free_param_names() == names[:-1]
    leaves = dict(parameters.to_nn_parameters())
    assert sum(t.sum().item() for t in leaves.values()) == pytest.approx(target, abs=rounding)
    # Its own gradient is 0, and the free ones carry -1 of it.
    params = dict(leaves)
    resolver = parameters.get_constraint_resolver()
    cls().get_constraints()[0].apply(params, resolver)
    resolver.locate(names[-1]).read(params).backward()
    gradients = {k: leaf.grad for k, leaf in leaves.items() if leaf.grad is not None}
    for name in names:
        place = resolver.locate(name)
        found = place.read(gradients).item() if place.tensor_key in gradients else 0.0
        assert found == (0.0 if name == names[-1] else -1.0)


@many
@given(value=st.floats(), low=st.floats(), high=st.floats())
def test_a_value_lies_within_its_bounds_or_is_refused(value, low, high):
    allowed = low <= value <= high  # false for NaN
    try:
        parameters = Parameters({"x": value}, bounds={"x": (low, high)})
    except ValueError as error:
        assert not allowed and "x" in str(error)
    else:
        assert allowed and parameters["x"] == value


# Shocks and scenarios -------------------------------------------------------------------------


class ShockedScenarios(ToyScenarios):
    """A factor and a term for everything, whole or by slot."""

    names = ("a", "b", "w", "S1_w", "S2_w", "m", "S1_S2_m", "S2_S2_m", "Other_q")

    def get_default_scenario_values(self):
        factors = {f"{name}_multiply": 1.0 for name in self.names}
        return {"G": 20.0} | factors | {f"{name}_add": 0.0 for name in self.names}


@few
@given(
    t=st.integers(0, 11),
    shocks=st.dictionaries(
        st.sampled_from(
            [f"{n}_{kind}" for n in ShockedScenarios.names for kind in ("add", "multiply")]
        ),
        st.floats(-2, 2),
    ),
)
def test_shocks_multiply_and_then_add_and_constraints_hold_after_them(t, shocks):
    parameters = ToyParameters(hyperparameters={"dtype": torch.float64})
    scenarios = ShockedScenarios(parameters, scenarios={"s": shocks})
    behavior = ToyBehavior(parameters, scenarios, scenario=1)
    row = {key: series[t] for key, series in behavior.scenarios.items()}
    found = behavior.apply_parameter_shocks(t, row)
    active = shocks if t >= parameters["scenario_trigger"] else {}

    def shocked(value: float, *names: str) -> float:
        for name in names:
            value *= active.get(f"{name}_multiply", 1.0)
        return value + sum(active.get(f"{name}_add", 0.0) for name in names)

    a, b = shocked(0.5, "a"), shocked(0.3, "b")
    w = [shocked(0.1, "w", "S1_w"), shocked(0.2, "w", "S2_w")]
    m = [
        [shocked(0.0, "m"), shocked(0.7, "m", "S1_S2_m")],
        [shocked(0.0, "m"), shocked(0.0, "m", "S2_S2_m")],
    ]
    expected = {"a": a, "b": b, "c": 1 - a - b, "w": w, "m": m, "Other_q": shocked(0.3, "Other_q")}
    for key, value in expected.items():
        # A scenario's row has shape (1,), and so has what it shocks.
        values = found[key].detach().squeeze().numpy()
        assert values == pytest.approx(np.array(value), abs=1e-14), key


@many
@given(
    trigger=st.integers(0, 11),
    value=st.one_of(numbers, st.lists(numbers, min_size=1, max_size=12)),
    wrap=st.sampled_from([list, np.array, torch.tensor]),
)
def test_a_series_starts_at_the_trigger_and_the_default_resumes(trigger, value, wrap):
    parameters = ToyParameters(
        hyperparameters={"scenario_trigger": trigger, "dtype": torch.float64}
    )
    assume(isinstance(value, float) or len(value) <= 12 - trigger)
    given_value = value if isinstance(value, float) else wrap(value)
    if isinstance(given_value, torch.Tensor):
        given_value = torch.tensor(value, dtype=torch.float64)
    s = ToyScenarios(parameters, scenarios={"x": {"G": given_value}})
    expected = [20.0] * 12
    length = 12 - trigger if isinstance(value, float) else len(value)
    expected[trigger : trigger + length] = [value] * length if isinstance(value, float) else value
    assert s["x", "G"][:, 0].tolist() == expected
    assert s[0, "G"][:, 0].tolist() == [20.0] * 12


# Files ----------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, st.just(torch.float64)
)
kept = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(texts, st.integers()), inner, max_size=3),
    ),
    max_leaves=6,
)


class Free(Parameters):
    """Takes parameters of any name, and one setting of any kind."""

    def get_default_hyperparameters(self):
        return super().get_default_hyperparameters() | {"setting": None}

    def get_default_data_parameters(self):
        return {"Data": {"value": torch.zeros(0, 2)}}


@st.composite
def parameter_sets(draw: Any) -> Free:
    values = {}
    for name in draw(st.lists(texts, unique=True, max_size=4)):
        low, value, high = sorted(draw(st.tuples(finite, finite, finite)))
        limits = {"lower bound": low, "upper bound": high}
        values[name] = {"value": value, "unit": draw(texts), "notation": draw(texts)} | limits
    shape = draw(st.sampled_from([(), (1,), (3,), (2, 2), (2, 1, 3)]))
    size = math.prod(shape)
    data = draw(st.lists(st.floats(width=32), min_size=size, max_size=size))
    return Free(values, {"setting": draw(kept)}, {"Data": torch.tensor(data).reshape(shape)})


@few
@given(before=parameter_sets(), form=st.sampled_from(FORMS))
@example(before=Free({"": {**entry(0.5), "notation": ":math:`x`"}}), form="csv")
@example(before=Free({"x": entry(1e15, -9e15, 1e16)}), form="excel")
@example(before=Free({"nan": entry(0.5)}, {"setting": "nan"}), form="excel")
def test_parameters_read_back_as_they_were(before, form):
    with tempfile.TemporaryDirectory() as folder:
        assert_same_part(before, again(before, form, Path(folder)))


@few
@given(
    names=st.lists(texts, unique=True, min_size=1, max_size=3),
    labels=texts,
    dtype=st.sampled_from([torch.float32, torch.float64]),
    form=st.sampled_from(FORMS),
    data=st.data(),
)
def test_scenarios_and_variables_read_back_as_they_were(names, labels, dtype, form, data):
    class Own(Scenarios):
        def get_default_scenario_values(self):
            return dict.fromkeys(names, 0.1)

    parameters = Parameters(hyperparameters={"timesteps": 3, "dtype": dtype})
    scenarios = Own(parameters, scenarios={labels: {}})
    series = {}
    for name in names:
        rows = data.draw(st.lists(st.floats(), min_size=6, max_size=6))
        series[name] = torch.tensor(rows, dtype=torch.float64).to(dtype).reshape(3, 2)
        scenarios.timeseries[1][name] = series[name][:, :1].clone()
    info = {
        name: {"notation": labels, "unit": data.draw(texts), "sectors": [labels, name, "H"][:2]}
        for name in names
    }
    with tempfile.TemporaryDirectory() as folder:
        for part in (scenarios, Variables(info, series, parameters)):
            assert_same_part(part, again(part, form, Path(folder)))


# The readers, given anything ------------------------------------------------------------------

WATCHED = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.remove")
WATCHED += ("os.fork", "subprocess.Popen", "socket.connect", "shutil.rmtree", "ctypes.dlopen")
_seen: list[str] | None = None


def _watch(event: str, arguments: tuple) -> None:
    if _seen is None:
        return
    is_writing = (
        event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    )
    if event in WATCHED or is_writing:
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_watch)


@contextmanager
def nothing_run() -> Iterator[None]:
    """Python reports what code could do to this machine; while a file is read, it must be nothing."""
    global _seen
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


def test_the_watch_sees_what_it_should(tmp_path: Path):
    with pytest.raises(AssertionError, match="open"), nothing_run():
        (tmp_path / "x").write_text("x")


@functools.cache
def original() -> Toy:
    return simulated()


def read_anything(
    change: Callable[[bytes], bytes], whole: Callable[[Path], Path], reader: Callable[[Path], Any]
) -> None:
    """A file is written whole, changed, and read: whatever happens is documented."""
    with tempfile.TemporaryDirectory() as folder:
        path = whole(Path(folder) / "changed")
        path.write_bytes(change(path.read_bytes()))
        with nothing_run():
            try:
                reader(path)
            except (ValueError, KeyError, RuntimeError, FileNotFoundError) as error:
                assert "changed" in str(error), error


def _write(part: str, form: str, path: Path) -> Path:
    return write(getattr(original(), part), form, path)


def _read(part: str, form: str, path: Path) -> Any:
    return read(getattr(original(), part), form, path)


def _save(path: Path) -> Path:
    original().save(path)
    return path


def readers(*forms: str) -> list[Any]:
    found = [
        pytest.param(
            functools.partial(_write, part, form),
            functools.partial(_read, part, form),
            id=f"{part}-{form}",
        )
        for part in PARTS
        for form in forms
    ]
    return [*found, pytest.param(_save, Toy.load, id="model")]


@st.composite
def damage(draw: Any) -> Callable[[bytes], bytes]:
    """Parts of a file cut out, repeated, or replaced."""
    cuts = draw(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=3))
    pieces = st.one_of(
        st.binary(max_size=6), st.sampled_from([b"nan", b"-1", b"{", b"]", b",", b'"', b"1e999"])
    )
    puts = draw(st.lists(pieces, min_size=3, max_size=3))

    def apply(content: bytes) -> bytes:
        for (start, length), put in zip(cuts, puts, strict=False):
            at = int(start * len(content))
            content = content[:at] + put + content[at + int(length**8 * len(content)) :]
        return content

    return apply


@few
@pytest.mark.parametrize(("whole", "reader"), readers(*FORMS))
@given(change=damage())
def test_damaged_files(whole, reader, change):
    read_anything(change, whole, reader)


@few
@pytest.mark.parametrize(("whole", "reader"), readers(*FORMS))
@given(content=st.binary(max_size=60))
@example(content=b'\x80\x04c__builtin__\neval\n(S\'open("/tmp/x", "w")\'\ntR.')
@example(content=b"[" * 50_000)
@example(content=b"1" * 10_000)
def test_bytes_of_any_kind(whole, reader, content):
    read_anything(lambda _: content, whole, reader)


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        texts,
        st.sampled_from(["torch.load", "__import__('os').system('true')", "$tensor", "cuda"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.one_of(texts, st.sampled_from(["$tuple", "$tensor", "$items", "$set", "dtype"])),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=4,
)


@many
@pytest.mark.parametrize(("whole", "reader"), readers("json"))
@given(value=values, data=st.data())
def test_json_of_another_structure(whole, reader, value, data):
    """One entry, at any depth, is something else."""

    def change(text: bytes) -> bytes:
        root: dict[Any, Any] = {"": json.loads(text)}
        target, key = root, ""
        while isinstance(target[key], dict | list) and target[key] and data.draw(st.booleans()):
            target = target[key]
            keys = list(target) if isinstance(target, dict) else list(range(len(target)))
            key = data.draw(st.sampled_from(keys))
        target[key] = value
        return json.dumps(root[""]).encode()

    read_anything(change, whole, reader)


# The bridge -----------------------------------------------------------------------------------

shapes = st.sampled_from([(), (1,), (3,), (2, 3)])


@many
@given(
    dtype=st.sampled_from([torch.float32, torch.float64, torch.int32, torch.int64, torch.bool]),
    shape=shapes,
    data=st.data(),
)
def test_arrays_cross_the_bridge_and_come_back(dtype, shape, data):
    size = math.prod(shape)
    elements = {
        torch.bool: st.booleans(),
        torch.int32: st.integers(-(2**31), 2**31 - 1),
        torch.int64: st.integers(-(2**63), 2**63 - 1),
        torch.float32: st.floats(width=32),
    }.get(dtype, st.floats())
    flat = data.draw(st.lists(elements, min_size=size, max_size=size))
    tensor = torch.tensor(flat, dtype=dtype).reshape(shape)
    array = to_jax(tensor)
    assert array.shape == shape
    np.testing.assert_array_equal(np.asarray(array), tensor.numpy())
    back = to_torch(array)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.numpy(), tensor.numpy())


@torch_function
def polynomial(tree):
    return jnp.sum(tree["w"] * tree["x"] ** 2) + 3.0 * jnp.sum(tree["w"])


@few
@given(shape=shapes, data=st.data())
def test_functions_across_the_bridge_have_the_derivatives_of_the_formula(shape, data):
    size = math.prod(shape)
    small = st.lists(st.floats(-1e3, 1e3), min_size=size, max_size=size)
    w, x = (
        torch.tensor(data.draw(small), dtype=torch.float64).reshape(shape).requires_grad_()
        for _ in range(2)
    )
    total = polynomial({"w": w, "x": x})
    terms = [w * (x * x + 3.0) for w, x in zip(w.reshape(-1), x.reshape(-1), strict=True)]
    scale = 1 + sum(abs(term.item()) for term in terms)
    assert total.item() == pytest.approx(sum(term.item() for term in terms), abs=1e-13 * scale)
    total.backward()
    assert w.grad is not None and x.grad is not None
    # JAX rounds subnormal numbers to 0.
    close = functools.partial(torch.testing.assert_close, rtol=1e-14, atol=1e-300)
    close(w.grad, (x * x + 3.0).detach())
    close(x.grad, (2 * w * x).detach())
