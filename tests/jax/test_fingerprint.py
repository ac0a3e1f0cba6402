"""Fingerprints of code: what functions use of collections and objects counts, what decides nothing does not."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
import sys
from typing import Any

import jax
import numpy as np
import pytest

from macrostat_jax import Axis, Record, Scalar, _fingerprint, param


def made(source: str, **globals: Any) -> Any:
    namespace: dict[str, Any] = {"__name__": "somewhere", "jax": jax, **globals}
    exec(source, namespace)
    return namespace["f"]


@dataclasses.dataclass
class Weights:
    w: Any


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        ("W = {'a': 1.0}\ndef f(x):\n    return x * W['a']", "1.0", "2.0"),
        ("W = {'a': [1.0]}\ndef f(x):\n    return x * W['a'][0]", "1.0", "2.0"),
        ("@jax.jit\ndef g(x):\n    return x + 1\ndef f(x):\n    return g(x)", "+ 1", "- 1"),
        ("W = Weights({'a': np.ones(2)})\ndef f(x):\n    return x * W.w['a']", "ones", "zeros"),
        ("class A:\n    pass\nW = A()\nW.w = 1.0\ndef f(x):\n    return x * W.w", "1.0", "2.0"),
        ("W = {'b', 'a'}\ndef f(x):\n    return x if 'a' in W else 0", "'a'}", "'c'}"),
        ("def g(w):\n    return lambda x: x * w['a']\nf = g({'a': 1.0})", "1.0", "2.0"),
        ("k = jax.random.key(1)\ndef f(x):\n    return jax.random.normal(k)", "key(1)", "key(2)"),
        ("def f(x):\n    return x[..., 1:3]", "1:3", "1:4"),
        ("W = [[N], N]\ndef f(x):\n    return W", "[N], N", "[N, N]"),
    ],
)
def test_a_fingerprint_sees_what_collections_and_objects_hold(source, old, new):
    assert source != source.replace(old, new)
    given = {"Weights": Weights, "np": np, "N": np.ones(1)}
    first = _fingerprint.of_code(made(source, **given))
    assert first == _fingerprint.of_code(made(source, **given))
    assert first != _fingerprint.of_code(made(source.replace(old, new), **given))


def test_a_fingerprint_leaves_out_what_decides_nothing():
    """Globals that have the name of an attribute, or that nobody uses; the state of a logger."""
    source = "def f(path):\n    log.debug('here')\n    return path.wealth"
    log = logging.getLogger("somewhere")
    code = [
        _fingerprint.of_code(made(source, wealth=value, log=log, other=value)) for value in (1, 2)
    ]
    log.setLevel("ERROR")
    assert len({*code, _fingerprint.of_code(made(source, log=log))}) == 1


def test_numbers_and_objects_that_change_places_are_seen():
    numbers = [f"def f(x):\n    return x * {a} + {b}" for a, b in ((1, 23), (12, 3))]
    tables = [f"def g(x):\n    return x\ndef h(x):\n    return -x\nW = [g, h, {c}]" for c in "gh"]
    for one, other in (numbers, [f"{t}\ndef f(x):\n    return W[2](x)" for t in tables]):
        assert _fingerprint.of_code(made(one)) != _fingerprint.of_code(made(other))


def test_what_a_decorator_or_a_rule_does_is_seen():
    wraps = "def by(k):\n    def d(g):\n        @functools.wraps(g)\n        def h(x):\n"
    wraps += "            return k * g(x)\n        return h\n    return d\n"
    rule = "@jax.custom_jvp\ndef f(x):\n    return x\n"
    for source, old, new in (
        (wraps + "@by(2)\ndef f(x):\n    return x", "by(2)", "by(3)"),
        (wraps + "@by(2)\ndef f(x):\n    return x", "k * g", "k + g"),
        ("def g(x, y):\n    return x\nf = functools.update_wrapper(functools.partial(g, y=2), g)", "=2", "=3"),
        (rule + "@f.defjvp\ndef r(x, dx):\n    return f(*x), 2 * dx[0]", "2 *", "3 *"),
        ("@functools.partial(jax.vmap, in_axes=0)\ndef f(x):\n    return x", "in_axes=0", "in_axes=1"),
    ):  # fmt: skip
        first, same, other = (
            _fingerprint.of_code(made(text, functools=functools))
            for text in (source, source, source.replace(old, new))
        )
        assert first == same != other


def test_a_dataset_that_is_closed_over_is_no_error():
    xarray = pytest.importorskip("xarray")
    given = xarray.Dataset({"a": ("x", np.ones(2))})
    _fingerprint.of_code(made("def f(x):\n    return W['a'].values * x", W=given))


TREE = {
    "project/__init__.py": "",
    "project/top.py": """
import dataclasses
import numpy as np
import project.constants
from project import rates
from project.rates import halved
from .parts import Helper, Kind

@dataclasses.dataclass(frozen=True)
class Keep:
    helper: Helper = Helper(2.0)

    def __call__(self, path):
        return self.helper.of(path) + rates.doubled(path) + halved(path)

