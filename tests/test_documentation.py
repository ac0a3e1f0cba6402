"""Every Python block of the README and of docs/ runs, and prints and draws what the page shows.

The blocks of a page run in order, in one namespace, as a script of the reader's own would. A `text`
block right after a `python` block is what that block prints, `...` standing for anything; numbers
written with a decimal point may differ in the last digit shown. `python no-run` marks blocks that need
what a test machine may lack. A picture of `docs/pictures` is what the page's code saves under its name.
"""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from pages import PAGES, ROOT, Block, blocks, same
from PIL import Image

from macrostat_jax import models

PICTURES = ROOT / "docs" / "pictures"
MODELS = sorted((ROOT / "docs" / "models").glob("*.md"))
MADE_ELSEWHERE = {"calibrate-abm.png"}
"""Pictures of what takes too long for a page: drawn by the script of benchmarks/ that the page names."""

SAMPLED = {"calibration-posterior.png"}
"""Pictures of Markov chains: rounding, which another processor does otherwise, sends them other ways."""

RUNNER = """
import contextlib, io, json, sys, types, warnings
warnings.simplefilter("error")
# torch's own forward-mode code warns of itself in some releases.
warnings.filterwarnings("ignore", ".*torch.jit.script.*", DeprecationWarning)
blocks = json.load(sys.stdin)
page = sys.modules["__main__"] = types.ModuleType("__main__")
printed = []
for source, name in blocks:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        exec(compile(source, name, "exec"), vars(page))
    printed.append(text.getvalue())
print(json.dumps(printed))
"""


def printed_by(found: list[tuple[Block, Path]], folder: Path) -> list[str]:
    """What blocks print that run in a process of their own."""
    # Leading lines make a traceback point at the line of the page.
    sources = [("\n" * block.line + block.source, str(page)) for block, page in found]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_and_prints_what_the_page_shows(page, tmp_path):
    found = [(block, page) for block in blocks(page)]
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "data").symlink_to(ROOT / "tests" / "data")  # pages run in the root
    outputs = printed_by(found, tmp_path) if found else []
    for (block, _), printed in zip(found, outputs, strict=True):
        if block.printed is not None:
            where = f"{page.name}, the block at line {block.line + 1}"
            assert same(block.printed, printed), f"{where} prints:\n{printed}"
    shown = set(re.findall(r"\]\((?:docs/)?pictures/([^)]+)\)", page.read_text()))
    for name in shown - MADE_ELSEWHERE:
        assert (tmp_path / name).exists(), f"{page.name} shows {name}, and nothing on it saves that"
        if name in SAMPLED:
            continue
        difference = unlike(PICTURES / name, tmp_path / name)
        assert difference < ALIKE, f"{name} is not what {page.name} draws: {difference:.3f}"


ALIKE = 0.02
"""How far two pictures may be apart: rounding is less, another curve or label is more."""


def drawn_by(picture: Path) -> str:
    """The version of matplotlib, which writes it into its files; nothing where it was taken out."""
    with Image.open(picture) as file:
        return file.info.get("Software", "")


def unlike(one: Path, other: Path) -> float:
    """The largest difference of two pictures' grey, from 0 to 1, averaged over a 24th of the width; 1 for
    other shapes. Versions of matplotlib place their letters otherwise: between them only shapes count."""
    grey = [matplotlib.image.imread(path)[..., :3].mean(axis=-1) for path in (one, other)]
    if np.abs(np.subtract(grey[0].shape, grey[1].shape)).max() > 2:
        return 1.0
    if drawn_by(one) != drawn_by(other):
        return 0.0
    height, width = np.minimum(grey[0].shape, grey[1].shape)
    difference = grey[0][:height, :width] - grey[1][:height, :width]
    size = width // 24
    tiles = np.pad(difference, [(0, -height % size), (0, -width % size)])
    tiles = tiles.reshape(-(-height // size), size, -1, size)
    return float(np.abs(tiles.mean(axis=(1, 3))).max())


@pytest.mark.parametrize("corner", [(0, 0), (-12, -12), (40, 400)])
def test_another_picture_is_noticed(corner, tmp_path):
    page = np.ones((90, 500, 3))
    matplotlib.image.imsave(tmp_path / "one.png", page)
    page[corner[0] :, corner[1] :][:8, :8] = 0
    matplotlib.image.imsave(tmp_path / "other.png", page)
    assert unlike(tmp_path / "one.png", tmp_path / "one.png") == 0
    assert unlike(tmp_path / "one.png", tmp_path / "other.png") > ALIKE
    matplotlib.image.imsave(tmp_path / "other.png", page[:80])
    assert unlike(tmp_path / "one.png", tmp_path / "other.png") == 1


def test_the_picture_of_a_benchmark_is_that_of_its_results(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module("calibrate_abm")
    results = json.loads((ROOT / "benchmarks" / "results" / "calibrate_abm.json").read_text())
    (name,) = MADE_ELSEWHERE
    benchmark.picture(results, tmp_path / name)
    assert unlike(PICTURES / name, tmp_path / name) < ALIKE
    results["methods"]["Adam"]["by_time"] = results["methods"]["CMA-ES"]["by_time"]
    benchmark.picture(results, tmp_path / name)
    if drawn_by(PICTURES / name) == drawn_by(tmp_path / name):
        assert unlike(PICTURES / name, tmp_path / name) > ALIKE


TRACED = """
import jax, macrostat_jax
whole = macrostat_jax.simulate
macrostat_jax.simulate = lambda model, **given: jax.eval_shape(lambda: whole(model, **given))
"""


@pytest.mark.parametrize("first", [TRACED, pytest.param("", marks=pytest.mark.slow)])
def test_the_blocks_of_the_models_pages_run(first, tmp_path):
    """All in one process; traced, as compiling them all takes long, which others do. That they are what the
    generator writes, tests/jax/test_docs.py asks."""
    found = [(block, page) for page in MODELS for block in blocks(page)]
    assert len(found) == len(models.names())
    printed_by([(Block(first, 0, None), MODELS[0]), *found], tmp_path)


def test_the_quick_start_passes_its_own_check(tmp_path):
    script = [sys.executable, str(ROOT / "docs" / "quickstart.py")]
    done = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert "Passed: True" in done.stdout, done.stderr[-4000:]


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        # readme.md is the place of the README, which the index links, in the guide.
        assert page.stem in ("index", "readme") or f"({page.name})" in index, page.name


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        ("0.52 a\n", "0.53  a\n", True),
        ("0.52\n", "0.55\n", False),
        ("1.2e-05\n", "1.3e-05\n", True),
        ("1.2e-05\n", "1.2e-04\n", False),
        ("a ... c\n", "a b c\n", True),
        ("5\n", "6\n", False),
        ("1.0 2.0\n", "1.0\n", False),
    ],
)
def test_what_counts_as_the_same_output(shown, printed, equal):
    assert same(shown, printed) is equal
