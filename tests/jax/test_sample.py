"""Designs and sweeps: against scipy, and against runs one by one."""

from __future__ import annotations

import functools
import json
import sys
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import macrostat_jax as ms
from macrostat_jax import (
    AddingUp,
    Matrix,
    Model,
    Record,
    Scalar,
    Vector,
    _fingerprint,
    _store,
    exogenous,
    index,
    models,
    param,
    sample,
    simulate,
)

SIM = models.GL06SIM
SIM_BOUNDS = {"tax_rate": (0.1, 0.3), "PropensityToConsumeIncome": (0.4, 0.8)}


class Params(Record):
    rate: Scalar = param(0.5, bounds=(0, 2))
    share: Vector = param((0.2, 0.3, 0.5), bounds=(0, 1), shape=3)
    table: Matrix = param(1.0, bounds=(-1, 1), shape=(2, 2))
    open: Scalar = param(1.0)


class Scenario(Record):
    g: Scalar = exogenous(1.0)


class State(Record):
    x: Scalar = index("x")
    parts: Vector = index("parts", shape=3)
    corner: Scalar = index("corner")


def start(params, scenario):
    return State.filled(0.0)


def step(prior, params, scenario):
    return State(
        x=params.rate * prior.x + scenario.g,
        parts=params.share * params.open,
        corner=params.table[0, 1],
    )


TOY = Model(
    "TOY",
    Params,
    Scenario,
    State,
    start,
    step,
    constraints=(AddingUp(("share[0]", "share[1]", "share[2]")),),
    periods=20,
)


def noisy_step(prior, params, scenario, key):
    drawn = jax.random.normal(key, (), prior.x.dtype)
    return State.filled(0.0).replace(x=params.rate * prior.x + drawn)


NOISY = Model("NOISY", Params, Scenario, State, start, noisy_step, periods=8)


def income(path):
    return path.national_income[-1]


# Designs


def test_sobol_is_scipys_between_the_bounds():
    design = sample.sobol(SIM, 16, SIM_BOUNDS, seed=3)
    unit = stats.qmc.Sobol(2, rng=3).random_base2(4)
    assert design.names == ("tax_rate", "propensity_to_consume_income")
    expected = stats.qmc.scale(unit, [0.1, 0.4], [0.3, 0.8])
    np.testing.assert_allclose(design.points, expected, rtol=1e-15, atol=0)
    assert json.loads(json.dumps(dict(design.origin)))["kind"] == "sobol"


@pytest.mark.parametrize("kind", sample.KINDS)
def test_designs_fill_their_bounds_and_depend_on_the_seed_alone(kind):
    draw = functools.partial(getattr(sample, kind), SIM, 64, SIM_BOUNDS)
    first, again, other = draw(seed=1), draw(seed=1), draw(seed=2)
    assert np.array_equal(first.points, again.points)
    assert not np.array_equal(first.points, other.points)
    low, high = np.array([(0.1, 0.4), (0.3, 0.8)])
    assert (first.points >= low).all() and (first.points <= high).all()
    # 64 uniform draws: the mean is off by 0.29 / 8 of the range at one standard deviation.
    assert np.abs((first.points - low) / (high - low) - 0.5).mean(0) == pytest.approx(0.25, abs=0.1)
    assert first.points.mean(0) == pytest.approx([0.2, 0.6], abs=0.05)


def test_a_latin_hypercube_has_a_point_in_every_stratum():
    points = sample.latin_hypercube(SIM, 50, {"tax_rate": (0.0, 1.0)}).points[:, 0]
    assert sorted(np.floor(points * 50).astype(int)) == list(range(50))


def test_a_grid_holds_all_combinations():
    design = sample.grid(SIM, {"tax_rate": 3, "propensity_to_consume_income": 2}, SIM_BOUNDS)
    expected = [[t, c] for t in (0.1, 0.2, 0.3) for c in (0.4, 0.8)]
    np.testing.assert_allclose(design.points, expected, rtol=1e-15)
    logs = sample.grid(SIM, 3, {"tax_rate": (0.01, 1.0)}, log=True)
    np.testing.assert_allclose(logs.points[:, 0], [0.01, 0.1, 1.0], rtol=1e-14)


def test_log_space_is_uniform_in_the_logarithm():
    bounds = {"rate": (0.01, 1.0), "table[0,1]": (-0.9, -0.001), "open": (1.0, 2.0)}
    design = sample.sobol(TOY, 256, bounds, log=["rate", "table[0,1]"])
    unit = stats.qmc.Sobol(3, rng=0).random_base2(8)
    expected = [
        10.0 ** (-2 + 2 * unit[:, 0]),
        -stats.loguniform(0.001, 0.9).ppf(1 - unit[:, 1]),
        1 + unit[:, 2],
    ]
    np.testing.assert_allclose(design.points.T, expected, rtol=1e-12)
    assert design.origin["log"] == ["rate", "table[0,1]"]


