"""Backends side by side: the arithmetic on planted timings, and a small run of the real thing."""

import json
import math
import sys

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from macrostat_jax import bench, cli, models
from macrostat_jax.bench import (
    _figures,
    _machine,
    _session,
    _subject,
    _table,
    _verdicts,
    _workers,
)
from macrostat_jax.bench._cases import Case, cases, runs

# Arithmetic on planted numbers ------------------------------------------------------------------


def test_median_and_quartiles():
    assert _figures.spread([4.0, 1.0, 3.0, 2.0, 5.0]) == (3.0, 2.0, 4.0, 5)
    assert _figures.spread([7.0]) == (7.0, 7.0, 7.0, 1)
    for wrong in ([], [1.0, math.nan]):
        with pytest.raises(ValueError, match="finite numbers"):
            _figures.spread(wrong)


def test_calls_fill_the_budget():
    assert _figures.calls_per_round(1e-3, 0.5, 5) == 100
    assert _figures.calls_per_round(10.0, 0.5, 5) == 1
    assert _figures.calls_per_round(1e-9, 0.5, 5) == 2000


def test_the_interval_between_processes_is_that_of_welch():
    a, b = [[1.0, 1.1, 1.05]] * 2 + [[1.2]], [[2.0], [2.2, 2.1, 2.15]]
    found = _figures.ratio_interval(a, b, level=0.95)
    x, y = np.log([1.05, 1.05, 1.2]), np.log([2.0, 2.15])
    import scipy.stats

    right = scipy.stats.ttest_ind(y, x, equal_var=False).confidence_interval(0.95)
    assert found.ratio == pytest.approx(math.exp(y.mean() - x.mean()))
    assert (found.low, found.high) == pytest.approx((math.exp(right.low), math.exp(right.high)))


def test_one_process_allows_for_what_it_cannot_see():
    same = _figures.ratio_interval([[1.0] * 7], [[1.05] * 7])
    assert same == pytest.approx((1.05, 1.05 / 1.1, 1.05 * 1.1))
    assert _figures.verdict(same).startswith("no difference")
    assert _figures.verdict(_figures.ratio_interval([[1.0] * 7], [[1.2] * 7])) == "slower"


def test_false_alarms_are_as_rare_as_the_level_says():
    # Equal truths, with noise between processes and within: at 95 % about 5 % may differ. Of 400 draws
    # that is 20, with a standard error of 4.4; three of those to either side of a conservative test.
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        sides = [
            [list(np.exp(rng.normal(between, 0.05, 7))) for between in rng.normal(0, 0.1, 3)]
            for _ in range(2)
        ]
        alarms += _figures.verdict(_figures.ratio_interval(*sides, level=0.95), 1.0) != (
            "no difference that the noise allows"
        )
    assert 2 <= alarms <= 20 + 3 * 4.4


def test_verdicts_find_planted_differences():
    rng = np.random.default_rng(1)

    def side(scale):
        return [list(scale * np.exp(rng.normal(0, 0.02, 7))) for _ in range(4)]

    assert _figures.verdict(_figures.ratio_interval(side(1.0), side(1.5))) == "slower"
    assert _figures.verdict(_figures.ratio_interval(side(1.0), side(0.5))) == "faster"
    tiny = _figures.Interval(1.005, 1.001, 1.01)  # certain, and of no importance
    assert _figures.verdict(tiny).startswith("no difference")


def test_crossovers():
    x = [1, 10, 100, 1000]
    constant, linear = [8.0] * 4, [0.5 * n for n in x]
    assert _figures.crossovers(x, constant, linear) == pytest.approx([16.0])
    assert _figures.crossovers(x, linear, [2 * t for t in linear]) == []
    assert _figures.crossovers(x, [1, 3, 1, 3], [2, 2, 2, 2]) == pytest.approx(
        [10 ** (math.log(2) / math.log(3)), 10 ** (1 + math.log(1.5) / math.log(3)),
         10 ** (2 + math.log(2) / math.log(3))]
    )  # fmt: skip
    assert _figures.crossovers([1, 2, 4], [1, 2, 1], [2, 2, 2]) == []  # touches