def other(path):
    from .late import third
    return Kind(path).value() + Helper.classed(path) + np.mean(path) + project.constants.SHIFT + third(path)
""",
    "project/rates.py": """
from . import parts
TABLE = {"a": [1.0, 2.0]}
def doubled(x):
    return 2 * inner(x)
def inner(x):
    return x + parts.deep(x)
def halved(x):
    return x * TABLE["a"][1]
def unused(x):
    return 6
""",
    "project/parts.py": '''
import functools
from . import rates
class Base:
    FACTOR = 4.0
    def scaled(self, x):
        return x * self.FACTOR
class Helper(Base):
    """What helps."""
    def __init__(self, by):
        self.by = by
    def of(self, x):
        return self.scaled(x) ** self.power
    @property
    def power(self):
        return 5 + self.by
    @classmethod
    def classed(cls, x):
        return x - 7
    @staticmethod
    def static(x):
        return x - 8
    @functools.cached_property
    def cached(self):
        return 9 * self.by
class Kind:
    __slots__ = ("path",)
    def __init__(self, path):
        self.path = path
    def value(self):
        return self.path / 11
def deep(x):
    return rates.doubled(x) if x is None else 12 * x
''',
    "project/constants.py": "SHIFT = 13.0\nOTHER = 1\n",
    "project/late.py": "def third(x):\n    return x + 14\n",
}


def fingerprints(folder, monkeypatch, tree):
    """Of both functions, of a project as this process finds it."""
    for name, text in tree.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for name in [name for name in sys.modules if name.partition(".")[0] == "project"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    top = importlib.import_module("project.top")
    importlib.import_module("project.late")  # as the run does
    keep = top.Keep()
    assert keep.helper.cached > 0  # which is in the object from now on
    return _fingerprint.of_code(keep), _fingerprint.of_code(top.other)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield fingerprints(tmp_path_factory.mktemp("original"), patch, TREE)


@pytest.mark.parametrize(
    ("file", "old", "new", "seen"),
    [
        ("rates", "return 2 *", "return 3 *", (True, False)),  # by a cycle of modules
        ("rates", "x + parts", "x - parts", (True, False)),
        ("rates", "2.0]", "2.5]", (True, False)),
        ("rates", "return 6", "return 66", (False, False)),
        ("parts", "12 * x", "13 * x", (True, False)),
        ("parts", "FACTOR = 4.0", "FACTOR = 5.0", (True, True)),
        ("parts", "x * self", "x / self", (True, True)),
        ("parts", "5 + self", "6 + self", (True, True)),
        ("parts", "x - 7", "x - 6", (True, True)),
        ("parts", "x - 8", "x - 6", (True, True)),
        ("parts", "9 * self.by", "8 * self.by", (True, True)),
        ("parts", "path / 11", "path / 12", (False, True)),
        ("parts", '"What helps."', '"What helps much."', (False, False)),
        ("top", "Helper(2.0)", "Helper(3.0)", (True, False)),
        ("constants", "13.0", "14.0", (False, True)),
        ("constants", "OTHER = 1", "OTHER = 2", (False, False)),
        ("late", "14", "15", (False, True)),
    ],
)
def test_other_modules_of_the_user_are_followed(
    tmp_path, monkeypatch, original, file, old, new, seen
):
    name = f"project/{file}.py"
    assert old in TREE[name]
    changed = fingerprints(tmp_path, monkeypatch, TREE | {name: TREE[name].replace(old, new)})
    assert tuple(a != b for a, b in zip(original, changed, strict=True)) == seen


def test_the_same_project_elsewhere_is_the_same(tmp_path, monkeypatch, original):
    assert fingerprints(tmp_path, monkeypatch, TREE) == original


def test_libraries_are_not_followed(tmp_path, monkeypatch):
    folder = tmp_path / "site-packages"
    folder.mkdir()
    found = [
        fingerprints(folder, monkeypatch, TREE | {"project/rates.py": text})
        for text in (TREE["project/rates.py"], TREE["project/rates.py"].replace("2 *", "3 *"))
    ]
    assert found[0] == found[1]


def test_methods_of_records_count_and_units_do_not():
    source = """
class Params(Record):
    rate: Scalar = param(0.5, unit="per year")
    @property
    def twice(self):
        return 2 * self.rate
def f(prior, params):
    return params.twice
"""
    given = {"Record": Record, "Scalar": Scalar, "param": param, "__name__": __name__}

    def of(text: str) -> str:
        function = made(text, **given)
        return _fingerprint.of_code(function, function.__globals__["Params"])

    assert of(source) == of(source.replace("per year", "per month"))
    assert of(source) != of(source.replace("2 * self", "3 * self"))


class Crowd(Record):
    wealth: Any = param(1.0, shape=Axis("agent", size=2))


def crowd(x):
    return Crowd.filled(x)


def test_a_record_that_was_resized_is_the_same_code():
    before = _fingerprint.of_code(crowd)
    Crowd.resized({"agent": 3})
    assert _fingerprint.of_code(crowd) == before
