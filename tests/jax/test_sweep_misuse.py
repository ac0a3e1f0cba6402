"""Designs and sweeps used wrongly, or in ways that nobody thought of: nothing is dropped in silence, and
errors come at the call."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import multiprocessing
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sweep_cases import BOUNDS, NOISY, TOY, keep

from macrostat_jax import Model, Record, Scalar, index, noise, param, sample
from macrostat_jax.sample import _folder, _memory

DESIGN = sample.random(TOY, 64, BOUNDS)
LAST = sample.Outcomes("x")


@pytest.fixture(autouse=True)
def libraries(request: pytest.FixtureRequest) -> None:
    """Those of folders are optional."""
    if "tmp_path" in request.fixturenames:
        pytest.importorskip("pyarrow")
        pytest.importorskip("zarr")


# Designs


@pytest.mark.parametrize(
    "make",
    [
        lambda: sample.sobol(TOY, 4, {"rate": (0, 1), "Rate": (1, 2)}),
        lambda: sample.grid(TOY, {"rate": 2, "Rate": 3}, {"rate": (0, 1)}),
        lambda: sample.sobol(TOY, 4, {"share": (0, 1), "share[0]": (0.1, 0.2)}),
        lambda: sample.Design(("rate", "Rate"), np.ones((2, 2))).params(TOY),
        lambda: sample.Design(("share[0]", "share[00]"), np.ones((2, 2))).params(TOY),
    ],
)
def test_two_names_of_one_parameter_are_refused(make):
    with pytest.raises(ValueError, match=r"TOY: '\S+' and '\S+' both mean '\S+'"):
        make()


def test_an_unknown_kind_of_design_is_no_sobol_sequence():
    for kind in ("grid", "sobl"):
        with pytest.raises(ValueError, match=f"one of sobol, .*, not '{kind}'"):
            sample.from_priors(TOY, 4, {"rate": Half()}, kind=kind)


class Half:
    def quantile(self, u):
        return u / 2


def test_a_prior_without_a_text_is_told_by_its_class():
    """The address of an object is another one in the process that resumes a sweep."""
    design = sample.from_priors(TOY, 4, {"rate": Half()})
    assert design.origin["priors"] == {"rate": "Half"}


def test_points_end_at_the_bounds():
    """0.1 + (3.3 - 0.1) is 3.3000000000000003, beyond what the model allows."""
    rng = np.random.default_rng(0)
    low, high = np.sort(rng.uniform(-3, 3, (2, 10_000)).round(2), axis=0)
    ends = [sample.scaled(np.array([0.0, 1.0]), a, b) for a, b in zip(low, high, strict=True)]
    assert (np.array(ends)[:, 1] <= high).all() and (np.array(ends)[:, 0] == low).all()


def test_no_runs_are_no_sweep():
    with pytest.raises(ValueError, match=r"TOY: the design over rate, .* has no points"):
        sample.sweep(TOY, DESIGN[:0], keep=keep)
    with pytest.raises(ValueError, match=r"TOY: there are no runs"):
        sample.sweep(TOY, TOY.params(), TOY.scenario().replace(g=np.ones((0, 20))), keep=keep)


def test_a_grid_that_no_memory_holds():
    bounds = {name: (0.0, 0.3) for name in ("rate", "share[0]", "share[1]")}
    with pytest.raises(
        ValueError, match=r"1000000 x 1000000 x 1000000 = 1e.18 points does not fit"
    ):
        sample.grid(TOY, 10**6, bounds)


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"Expected a model, for instance"):
        sample.sweep("TOY", DESIGN)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("transform", [jax.grad, jax.jit])
def test_a_sweep_is_no_part_of_another_program(transform):
    def total(rate):
        params = TOY.params().replace(rate=rate * jnp.ones(3))
        return sample.sweep(TOY, params, keep=LAST).values["x"].sum()

    with pytest.raises(TypeError, match=r"use simulate, which takes batches"):
        transform(total)(0.5)


def test_points_that_are_no_numbers():
    points = np.array([[0.1], [np.nan]])
    with pytest.raises(ValueError, match=r"'rate' must be finite"):
        sample.sweep(TOY, sample.Design(("rate",), points), keep=keep)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "a string .'default' is one., not None", {"scenarios": [None, "boom"]}),
        (TypeError, "a string .*, not 1", {"scenarios": {1: "boom", "1": "cut"}}),
        (TypeError, "a number of seeds, or which, not 3.0", {"seeds": 3.0}),
        (TypeError, "a number of seeds, or which, not True", {"seeds": True}),
        (ValueError, "at least one seed to cross with, not 0", {"seeds": 0, "scenarios": ["boom"]}),
    ],
)
def test_what_cannot_be_crossed(error, message, arguments):
    with pytest.raises(error, match=message):
        sample.cross(DESIGN, **arguments)


# What is kept


@dataclasses.dataclass
class Changing:
    by: float

    def __call__(self, path):
        return path.x[-1] * self.by


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (5, TypeError, "a function of a path, or names of variables, not a int"),
        ({"x": keep}, TypeError, "a function of a path, or names of variables, not a dict"),
        ((), ValueError, "keep names no variable; None keeps all"),
        (lambda path: None, ValueError, "keep returns no array"),
        (lambda path: {}, ValueError, "keep returns no array"),
        (lambda path: "x", TypeError, "not a valid JAX type"),
        (Changing(2.0), TypeError, r"must be hashable .*frozen=True"),
        (sample.sobol, TypeError, "missing"),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_what_cannot_be_kept(tmp_path, wrong, error, message, stored):
    out = tmp_path / "out" if stored else None
    with pytest.raises(error, match=message):
        sample.sweep(TOY, DESIGN, keep=wrong, out=out)
    assert not (tmp_path / "out").exists()


def test_names_given_by_an_iterator_are_kept_and_told(tmp_path):
    found = sample.sweep(TOY, DESIGN, keep=iter(["X"]), out=tmp_path)  # pyright: ignore[reportArgumentType]
    assert found.design["keep"] == ["x"] and list(found.to_xarray()) == ["x"]
    assert sample.sweep(TOY, DESIGN, keep=["x"], out=tmp_path).complete


@pytest.mark.parametrize(
    "returns",
    [
        lambda path: {"a": {"b": path.x[0]}, "a.b": path.x[1]},
        lambda path: {"a": path.x[:2], "a[0]": path.x[2]},
    ],
)
def test_two_of_one_name_are_refused(tmp_path, returns):
    with pytest.raises(ValueError, match=r"keep returns two .* of the name 'a.*': rename"):
        sample.sweep(TOY, DESIGN, keep=returns, out=tmp_path)
    found = sample.sweep(TOY, DESIGN, keep=returns)
    for table in (found.to_pandas, found.statistics):
        with pytest.raises(ValueError, match=r"of the name 'a.*': rename"):
            table()


@pytest.mark.parametrize("files", ["parquet", "zarr"])
def test_dimensions_of_one_name_and_other_sizes(tmp_path, files):
    """Two axes without names, two windows of time, and one axis twice."""

    def windows(path):
        return {"a": path[:4], "b": path[-8:], "square": jnp.outer(path.parts[-1], path.parts[-1])}

    found = sample.sweep(TOY, DESIGN, keep=windows).to_xarray()
    assert found["a.parts"].dims == ("run", "time", "dim_0")
    assert found["b.parts"].dims == ("run", "b.parts_1", "dim_0")
    stored = sample.sweep(TOY, DESIGN, keep=windows, files=files, out=tmp_path)
    assert stored.complete
    if files == "zarr":
        assert stored.to_xarray().identical(found)


def test_names_that_zarr_does_not_take(tmp_path):
    def shares(path):
        return {"x/parts": path.x[:, None] / path.parts}

    assert sample.sweep(TOY, DESIGN, keep=shares).to_xarray()["x/parts"].shape == (64, 20, 3)
    with pytest.raises(ValueError, match=r"'x/parts', which is no name in Zarr files"):
        sample.sweep(TOY, DESIGN, keep=shares, files="zarr", out=tmp_path / "zarr")
    assert sample.sweep(TOY, DESIGN, keep=shares, files="parquet", out=tmp_path / "table").complete


def test_flags_and_counts_have_statistics(tmp_path):
    def crossed(path):
        return {"high": path.x[-1] > 2.0, "periods": (path.x > 2.0).sum()}

    found = sample.sweep(TOY, DESIGN, keep=crossed)
    high = found.values["high"]
    assert high.dtype == bool and 0 < high.mean() < 1
    row = found.statistics().loc["high"]
    assert row["mean"] == high.mean() and row["max"] == 1.0
    assert row["std"] == pytest.approx(high.std(ddof=1), rel=1e-14)
    stored = sample.sweep(TOY, DESIGN, keep=crossed, out=tmp_path)
    assert stored.statistics().equals(found.statistics())
    assert stored.to_pandas().equals(found.to_pandas())


def test_complex_numbers_have_no_order_and_no_file(tmp_path):
    def spectrum(path):
        return {"f": jnp.fft.rfft(path.x)}

    with pytest.raises(TypeError, match=r"complex128 \(f\), which files do not hold"):
        sample.sweep(TOY, DESIGN, keep=spectrum, out=tmp_path)
    found = sample.sweep(TOY, DESIGN, keep=spectrum)
    np.testing.assert_allclose(found.values["f"][:, 0].imag, 0, atol=1e-12)
    with pytest.raises(TypeError, match=r"f\[0\] is complex"):
        found.statistics()


def test_half_precision_diverges_too():
    design = sample.Design(("rate",), np.array([[0.5], [2.0]]))
    found = sample.sweep(TOY, design, keep=lambda path: path.x[-1].astype("bfloat16"), periods=200)
    assert found.values.dtype == jnp.bfloat16 and found.diverged == 1


# Folders


def test_more_numbers_than_a_table_takes_are_a_table_all_the_same(tmp_path):
    def many(path):
        return {"path": path.x, "outer": jnp.outer(path.x, path.parts[:, 0]), "last": path.x[-1]}

    found = sample.sweep(TOY, DESIGN, keep=many, block=16)
    stored = sample.sweep(TOY, DESIGN, keep=many, block=16, chunk=32, out=tmp_path)
    assert stored.design["files"] == "zarr" and stored.to_xarray()["outer"].shape == (64, 20, 20)
    assert stored.to_pandas().equals(found.to_pandas())
    assert stored.to_pandas(["last", "path[3]"]).shape == (64, 2)
    assert stored.statistics().equals(found.statistics())
    labels = [[axis.get_ylabel() for axis in one.plot().axes] for one in (stored, found)]
    assert labels[0] == labels[1] and "last" in labels[0]


@pytest.mark.parametrize("files", ["parquet", "zarr"])
def test_columns_that_there_are_not(tmp_path, files):
    stored = sample.sweep(TOY, DESIGN, keep=LAST, files=files, out=tmp_path)
    assert list(stored.to_pandas(["x"])) == ["x"] and list(stored.to_xarray(["x"])) == ["x"]
    for read in (stored.to_pandas, stored.to_xarray):
        with pytest.raises(KeyError, match=r"'y' not found. There are: .*x"):
            read(["x", "y"])
        with pytest.raises(TypeError, match=r"takes several names"):
            read("x")
    with pytest.raises(ValueError, match=r"at least one variable"):
        stored.to_xarray([])


def test_options_of_a_folder_need_one(tmp_path):
    with pytest.raises(ValueError, match=r"name it with out="):
        sample.sweep(TOY, DESIGN, keep=keep, files="parquet")
    for retries in (-1, 1.5, True):
        with pytest.raises(ValueError, match=r"retries is a whole number"):
            sample.sweep(TOY, DESIGN, keep=keep, retries=retries)  # pyright: ignore[reportArgumentType]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file is a file: the results of a sweep are a folder"):
        sample.sweep(TOY, DESIGN, keep=keep, out=tmp_path / "file")


def test_a_block_is_taken_from_the_folder_where_a_chunk_is_given(tmp_path, monkeypatch):
    """What fits into a limit of memory is another block once the process holds something else."""
    options: dict[str, Any] = {"keep": LAST, "chunk": 64, "out": tmp_path, "memory": "1GB"}
    monkeypatch.setattr(_memory, "_account", lambda program, *_: program.block * 10**8)
    found = sample.sweep(TOY, DESIGN, **options)
    assert found.design["block"] < 64
    (tmp_path / "chunk_000000.parquet").unlink()
    monkeypatch.undo()
    assert sample.sweep(TOY, DESIGN, **options).design["block"] == found.design["block"]


def test_what_another_sweep_left_does_not_shape_this_one(tmp_path):
    few = DESIGN[:8]
    sample.sweep(TOY, few, keep=LAST, chunk=2, block=2, out=tmp_path)
    for path in tmp_path.glob("chunk_*"):
        path.unlink()
    (tmp_path / "_failed").mkdir()
    old = {"sweep": "other", "chunk": 0, "start": 0, "stop": 2, "error": "old", "attempts": 3}
    (tmp_path / "_failed" / "chunk_000000.json").write_text(json.dumps(old))
    assert sample.open(tmp_path).failed == {}
    found = sample.sweep(TOY, DESIGN, keep=LAST, out=tmp_path)
    assert found.design["chunk"] == 64 and found.failed == {}


def test_a_folder_that_another_sweep_takes_over_ends_this_one(tmp_path):
    """Its chunks are not failures, which would be recorded in the folder of the other."""

    def take_over(status):
        manifest = json.loads((tmp_path / "_manifest.json").read_text())
        (tmp_path / "_manifest.json").write_text(json.dumps(manifest | {"digest": "other"}))

    with pytest.raises(_folder.OtherSweep, match=r"has become the folder of another sweep"):
        sample.sweep(TOY, DESIGN, keep=LAST, chunk=16, out=tmp_path, progress=take_over)
    assert not (tmp_path / "_failed").exists()


def test_an_unreadable_remnant_is_in_nobodys_way(tmp_path, monkeypatch):
    sample.sweep(TOY, DESIGN, keep=LAST, out=tmp_path)
    (tmp_path / f"{_folder.WRITING}old").touch()
    monkeypatch.setattr(_folder, "ABANDONED", -1.0)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    assert sample.sweep(TOY, DESIGN, keep=LAST, out=tmp_path).complete


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_interrupt_within_a_callback_ends_the_sweep(tmp_path):
    """JAX makes an error of it, which is no failure of the chunk to be tried again."""

    def interrupt(x):
        raise KeyboardInterrupt

    def called(path):
        shape = jax.ShapeDtypeStruct((), path.x.dtype)
        return jax.pure_callback(interrupt, shape, path.x[-1], vmap_method="expand_dims")

    with pytest.raises(KeyboardInterrupt):
        sample.sweep(TOY, DESIGN, keep=called, out=tmp_path)
    assert sample.open(tmp_path).failed == {}


def test_warnings_point_at_the_call(tmp_path):
    sample.sweep(TOY, DESIGN, keep=LAST, out=tmp_path)
    path = tmp_path / "chunk_000000.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.warns(RuntimeWarning, match=r"torn") as caught:
        sample.sweep(TOY, DESIGN, keep=LAST, out=tmp_path)
    assert caught[0].filename == __file__


# What decides the results


def drawing(distribution: Any) -> Model:
    class Params(Record):
        rate: Scalar = param(0.5, bounds=(0, 2))

    class State(Record):
        x: Scalar = index("x")

    class Noise(Record):
        e: Scalar = noise(distribution)

    class Scenario(Record):
        pass

    def step(prior, params, scenario, noise):
        return State(x=params.rate * prior.x + noise.e)

    start = lambda params, scenario: State.filled(0.0)  # noqa: E731
    return Model("DRAWING", Params, Scenario, State, start, step, Noise=Noise, periods=5)


def test_other_random_inputs_are_another_sweep(tmp_path):
    def ones(key, shape, dtype):
        return jnp.ones(shape, dtype)

    def twos(key, shape, dtype):
        return 2 * jnp.ones(shape, dtype)

    twos.__name__ = "ones"
    design = sample.Design(("rate",), np.full((4, 1), 0.5))
    options: dict[str, Any] = {"key": jax.random.key(0), "keep": LAST, "out": tmp_path}
    sample.sweep(drawing(ones), design, **options)
    assert sample.sweep(drawing(ones), design, **options).complete
    for other in ("normal", twos):
        with pytest.raises(ValueError, match=r"model.noise.e: "):
            sample.sweep(drawing(other), design, **options)


# Executors


def test_processes_that_are_forked_are_refused():
    """In a process forked from one that has used JAX, its first computation waits for ever."""
    context = multiprocessing.get_context("fork")
    with (
        concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool,
        pytest.raises(ValueError, match=r"JAX hangs in processes that are forked"),
    ):
        sample.sweep(TOY, DESIGN, keep=keep, executor=pool)


def test_what_cannot_be_sent_is_said_at_the_call(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    spawn = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as pool,
        pytest.raises(
            TypeError, match=r"cannot be sent to another process .*macrostat-jax\[cluster"
        ),
    ):
        sample.sweep(TOY, DESIGN, keep=lambda path: path.x[-1], out=tmp_path, executor=pool)
    assert not list(tmp_path.iterdir())


class Broken(concurrent.futures.Executor):
    def submit(self, fn, /, *args, **kwargs):
        raise concurrent.futures.BrokenExecutor("gone")


def test_without_a_folder_nothing_is_said_to_be_kept(tmp_path):
    with pytest.raises(RuntimeError, match=r"gone.* With a folder, out=, what was finished would"):
        sample.sweep(TOY, DESIGN, keep=keep, executor=Broken())
    with pytest.raises(RuntimeError, match=r"gone.* What was finished is kept"):
        sample.sweep(TOY, DESIGN, keep=keep, executor=Broken(), out=tmp_path)


def test_threads_share_the_memory_of_the_process(monkeypatch):
    seen = []
    monkeypatch.setattr(
        _memory.Account, "fit", lambda *_, **options: seen.append(options["threads"])
    )
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        sample.sweep(TOY, DESIGN, keep=keep, executor=pool, memory="1GB")
    sample.sweep(TOY, DESIGN, keep=keep, memory="1GB")
    assert seen == [3, 1]


@pytest.mark.parametrize("block", [16, 1040])
@pytest.mark.parametrize("names", [LAST, None])
def test_what_diverges_is_counted_on_the_way(block, names):
    design = sample.Design(("rate",), np.repeat([0.5, 2.0, 0.7], 20)[:, None])
    told: list[sample.Status] = []
    options: dict[str, Any] = {"periods": 1100, "keep": names, "block": block}
    found = sample.sweep(TOY, design, progress=told.append, **options)
    assert told[-1].diverged == found.diverged == 20 and told[-1].done == 60


def test_seeds_of_a_model_that_is_not_random():
    with pytest.raises(TypeError, match=r"TOY is not random"):
        sample.sweep(TOY, sample.cross(DESIGN, seeds=2), keep=keep)
    with pytest.raises(TypeError, match=r"NOISY is random: pass key="):
        sample.sweep(NOISY, sample.random(NOISY, 4, {"rate": (0, 1)}), keep=lambda path: path.x)


def test_one_run(tmp_path):
    found = sample.sweep(TOY, DESIGN[:1], keep=LAST)
    stored = sample.sweep(TOY, DESIGN[:1], keep=LAST, out=tmp_path)
    assert len(found) == 1 and np.isnan(found.statistics()["std"]["x"])
    assert stored.to_pandas().equals(found.to_pandas())
    with pytest.raises(ValueError, match=r"a parameter that varies"):
        found.plot()