def test_disagreement():
    right = {"a": np.array([1.0, -200.0, math.nan]), "b": np.array([0.5])}
    off = {"a": np.array([1.0, -199.0, math.nan]), "b": np.array([0.4])}
    assert _figures.disagreement(right, right) == 0
    assert _figures.disagreement(off, right) == pytest.approx(0.1)
    assert _figures.disagreement({**right, "a": np.zeros(3)}, right) == math.inf  # NaN against 0
    assert _figures.disagreement({"b": right["b"]}, right) == math.inf
    assert _figures.disagreement({"b": np.array([math.inf])}, {"b": np.array([1.0])}) == math.inf
    assert _figures.disagreement({"b": np.array([math.inf])}, {"b": np.array([math.inf])}) == 0


def test_operations_and_passes_are_counted():
    def program(x, a):
        y = a @ jnp.sin(x)  # 3 + 2 * 3 * 3
        _, out = jax.lax.scan(lambda c, r: (c * r + 1, c), 0.0, jnp.concatenate([y, y, y]))
        return jnp.sum(out)

    count = _subject.Count(jax.make_jaxpr(program)(jnp.ones(3), jnp.ones((3, 3))), periods=9)
    assert (count.operations, count.passes, count.bounded) == (3 + 18 + 9 * 2 + 9, 1, True)
    loop = jax.make_jaxpr(lambda x: jax.lax.while_loop(lambda y: y < 9, lambda y: y * 2, x))(1.0)
    assert not _subject.Count(loop, periods=9).bounded


def test_runs_by_definition():
    assert runs("jacobian-forward", 6, 1400, 1) == {"model": 1, "tangent": 6}
    assert runs("jacobian-reverse", 6, 1400, 1) == {"model": 1, "adjoint": 1400}
    assert runs("sweep", 6, 1400, 64) == {"model": 64}
    assert runs("gradient", 6, 1400, 1, "forward") == {"model": 6, "tangent": 6}


def test_derived_figures():
    planted = results({("gradient", "numpy"): [[4e-3] * 3]})
    row = planted["gradient", "numpy"][0]
    row.simulation, row.limit, row.first, row.trace, row.compile = 2e-3, 1e-4, [2.0], [0.5], [1.0]
    assert (row.in_simulations, row.over_limit, row.compile_share) == pytest.approx((2, 40, 0.75))
    row.scenario, row.batch = "sweep", 10
    assert row.in_simulations == pytest.approx(0.2)
    row.dtype = "float64"
    for scenario, agreement, agrees in (("sweep", 2e-12, False), ("jvp", 2e-12, True)):
        row.scenario, row.agreement = scenario, agreement
        assert row.agrees is agrees


# Files and comparisons ------------------------------------------------------------------------


def results(seconds, machine="CPU A", version="0.10", periods=100, batches=None):
    """Planted results: (scenario, backend) -> process -> rounds, or a reason."""
    rows = []
    for (scenario, backend), given in seconds.items():
        row = bench.Row("GL06SIM", scenario, backend, periods)
        if isinstance(given, str):
            row.reason = given
        else:
            row.seconds, row.first, row.trace, row.compile = given, [1.0], [0.2], [0.3]
        rows.append(row)
    backends = {name: {"versions": {"jax": version}, "device": "cpu"} for _, name in seconds}
    settings = {"processes": 1, "rounds": 3, "date": "2026-01-01", "command": None}
    about = {"cpu": machine, "cores": 2, "system": "Linux", "load": 0.1}
    return bench.Results(rows, about, backends, settings)


OLD = {
    ("simulate", "jax-cpu"): [[1.0, 1.01, 0.99]] * 3,
    ("gradient", "jax-cpu"): [[2.0, 2.02, 2.01], [2.1, 2.1, 2.1], [1.95, 1.95, 1.95]],
    ("jvp", "jax-cpu"): [[1.0] * 3] * 3,
    ("hvp", "numpy"): "NumPy has no derivatives",
}
NEW = {
    ("simulate", "jax-cpu"): [[0.5, 0.51, 0.49]] * 3,
    ("gradient", "jax-cpu"): [[2.05, 2.02, 2.01], [2.0, 2.1, 2.1], [2.1, 1.95, 1.95]],
    ("jvp", "jax-cpu"): "stopped after 120 s (--limit)",
    ("hvp", "numpy"): "NumPy has no derivatives",
    ("sweep", "numpy"): [[1.0] * 3],
}


