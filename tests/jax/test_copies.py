"""Models, parameters and paths as bytes and as copies: the same model, which runs to the same path."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from macrostat_jax import Axis, Model, Record, Scalar, Vector, index, param, simulate
from macrostat_jax.sample import _transport

FIRM = Axis("firm", size=3)


class Params(Record):
    growth: Scalar = param(0.5)
    size: Vector = param(1.0, shape=FIRM)


class Nothing(Record):
    pass


class State(Record):
    output: Vector = index("y", shape=FIRM)


def begin(params, scenario):
    return State.filled(0.0)


def grow(prior, params, scenario, *, floor=0.0):
    return State(output=params.growth * prior.output + params.size + floor)


FIRMS = Model("FIRMS", Params, Nothing, State, begin, grow, periods=4)
VARIANTS = {
    "declared": FIRMS,
    "configured": FIRMS.configure(floor=2.0),
    "resized": FIRMS.resize(firm=5),
    "twice": FIRMS.resize(firm=5).resize(firm=2).configure(floor=1.0),
}
WAYS: dict[str, Any] = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "deepcopy": copy.deepcopy,
    "workers": lambda thing: _transport.load(
        _transport.digest(content := _transport.dumps(tuple, [thing])), content
    )[0],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_copies_run_to_the_same_path(variant, way):
    model = VARIANTS[variant]
    copied, params = WAYS[way]((model, model.params(growth=0.25)))
    assert dict(copied.options) == dict(model.options) and repr(copied) == repr(model)
    path = simulate(model, model.params(growth=0.25))
    np.testing.assert_array_equal(simulate(copied, params).output, path.output)
    # What was copied is of the model itself, too: a path that a worker sends back goes on here.
    last = WAYS[way](path)[-1]
    again = simulate(model, params, initial=last)
    np.testing.assert_array_equal(again.output, simulate(model, params, initial=path[-1]).output)
    with pytest.raises(TypeError):
        copied.options["floor"] = 3.0


def test_the_same_sizes_are_the_same_records():
    assert FIRMS.resize(firm=5).State is FIRMS.configure(floor=3.0).resize(firm=5).State
    assert FIRMS.resize(firm=5).Scenario is Nothing


def test_threads_that_ask_for_a_variant_at_once_get_one():
    found = []
    together = threading.Barrier(8)

    def ask():
        together.wait()
        found.append(FIRMS.configure(floor=7.0))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1 and len(found) == 8
