"""What importing does and does not do, who may import whom, and whose files they are."""

import ast
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import macrostat_jax

ROOT = Path(macrostat_jax.__file__).parents[1]

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
sys.modules["bridge"] = None
sys.modules["macrostat"] = None
import jax
import macrostat_jax as ms
from macrostat_jax import models
from macrostat_jax.diff import check, jacobian
with jax.enable_x64(True):
    for name in models.names():
        key = jax.random.key(0) if models.get(name).random else None
        assert ms.simulate(models.get(name), periods=5, key=key) is not None, name
    for name in ("LINEAR2D", "GL06SIM", "GL06PC"):
        assert check(models.get(name), periods=10).passed, name
    assert jacobian(models.GL06SIM, "national_income").matrix().shape == (100, 3)
print("works")
"""


def python(code, cwd, *options):
    command = [sys.executable, "-W", "error", *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


def test_the_core_works_where_torch_is_not_installed(tmp_path):
    done = python(WITHOUT_TORCH, tmp_path)
    assert done.stdout == "works\n", done.stderr


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("macrostat_jax", {"torch", "bridge", "macrostat"}), ("bridge", {"macrostat"})],
)
def test_arrows_between_the_rooms(package, forbidden):
    for path in (ROOT / package).rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in forbidden, f"{path} imports {name}"


def imported_by(path, package):
    """The modules of the package that a module imports as it is itself imported."""
    here = path.relative_to(package.parent).with_suffix("").parts
    for node in ast.parse(path.read_text()).body:  # not in functions, nor for type checkers alone
        if isinstance(node, ast.ImportFrom) and node.level:
            parent = (*here[: len(here) - node.level], *(node.module or "").split("."))
            parent = tuple(part for part in parent if part)
            for alias in node.names:
                inner = package.parent.joinpath(*parent, alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield ".".join((*parent, alias.name) if is_module else parent)


def test_imports_within_the_core_go_one_way():
    package = ROOT / "macrostat_jax"
    arrows = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): set(imported_by(path, package))
        for path in package.rglob("*.py")
        if path.name != "__init__.py"
    }
    assert "macrostat_jax._tracing" in arrows["macrostat_jax._model"]
    assert list(
        graphlib.TopologicalSorter(arrows).static_order()
    )  # else a CycleError with the circle


def test_models_need_the_declaration_and_smooth_alone():
    for path in (ROOT / "macrostat_jax" / "models").glob("[a-z]*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 2:
                assert node.module in (
                    "_model", "_record", "_constraints", "smooth", "stochastic", None,
                ), path  # fmt: skip


QUIET = """
import sys, os, threading
before = set(sys.modules), threading.active_count(), dict(os.environ)
import jax
flags = dict(jax.config.values)
import macrostat_jax
assert flags == dict(jax.config.values)
assert threading.active_count() == before[1] and dict(os.environ) == before[2]
for name in ("matplotlib", "pandas", "xarray", "torch"):
    assert name not in sys.modules, name
"""


def test_importing_the_core_changes_nothing(tmp_path):
    done = python(QUIET, tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


TORCH_SIDE = """
import logging, sys
import torch
dtype, handlers = torch.get_default_dtype(), list(logging.getLogger().handlers)
import macrostat, macrostat.models, macrostat.diff
from macrostat.models import get_model
get_model("GL06SIM")().simulate()
assert torch.get_default_dtype() == dtype and logging.getLogger().handlers == handlers
import jax
assert not jax.config.jax_enable_x64 and jax.config.jax_compilation_cache_dir is None
"""


def test_the_torch_api_changes_no_global_setting(tmp_path):
    pytest.importorskip("torch")
    done = python(TORCH_SIDE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_import_package_macrostat_is_ours():
    pytest.importorskip("torch")
    import macrostat

    assert Path(macrostat.__file__).parents[1] == ROOT


USERS_CACHE = """
import jax, jax.numpy as jnp, sys
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
import macrostat_jax as ms
from macrostat_jax import models
ms.simulate(models.GL06SIM)
jax.config.update("jax_compilation_cache_dir", "theirs")
jax.jit(lambda x: x * 2.5 + 1)(jnp.ones(3)).block_until_ready()
ms.simulate(models.GL06SIM, periods=7)
"""


def test_a_cache_that_the_user_sets_up_later_is_theirs(tmp_path, monkeypatch):
    monkeypatch.setenv("MACROSTAT_CACHE", str(tmp_path / "ours"))
    done = python(USERS_CACHE, tmp_path)
    assert done.returncode == 0, done.stderr
    ours = [p.name for p in (tmp_path / "ours").glob("*-cache")]
    theirs = [p.name for p in (tmp_path / "theirs").glob("*-cache")]
    assert ours and not any("lambda" in name for name in ours)
    assert any("lambda" in name for name in theirs) and any("run" in name for name in theirs)


def test_the_cache_can_be_switched_off(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for no in ("off", "False", " 0 "):
        monkeypatch.setenv("MACROSTAT_CACHE", no)
        assert macrostat_jax.cache_directory() is None
    for yes in ("", "on", "1", "True"):
        monkeypatch.setenv("MACROSTAT_CACHE", yes)
        assert str(macrostat_jax.cache_directory()).startswith(str(tmp_path))
    monkeypatch.setenv("MACROSTAT_CACHE", "~/programs")
    assert macrostat_jax.cache_directory() == Path.home() / "programs"


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    """As in containers that run under a number that no list of users has."""

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("MACROSTAT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert macrostat_jax.cache_directory() is None


def test_importing_leaves_the_garbage_collector_as_it_was():
    code = (
        "import gc, sys; {before}; import macrostat_jax; "
        "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    )
    for before, after in (
        ("pass", "True False"),
        ("gc.disable()", "False False"),
        ("gc.freeze()", "True True"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(before=before)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == after


def test_the_citation_names_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()