def test_a_comparison_judges_every_row_of_either_file(tmp_path):
    for name, given in (("old", OLD), ("new", NEW)):
        results(given).save(tmp_path / f"{name}.json")
    found = bench.compare(tmp_path / "old.json", tmp_path / "new.json")
    verdicts = {(one.after or one.before).scenario: one.verdict for one in found.judgements}  # pyright: ignore
    assert verdicts == {
        "simulate": "faster",
        "gradient": "no difference that the noise allows",
        "jvp": "not in the new one: stopped after 120 s (--limit)",
        "hvp": "measured in neither",
        "sweep": "only in the new file",
    }
    text = str(found)
    assert "1 faster, 0 slower, 1 without a difference" in text and "3 not compared" in text
    assert json.loads(json.dumps(found.to_dict()))["rows"][0]["verdict"] == "faster"


def test_other_machines_and_versions_are_refused():
    old = results(OLD)
    for other, words in (
        (results(OLD, machine="CPU B"), "machine.cpu: CPU A there, CPU B here"),
        (results(OLD, version="0.12"), "jax-cpu.versions.jax: 0.10 there, 0.12 here"),
    ):
        with pytest.raises(ValueError, match=words):
            bench.compare(old, other)
        forced = bench.compare(old, other, force=True)
        assert "Forced: these differ" in str(forced) and words in str(forced)
    busy = results(OLD)
    busy.machine["load"] = 5.0  # how busy it was is no other machine
    assert bench.compare(old, busy).differs == []
    with pytest.raises(ValueError, match="level"):
        bench.compare(old, old, level=1.0)