def test_by_default_every_free_parameter_is_sampled():
    assert sample.sobol(SIM, 4).names == tuple(SIM.Params.fields)
    with pytest.raises(ValueError, match=r"'open' has the bounds \(-inf, inf\): pass finite ones"):
        sample.sobol(TOY, 4)
    names = sample.sobol(TOY, 4, {"share[1]": (0.0, 0.5), "table": (0.0, 1.0)}).names
    assert names == ("share[1]", "table[0,0]", "table[0,1]", "table[1,0]", "table[1,1]")


@pytest.mark.parametrize(
    ("bounds", "options", "error", "message"),
    [
        ({"tax": (0, 1)}, {}, KeyError, "'tax' is not in"),
        ({"rate": (0.5, 0.1)}, {}, ValueError, "'rate' must be in order"),
        ({"rate": (0.1, 0.1)}, {}, ValueError, "must be in order"),
        ({"rate": (0.1, float("nan"))}, {}, ValueError, "pass finite ones"),
        (
            {"rate": (0.1, 3.0)},
            {},
            ValueError,
            r"\(0.1, 3\) of 'rate' exceed those of TOY, \(0, 2\)",
        ),
        ({"rate": 0.1}, {}, ValueError, r"a pair \(low, high\), not 0.1"),
        ({"rate": (0.0, 1.0)}, {"log": True}, ValueError, "one sign: 'rate'"),
        ({"rate": (0.1, 1.0)}, {"log": "open"}, KeyError, "open.*does not sample"),
        ({"share[3]": (0, 1)}, {}, KeyError, r"'share\[3\]' does not exist"),
        ({"rate[0]": (0, 1)}, {}, KeyError, "does not exist"),
        ({"share[2]": (0, 1)}, {}, ValueError, "derived by an adding-up constraint"),
        ({}, {}, ValueError, "needs a parameter"),
    ],
)
def test_bounds_that_cannot_be_sampled(bounds, options, error, message):
    with pytest.raises(error, match=message):
        sample.random(TOY, 4, bounds, **options)


def test_sizes_that_cannot_be_drawn():
    with pytest.raises(ValueError, match="512 or 1024 points, not 1000"):
        sample.sobol(SIM, 1000)
    for n in (0, 2.5, True):
        with pytest.raises(ValueError, match="whole number of points"):
            sample.random(SIM, n)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="steps takes a number of at least 2"):
        sample.grid(SIM, {"tax_rate": 3}, SIM_BOUNDS)


def test_points_of_ones_own():
    design = sample.Design(("rate",), np.array([[0.1], [0.2], [0.3]]))
    assert len(design) == 3 and len(design[1:]) == 2 and "3 points, given" in repr(design)
    assert design.to_pandas()["rate"].tolist() == [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match=r"have the shape \(n, 1\), not \(3,\)"):
        sample.Design(("rate",), np.ones(3))
    with pytest.raises(ValueError, match="every parameter once"):
        sample.Design(("rate", "rate"), np.ones((3, 2)))
    with pytest.raises(ValueError, match="must lie in its bounds"):
        sample.Design(("rate",), np.array([[5.0]])).params(TOY)
    with pytest.raises(ValueError, match="name its elements"):
        sample.Design(("share",), np.array([[0.5]])).params(TOY)


