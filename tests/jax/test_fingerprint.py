"""Fingerprints of code: what functions use of collections and objects counts, what decides nothing does not."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import jax
import numpy as np
import pytest

from macrostat_jax import _fingerprint


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
    ],
)
def test_a_fingerprint_sees_what_collections_and_objects_hold(source, old, new):
    assert source != source.replace(old, new)
    given = {"Weights": Weights, "np": np}
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