def test_files_come_back_and_others_are_refused(tmp_path):
    file = tmp_path / "r.json"
    planted = results(NEW)
    planted.rows[0].agreement = math.inf
    planted.save(file)
    back = bench.load(file)
    assert [row.to_dict() for row in back.rows] == [row.to_dict() for row in planted.rows]
    assert back.rows[0].agreement == math.inf and "NaN" not in file.read_text()
    planted.save(tmp_path / "r.csv")
    table = pd.read_csv(tmp_path / "r.csv")
    assert table["median"].tolist()[0] == 0.5 and "limit" in table["reason"].tolist()[2]
    for content, words in (
        ("[]", "holds no results"),
        ("{}", "something else, format None"),
        ('{"kind": "macrostat bench", "format": 99}', "format 99; expected"),
        ('{"kind": "macrostat bench", "format": 1}', "damaged: KeyError"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=words):
            bench.load(file)
    with pytest.raises(ValueError, match=r"\.json or \.csv"):
        planted.save(tmp_path / "r.pickle")


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_tables_fit_the_terminal(width):
    planted = results(OLD)
    for row in planted.rows:
        row.runs, row.memory, row.limit, row.simulation = (
            {"model": 1, "adjoint": 1400},
            [9],
            1.0,
            1.0,
        )
        row.note = "interpreted: " + "a long reason " * 12
    planted.machine["cpu"] = "A processor with a name that is long " * 3
    whole, text = _table.table(planted), _table.table(planted, width)
    compared = _verdicts.comparison(bench.compare(planted, results(NEW), force=True), width)
    for shown in (text, compared):
        assert max(map(len, shown.splitlines())) <= width
    # The same words, wherever they stand.
    assert set(text.split()) == set(whole.split())
    assert {line.split()[0] for line in text.splitlines() if line} >= {"simulate", "gradient"}


def test_pictures_and_crossovers_of_sizes(tmp_path):
    grown = results({})
    for backend, cost in (("jax-cpu", lambda n: 1e-4 + 1e-8 * n), ("numpy", lambda n: 1e-6 * n)):
        grown.backends[backend] = {"versions": {}, "device": "cpu"}
        for n in (1, 10, 100, 1000, 10_000):
            row = bench.Row("GL06SIM", "sweep", backend, 100, n, seconds=[[cost(n)] * 3], first=[1])
            grown.rows.append(row)
    (line,) = _table.crossing(grown)
    assert "sweep, 100 periods: numpy is faster below 100 runs, jax-cpu above" in line
    noisy = {"a": {1: bench.Spread(1, 1, 1, 3), 9: bench.Spread(3, 2, 4, 3)}}
    noisy["b"] = {1: bench.Spread(2, 2, 2, 3), 9: bench.Spread(2.5, 2, 3, 3)}
    assert _table.crossed(noisy) == []  # at 9 nobody is ahead
    for name, found in (("sizes.png", grown), ("bars.png", results(OLD))):
        found.plot().savefig(tmp_path / name)
        assert matplotlib.image.imread(tmp_path / name).std() > 0.01
    with pytest.raises(ValueError, match="at least one row"):
        results({("hvp", "numpy"): "no derivatives"}).plot()
    assert "Crossovers" in str(grown)


def test_a_picture_shows_every_row():
    shown = results(OLD)
    for scenario, backend, batch, firms in (
        ("sweep", "jax-cpu", 16, 10),
        ("sweep", "jax-cpu", 64, 10),
        ("vjp", "jax-cpu", 1, 10),
        ("vjp", "jax-cpu", 1, 90),
        ("jvp", "jax-cpu", 1, 10),
    ):
        row = bench.Row("Mark0COVID", scenario, backend, 20, batch, {"firm": firms})
        row.seconds, row.first = [[1.0] * 3], [1.0]
        shown.rows.append(row)
    panels = {
        panel.get_title(): [tick.get_text() for tick in panel.get_xticklabels()]
        for panel in shown.plot().axes
        if panel.get_title()
    }
    assert list(panels) == [
        "GL06SIM, 100 periods",
        "Mark0COVID, 20 periods, 10 firms",
        "Mark0COVID sweep, 20 periods, 10 firms",
        "Mark0COVID vjp, 20 periods",
    ]
    assert panels["GL06SIM, 100 periods"] == ["simulate", "gradient", "jvp"]
    assert panels["Mark0COVID, 20 periods, 10 firms"] == ["jvp"]
    many = results({})
    for name in range(20):
        row = bench.Row(f"M{name}", "simulate", "jax-cpu", 10, seconds=[[1.0]], first=[1.0])
        many.rows.append(row)
    many.backends["jax-cpu"] = {}
    assert "the first 12 of 20 panels" in many.plot().get_suptitle()


# Processes ------------------------------------------------------------------------------------

HELLO = "print('{\"versions\": {}}', flush=True)"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import no_such_package", "the package no_such_package is not installed"),
        (f"input(); {HELLO}; input(); import time; time.sleep(60)", "stopped after 1 s"),
        (
            f"import os; input(); {HELLO}; input(); os.kill(os.getpid(), 9)",
            "SIGKILL, as when memory",
        ),
        (f"input(); {HELLO}; input(); raise OSError('broken disk')", "OSError: broken disk"),
        ('input(); print(\'{"refused": "no such device"}\', flush=True)', "no such device"),
    ],
)
def test_how_a_process_may_fail(monkeypatch, script, reason):
    monkeypatch.setattr(_workers, "command", lambda *_: [sys.executable, "-c", script])
    with pytest.raises(_workers.Cannot, match=reason):
        worker = _workers.Worker("numpy", None, limit=1.0)
        try:
            worker.ask("limits")
        finally:
            worker.close()


def test_what_libraries_print_while_they_are_imported_is_no_answer(monkeypatch):
    script = f"print('a banner'); print(17); input(); {HELLO}"
    monkeypatch.setattr(_workers, "command", lambda *_: [sys.executable, "-c", script])
    worker = _workers.Worker("numpy", None, limit=5.0)
    worker.close()
    assert worker.about == {"versions": {}}


STUCK = """
import json, sys, time
for line in sys.stdin:
    do = json.loads(line)["do"]
    time.sleep(60 if do == "prepare" else 0)
    limits = {"bandwidth": 1.0, "rate": 1.0}
    print(json.dumps(limits if do == "limits" else {"versions": {}, "device": "x"}), flush=True)
"""