def test_what_is_not_sampled_comes_from_the_base_and_constraints_hold():
    points = np.array([[0.1, -0.5], [0.4, 0.5]])
    design = sample.Design(("share[1]", "table[1,0]"), points)
    params = design.params(TOY, TOY.params(rate=0.9, share=(0.6, 0.2, 0.2)))
    assert params.rate == 0.9
    expected = [[0.6, 0.1, 0.3], [0.6, 0.4, 0.0]]
    np.testing.assert_allclose(params.share, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(params.table, [[[1, 1], [-0.5, 1]], [[1, 1], [0.5, 1]]])


def test_a_derived_parameter_out_of_its_bounds_is_refused():
    design = sample.grid(TOY, 3, {"share[0]": (0.0, 1.0), "share[1]": (0.0, 1.0)})
    with pytest.raises(ValueError, match=r"3 of 9 points \(the first is 5\) drive 'share\[2\]'"):
        design.params(TOY)


# Sweeps


@pytest.mark.parametrize("chunk", [None, 1, 7, 8, 40, 64])
def test_runs_are_those_of_simulate_whatever_the_chunk(chunk):
    design = sample.random(SIM, 40, SIM_BOUNDS)
    found = sample.sweep(SIM, design, keep=income, chunk=chunk)
    assert found.values.shape == (40,) and found.values.dtype == np.float64
    names = design.names
    for point, value in zip(design.points[::9], found.values[::9], strict=True):
        one = simulate(SIM, SIM.params(**dict(zip(names, point, strict=True))))
        assert value == pytest.approx(float(one.national_income[-1]), rel=1e-13)
    assert len(found) == 40 and "40 runs, 0 of them not finite" in repr(found)


def test_the_steady_state_of_sim_in_closed_form():
    design = sample.grid(SIM, 5, {"tax_rate": (0.2, 0.4)})
    found = sample.sweep(SIM, design, keep=income, periods=400)
    np.testing.assert_allclose(found.values, 20 / design.points[:, 0], rtol=1e-12)


def test_whole_paths_are_time_major():
    design = sample.sobol(TOY, 8, {"rate": (0.1, 0.9)})
    found = sample.sweep(TOY, design, chunk=3)
    assert found.axis == 1 and found.values.parts.shape == (20, 8, 3) and len(found) == 8
    rate = design.points[:, 0]
    np.testing.assert_allclose(found.values.x[2], 1 + rate + rate**2, rtol=1e-14)
    assert ms.to_xarray(found.values).sizes == {"time": 20, "batch": 8, "dim_0": 3}
    with pytest.raises(ValueError, match="to_xarray"):
        found.to_pandas()


def test_a_function_may_keep_any_tree():
    def keep(path):
        return {"last": path[-1], "mean": path.x.mean(), "late": path.parts[-2:].sum(axis=0)}

    found = sample.sweep(TOY, sample.sobol(TOY, 4, {"rate": (0.1, 0.9)}), keep=keep, chunk=2)
    assert found.values["late"].shape == (4, 3) and found.values["last"].x.shape == (4,)
    table = found.to_pandas()
    assert list(table.columns[:2]) == ["rate", "last.x"] and "late[2]" in table
    np.testing.assert_array_equal(table["mean"], found.values["mean"])


def test_scenarios_initial_states_and_shocks_in_batches():
    demand = np.linspace(1.0, 2.0, 5)
    scenario = TOY.scenario().replace(g=np.repeat(demand[:, None], 20, axis=1))
    found = sample.sweep(TOY, TOY.params(), scenario, keep=lambda path: path.x[0], chunk=2)
    np.testing.assert_array_equal(found.values, demand)
    initial = State.filled(0.0).replace(x=demand)
    found = sample.sweep(TOY, TOY.params(), initial=initial, keep=lambda path: path.x[0])
    np.testing.assert_array_equal(found.values, 1 + 0.5 * demand)
    with pytest.raises(ValueError, match="batch sizes differ"):
        sample.sweep(TOY, sample.sobol(TOY, 4, {"rate": (0.1, 0.9)}), scenario)
    with pytest.raises(ValueError, match="with a batch axis"):
        sample.sweep(TOY, TOY.params())


def test_random_models_take_one_key_or_one_for_each_run():
    design = sample.grid(NOISY, 6, {"rate": (0.1, 0.1001)})
    last = functools.partial(sample.sweep, NOISY, design, keep=lambda path: path.x[-1], chunk=4)
    common = last(key=jax.random.key(0)).values
    assert np.ptp(common) < 1e-3
    keys = jax.random.split(jax.random.key(0), 6)
    own = last(key=keys).values
    assert np.ptp(own) > 0.1
    one = simulate(NOISY, NOISY.params(rate=design.points[4, 0]), key=keys[4])
    assert own[4] == pytest.approx(float(one.x[-1]), rel=1e-13)


def test_one_program_serves_all_chunks_and_values():
    def keep(path):
        return path.x[-1]

    design = sample.random(TOY, 50, {"rate": (0.1, 0.9)})
    sample.sweep(TOY, design, keep=keep, chunk=16)
    with ms.count_compilations() as count:
        sample.sweep(TOY, design[:33], keep=keep, chunk=16)
        sample.sweep(TOY, sample.random(TOY, 200, {"rate": (0.1, 0.9)}), keep=keep, chunk=16)
    assert count.count == 0


def test_runs_that_diverge_are_marked_and_kept():
    design = sample.Design(("rate", "open"), np.array([[0.5, 1.0], [2.0, 1.0], [0.5, 1e308]]))
    found = sample.sweep(
        TOY, design, keep=lambda path: (path.x[-1], path.parts[-1].sum() * 10), periods=1100
    )
    assert found.finite.tolist() == [True, False, False]
    assert "3 runs, 2 of them not finite" in repr(found)
    assert found.values[0][1] == np.inf


def test_float32_stays_float32(float32):
    design = sample.sobol(SIM, 8, SIM_BOUNDS)
    assert sample.sweep(SIM, design, keep=income).values.dtype == np.float32


def test_chunks_stay_within_the_memory_for_them(monkeypatch):
    size = functools.partial(sample.chunk_size, run_bytes=1000)
    assert size(10**6, chunk=300) == 300
    assert size(5, chunk=300) == 8
    monkeypatch.setattr(sample._chunks, "CHUNK_BYTES", 100_000)
    assert size(10**6) == 64
    assert sample.chunk_size(10**6, 10**9) == 1
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="chunk must be"):
            size(10, chunk=wrong)  # pyright: ignore[reportArgumentType]


