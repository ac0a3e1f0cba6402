"""The README's speed tables and the guide's tables of backends are what the committed results say."""

import importlib.util
import sys
from pathlib import Path

import pytest

from macrostat_jax import bench

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
spec = importlib.util.spec_from_file_location(
    "readme_table", ROOT / "benchmarks" / "readme_table.py"
)
assert spec is not None and spec.loader is not None
table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)


def test_the_pages_say_what_was_measured():
    assert table.main(["--check"]) == 0, "run python benchmarks/readme_table.py"


def test_another_number_in_the_readme_or_in_the_results_is_noticed(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    (tmp_path / "docs").mkdir()
    guide = (ROOT / "docs" / "comparing-backends.md").read_text(encoding="utf-8")
    (tmp_path / "docs" / "comparing-backends.md").write_text(guide, encoding="utf-8")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    page.write_text(
        text.replace("| simulate | 15.8 ms |", "| simulate | 99.9 ms |"), encoding="utf-8"
    )
    assert page.read_text(encoding="utf-8") != text
    assert table.main(["--check"], tmp_path) == 1 and "readme_table.py" in capsys.readouterr().err
    assert table.main([], tmp_path) == 0 and page.read_text(encoding="utf-8") == text
    results = table.read("torch_api")
    results["sections"][0]["rows"][0]["ours"]["median"] *= 2
    monkeypatch.setattr(
        table, "read", lambda name, read=table.read: results if name == "torch_api" else read(name)
    )
    assert table.main(["--check"], tmp_path) == 1


def test_results_of_different_machines_and_a_page_without_marks_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="once each"):
        table.replaced("# A page", "")
    here, there = table.read("torch_api"), table.read("torch_api_cold")
    there["machine"]["cpu"] = "another"
    with pytest.raises(SystemExit, match="different machines"):
        table.alike(here, there)
    there["machine"], there["versions"] = here["machine"], [{"jax": "1"}, {}]
    with pytest.raises(SystemExit, match="different versions"):
        table.alike(here, there)


@pytest.mark.parametrize(
    ("value", "shown"), [(1.2304, "1.23"), (83.58, "84"), (188.9, "189"), (2418.2, "2,420")]
)
def test_numbers_as_a_reader_wants_them(value, shown):
    assert table.figure(value) == shown
    assert (table.seconds(2.81), table.seconds(0.0016), table.seconds(4.2554e-5)) == (
        "2.81 s", "1.6 ms", "42.6 µs",
    )  # fmt: skip


def planted(stopped=False):
    rows = []
    for scenario, backend, reason in (
        ("simulate", "jax-cpu", None),
        ("simulate", "published", None),
        ("sweep", "jax-cpu", None),
        ("sweep", "published", "stopped after 9 s (--limit)"),
    ):
        row = bench.Row("GL06PC", scenario, backend, 100, 64 if scenario == "sweep" else 1)
        row.reason = reason
        if reason is None:
            row.seconds, row.first, row.dtype = [[4.2554e-5], [4.2554e-5]], [1.0], "float64"
            row.parameters, row.outputs, row.agreement = 6, 1400, 3e-14
        rows.append(row)
    rows[1].seconds, rows[1].dtype, rows[1].agreement = [[0.0158]], "float32", 2e-6
    rows[1].note = "compared without x, which it computes otherwise"
    machine = {"cores": 2, "cpu": "AMD EPYC", "system": "Linux x86_64"}
    backends = {
        "jax-cpu": {"versions": {"jax": "0.10.2", "numpy": "2.4.6"}},
        "jax-gpu": {"reason": "JAX finds no GPU here"},
        "published": {"versions": {"torch": "2.13.0+cpu"}},
    }
    rows.append(bench.Row("GL06PC", "simulate", "jax-gpu", 100, reason="JAX finds no GPU here"))
    settings = {
        "processes": 3,
        "rounds": 7,
        "date": "2026-01-02",
        "command": "macrostat bench GL06PC",
    }
    return bench.Results(rows, machine, backends, settings | {"stopped": stopped})


GUIDE = """\
On 2 CPU cores (AMD EPYC, jax 0.10.2, torch 2.13.0, numpy 2.4.6), 2026-01-02; medians over 3 processes.

**GL06PC, 100 periods**: 6 parameters, 1,400 numbers out

| One call | jax-cpu | published |
|---|---|---|
| simulate | 42.6 µs | 15.8 ms |
| sweep, 64 runs | 42.6 µs | – |

- Largest difference from the reference: paths in float32 2e-06, paths in float64 3e-14.
- No figure: `published`, sweep, 64 runs: stopped after 9 s (--limit)
- No figure: `jax-gpu`: JAX finds no GPU here
- `published`: compared without x, which it computes otherwise

Measured by `macrostat bench GL06PC`."""


def test_tables_of_backends(tmp_path):
    from _backends_table import NONE, text  # pyright: ignore[reportMissingImports]

    assert text([], table.seconds) == NONE
    file = tmp_path / "bench_one.json"
    planted().save(file)
    assert text([file], table.seconds) == GUIDE
    planted(stopped=True).save(file)
    with pytest.raises(SystemExit, match="run that was stopped"):
        text([file], table.seconds)
    wrong = planted()
    wrong.rows[0].agreement = 1e-3
    wrong.save(file)
    with pytest.raises(SystemExit, match="jax-cpu disagrees in GL06PC simulate"):
        text([file], table.seconds)