def test_a_backend_that_hangs_leaves_the_others_their_rows(monkeypatch, tmp_path):
    own = _workers.command
    hung = [sys.executable, "-c", STUCK]
    monkeypatch.setattr(_workers, "command", lambda n, p: hung if n == "dual" else own(n, p))
    options: dict = {"periods": [3], "budget": 0.01, "rounds": 3, "processes": 1, "limit": 5}
    hang = bench.run(["LINEAR2D"], scenarios=["simulate"], backends=["dual", "numpy"], **options)
    assert hang["numpy"][0].measured and hang["numpy"][0].agrees
    assert hang["dual"][0].reason == "stopped after 5 s (--limit)"

    def interrupted(text):
        if "gradient" in text:
            raise KeyboardInterrupt

    kept = tmp_path / "kept.json"
    part = bench.run(
        ["LINEAR2D"], scenarios=["gradient", "jvp"], backends=["numpy"], progress=interrupted,
        keep=kept, **options,
    )  # fmt: skip
    assert part["simulate", "numpy"][0].measured and part.settings["stopped"]
    # What was not reached is there too; and the file has it, had nobody caught the interruption.
    assert [row.reason for row in part["numpy"][1:]] == [_session.NEVER] * 2
    saved = bench.load(kept)
    assert saved.settings["stopped"] and [row.to_dict() for row in saved.rows] == [
        row.to_dict() for row in part.rows
    ]
    assert "stopped early" in str(saved)


CALLED = """
import json, sys, time
for line in sys.stdin:
    do = json.loads(line)["do"]
    time.sleep(0.3 if do in ("first", "measure") else 0)
    print(json.dumps({
        "hello": {"versions": {}, "device": "x"},
        "limits": {"bandwidth": 1.0, "rate": 1.0},
        "prepare": {"seconds": 0.1, "trace": 0.05, "compile": 0.0, "dtype": "float64"},
        "first": {"seconds": 0.3},
        "measure": {"seconds": [0.3]},
        "peak": {"bytes": 1},
        "result": {"refused": "no room on the disk"},
    }.get(do, {})), flush=True)
"""


def test_a_row_that_takes_longer_than_the_limit_altogether(monkeypatch):
    monkeypatch.setattr(_workers, "command", lambda *_: [sys.executable, "-c", CALLED])
    told = []
    (row,) = bench.run(
        ["LINEAR2D"], scenarios=["simulate"], backends=["numpy"], budget=0.01, rounds=9,
        processes=3, limit=0.8, progress=told.append,
    ).rows  # fmt: skip
    # First, again, one round: past the limit. Neither more rounds nor more processes.
    assert row.measured and [len(process) for process in row.seconds] == [1]
    assert "one process only, as it took over 0.8 s (--limit)" in str(row.note)
    assert "not compared: no room on the disk" in str(row.note) and row.agreement is None
    assert any(text.endswith("LINEAR2D simulate, 5 periods, numpy") for text in told)


def test_a_backend_that_fails_to_start_again_keeps_its_figures(monkeypatch):
    begun = []

    def command(*_):
        begun.append(1)
        return [sys.executable, "-c", CALLED if len(begun) == 1 else "import no_such_package"]

    monkeypatch.setattr(_workers, "command", command)
    found = bench.run(
        ["LINEAR2D"], scenarios=["simulate"], backends=["numpy"], budget=0.01, rounds=3, processes=2
    )
    (row,) = found.rows
    assert row.measured and len(row.seconds) == 1
    assert "not in every round: the package no_such_package" in str(row.note)
    assert found.backends["numpy"]["device"] == "x"


def test_a_reference_that_cannot_be_had_is_asked_for_once_and_said(monkeypatch):
    own, asked = _session.Session._reference, []

    def none(self, case):
        asked.append(case.scenario)
        raise _workers.Cannot("stopped after 9 s (--limit)")

    monkeypatch.setattr(_session.Session, "_reference", none)
    assert own is not none
    found = bench.run(
        ["LINEAR2D"], scenarios=["gradient"], backends=["dual", "numpy"], periods=[3],
        budget=0.01, rounds=3, processes=1,
    )  # fmt: skip
    assert asked == ["simulate", "gradient"]
    for row in found["dual"]:
        assert row.agreement is None
        assert row.note == "not compared: no reference: stopped after 9 s (--limit)"


