"""The README's speed tables are what the committed results say."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location(
    "readme_table", ROOT / "benchmarks" / "readme_table.py"
)
assert spec is not None and spec.loader is not None
table = importlib.util.module_from_spec(spec)
spec.loader.exec_module(table)


def test_the_readme_says_what_was_measured():
    assert table.main(["--check"]) == 0, "run python benchmarks/readme_table.py"


def test_another_number_in_the_readme_or_in_the_results_is_noticed(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    page.write_text(
        text.replace("| simulate | 15.8 ms |", "| simulate | 99.9 ms |"), encoding="utf-8"
    )
    assert page.read_text(encoding="utf-8") != text
    assert table.main(["--check"], page) == 1 and "readme_table.py" in capsys.readouterr().err
    assert table.main([], page) == 0 and page.read_text(encoding="utf-8") == text
    results = table.read("torch_api")
    results["sections"][0]["rows"][0]["ours"]["median"] *= 2
    monkeypatch.setattr(
        table, "read", lambda name, read=table.read: results if name == "torch_api" else read(name)
    )
    assert table.main(["--check"], page) == 1


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