def test_progress_counts_runs(monkeypatch, capsys):
    made = []

    class Bar:
        def __init__(self, total, desc):
            self.at, self.total, self.open = 0, total, True
            made.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.open = False

        def update(self, n):
            self.at += n

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    design = sample.random(TOY, 50, {"rate": (0.1, 0.9)})
    sample.sweep(TOY, design, keep=lambda path: path.x[-1], chunk=16, progress=True)
    assert [(bar.at, bar.total, bar.open) for bar in made] == [(50, 50, False)]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    sample.sweep(TOY, design, keep=lambda path: path.x[-1], progress=True)
    assert "pip install tqdm" in capsys.readouterr().err


def test_what_goes_wrong_while_results_are_put_in_place_is_an_error(monkeypatch):
    def fail(*_: Any) -> None:
        raise OSError("no room")

    monkeypatch.setattr("macrostat_jax.sample._program.place", fail)
    design = sample.random(TOY, 50, {"rate": (0.1, 0.9)})
    for block in (16, 64):
        with pytest.raises(OSError, match="no room"):
            sample.sweep(TOY, design, block=block)


# Stores of results


def test_a_store_knows_what_is_finished(tmp_path):
    store = _store.Store(tmp_path / "new", {"n": 2}, "out_*")
    assert not store.is_finished(0) and not (tmp_path / "new").exists()
    with _store.replacing(tmp_path / "new" / "out_0") as path:
        path.write_text("result")
    store.finish(0, ["out_0", "never_written"])
    again = _store.Store(tmp_path / "new", {"n": 2}, "out_*")
    assert again.is_finished(0) and not again.is_finished(1)
    (tmp_path / "new" / "out_0").write_text("res")  # torn
    assert not again.is_finished(0)


def test_a_store_of_another_design_is_refused_by_name(tmp_path):
    store = _store.Store(tmp_path, {"a": 1, "bounds": {"x": [0, 1]}, "gone": 1}, "out_*")
    store.begin()
    # Nothing is finished: nothing would be lost.
    _store.Store(tmp_path, {"a": 2}, "out_*")
    store.finish(0, [])
    with pytest.raises(ValueError, match="another design") as error:
        _store.Store(tmp_path, {"a": 1, "bounds": {"x": [0, 2]}, "new": 1}, "out_*")
    lines = str(error.value).splitlines()[1:-1]
    assert [line.strip() for line in lines] == [
        "bounds.x: [0, 1] there, [0, 2] here",
        "new: nothing there, 1 here",
        "gone: 1 there, nothing here",
    ]
    (tmp_path / _store.MANIFEST).write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        _store.Store(tmp_path, {"a": 1}, "out_*")


def test_results_of_unknown_origin_are_left_alone(tmp_path):
    (tmp_path / "out_0").touch()
    with pytest.raises(ValueError, match="unknown origin"):
        _store.Store(tmp_path, {}, "out_*")


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), _store.replacing(tmp_path / "file") as path:
        path.write_text("half of the n")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def compiled(source: str) -> Any:
    namespace: dict[str, Any] = {"__name__": "somewhere"}
    exec(source, namespace)
    return namespace["f"]


BASE = "ALPHA = 0.5\ndef helper(x):\n    return x + 1\ndef f(x, y=2):\n    return helper(x) * ALPHA + 3\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [("+ 3", "+ 4"), ("0.5", "0.6"), ("x + 1", "x - 1"), ("y=2", "y=3"), ("* ALPHA", "/ ALPHA")],
)
def test_a_fingerprint_of_code_sees_changes(old, new):
    changed = BASE.replace(old, new)
    assert changed != BASE
    fingerprint = _fingerprint.of_code(compiled(BASE))
    assert fingerprint != _fingerprint.of_code(compiled(changed))
    assert fingerprint == _fingerprint.of_code(compiled("# A comment.\n\n" + BASE))


def test_a_fingerprint_sees_what_a_function_closes_over():
    def scaled(by: Any) -> Any:
        return lambda x: x * by

    of = _fingerprint.of_code
    assert of(scaled(1.0)) == of(scaled(1.0)) != of(scaled(2.0))
    assert of(scaled(np.ones(3))) == of(scaled(np.ones(3))) != of(scaled(np.zeros(3)))
    assert of(functools.partial(max, 1)) != of(functools.partial(max, 2))
    array = jnp.arange(3.0)
    assert _fingerprint.of_array(array) != _fingerprint.of_array(array.astype(jnp.float32))