def test_a_peer_that_is_no_python_is_said():
    with pytest.raises(_workers.Cannot, match="No such file"):
        _workers.Worker("published", "no/such/python", limit=5.0)
    with pytest.raises(_workers.Cannot, match=r"has macrostat-jax, not the published|lacks it"):
        _workers.Worker("published", sys.executable, limit=60.0)


@pytest.fixture(scope="module")
def found():
    """A run of the real thing, small: two backends that can, two that cannot."""
    return bench.run(
        ["GL06SIM"],
        scenarios=["gradient", "jvp", "sweep"],
        backends=["jax-cpu", "numpy", "dual", "jax-tpu", "published"],
        periods=[6],
        batch=[4],
        budget=0.01,
        rounds=3,
        processes=1,
    )


def test_a_run_measures_what_it_can(found):
    for backend, scenarios in (
        ("jax-cpu", {"simulate", "gradient", "jvp", "sweep"}),
        ("numpy", {"simulate", "sweep"}),
        ("dual", {"simulate", "gradient", "jvp", "sweep"}),
    ):
        measured = [row for row in found[backend] if row.measured]
        assert {row.scenario for row in measured} == scenarios
        for row in measured:
            assert len(row.spread) and row.median > 0 and row.first[0] > row.median
            assert row.agrees and row.agreement < 1e-12
            assert row.dtype == "float64" and row.memory[0] >= 0
    assert found["gradient", "dual"][0].runs == {"model": 3, "tangent": 3}
    assert found["gradient", "dual"][0].passes == 3
    gradient = found["gradient", "jax-cpu"][0]
    assert gradient.runs == {"model": 1, "adjoint": 1} and gradient.passes == 2
    assert gradient.program_bytes > 0 and gradient.over_limit > 1
    assert found["simulate", "jax-cpu"][0].against == "dual"


def test_what_cannot_run_is_a_row_that_says_why(found):
    assert len(found.rows) == 4 * 5  # every scenario on every backend
    reasons = {(row.scenario, row.backend): row.reason for row in found.rows if not row.measured}
    assert "NumPy has no derivatives" in reasons["gradient", "numpy"]
    assert "finds no TPU" in reasons["simulate", "jax-tpu"]
    assert "--peer PYTHON" in reasons["jvp", "published"]
    text = str(found)
    for words in (
        "cannot run: JAX finds no TPU here",
        "- jax-tpu, published, all: cannot run here, for the reason given above",
        "numpy, gradient, jvp: NumPy has no",
        "GL06SIM, 6 periods",
    ):
        assert words in text
    assert bench.compare(found, found).judgements[0].verdict.startswith("no difference")


def test_a_model_that_draws_within_its_step_and_a_result_too_large():
    with pytest.raises(_subject.Refused, match="the result alone is"):
        _subject.Subject(Case("GL06INSOUT", "jacobian-forward", 100_000))
    listed = cases(models.KirmansAnts, ["sweep"], [5], [2, 8], [{"substep": 20}], 0)
    assert [(one.scenario, one.batch) for one in listed] == [
        ("simulate", 1),
        ("sweep", 2),
        ("sweep", 8),
    ]
    subject = _subject.Subject(listed[1])
    path = subject.sweep(subject.points, subject.rest)
    assert path[0].shape[:2] == (5, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backends": ["fortran"]}, "There is no backend 'fortran'. There are: jax-cpu, jax-gpu"),
        ({"scenarios": ["hessian"]}, "There is no scenario 'hessian'. There are: simulate"),
        ({"backends": []}, "Name a backend. There are"),
        ({"periods": [0]}, "periods takes whole numbers from 1"),
        ({"batch": [1.5]}, "batch takes whole numbers"),
        ({"budget": 0}, "budget and limit are seconds above 0"),
        ({"limit": math.inf}, "budget and limit are seconds above 0"),
        ({"processes": 0}, "rounds and processes"),
        ({"keep": "results.csv"}, "keep is a .json file, not 'results.csv'"),
        ({"sizes": [{"firm": 3}]}, "GL06SIM has no axis 'firm'"),
    ],
)
def test_bad_requests(options, words):
    with pytest.raises((ValueError, KeyError), match=words):
        bench.run(["GL06SIM"], **options)


def test_the_command(capsys, tmp_path, monkeypatch, found):
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    results(OLD).save(old)
    results(NEW, version="0.12").save(new)
    for arguments, words in (
        (["--compare", old, new], "jax-cpu.versions.jax: 0.10 there, 0.12 here"),
        (["--compare", old, str(tmp_path / "none.json")], "none.json"),
        (["--compare", old, new, "--backend", "numpy"], "it takes no --backend"),
        (
            ["--compare", old, new, "--periods", "5", "--rounds", "2"],
            "takes no --periods, --rounds",
        ),
        (["--force"], "--force is of --compare"),
        (["--backend", "fortran"], "There are: jax-cpu"),
        (["--periods", "long"], "--periods takes whole numbers"),
        (["--size", "firm"], "--size takes AXIS=N"),
        (["--json", "r.txt"], "ends in .json"),
        (["--plot", "r.xyz"], "the name ends in one of .eps"),
    ):
        assert cli.main(["bench", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert (
        cli.main(["bench", "--compare", old, new, "--force", "--json", str(tmp_path / "v.json")])
        == 0
    )
    assert "1 faster" in capsys.readouterr().out
    given = {}
    monkeypatch.setattr(bench, "run", lambda names, **options: (given.update(options), found)[1])
    files = [f"--{kind}={tmp_path / kind}.{kind}" for kind in ("json", "csv")]
    sizes = ["--size", "firm=10,20", "--size", "household=5", "--periods", "10,20"]
    assert cli.main(["bench", *files, *sizes, f"--plot={tmp_path / 'p.png'}"]) == 0
    assert given["sizes"] == [{"firm": 10, "household": 5}, {"firm": 20, "household": 5}]
    assert given["periods"] == [10, 20] and given["scenarios"] is None
    assert len(bench.load(tmp_path / "json.json").rows) == len(pd.read_csv(tmp_path / "csv.csv"))
    assert matplotlib.image.imread(tmp_path / "p.png").std() > 0.01


def test_a_disagreement_is_marked_and_has_status_1(capsys, monkeypatch):
    planted = results(OLD)
    row = planted.rows[1]
    row.dtype, row.agreement = "float64", 1e-6
    assert "1e-06 !" in str(planted)
    monkeypatch.setattr(bench, "run", lambda *_, **__: planted)
    assert cli.main(["bench"]) == 1


def test_results_that_cannot_be_saved_are_shown(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(bench, "run", lambda *_, **__: results(OLD))
    assert cli.main(["bench", "--csv", str(tmp_path / "file" / "r.csv")]) != 0
    assert "GL06SIM, 100 periods" in capsys.readouterr().out


def test_an_interrupted_command_replaces_no_earlier_file(capsys, monkeypatch, tmp_path):
    file, part = tmp_path / "r.json", tmp_path / "r.part.json"
    results(OLD).save(file)
    before, planted = file.read_text(), results(NEW)
    planted.settings["stopped"] = True
    monkeypatch.setattr(bench, "run", lambda *_, **__: planted)
    assert cli.main(["bench", "--json", str(file)]) == 130
    assert file.read_text() == before and bench.load(part).settings["stopped"]
    assert f"saved {part}" in capsys.readouterr().out
    planted.settings["stopped"] = False
    assert cli.main(["bench", "--json", str(file)]) == 0
    assert not part.exists() and file.read_text() != before

    def nothing(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "run", nothing)
    assert cli.main(["bench"]) == 130
    assert "stopped before anything was measured" in capsys.readouterr().err


def test_the_command_line_is_kept_without_paths(monkeypatch):
    from macrostat_jax._commands import bench as command

    given = [
        "macrostat",
        "bench",
        "--peer=/root/p/bin/python",
        "--json",
        "a/b.json",
        "--size",
        "firm=3",
    ]
    monkeypatch.setattr(sys, "argv", given)
    assert command._command() == "macrostat bench --peer=python --json b.json --size firm=3"


def test_the_machine_is_described_without_names_or_paths():
    found = _machine.machine_of()
    assert found["cores"] >= 1 and not any(
        "/" in str(v) for k, v in found.items() if k != "XLA_FLAGS"
    )
