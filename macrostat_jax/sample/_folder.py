"""The folder of a sweep: a manifest that says whose it is, and one file for each finished chunk."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import shutil
import time
import traceback
import types
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _fingerprint
from .._record import DISTRIBUTIONS
from .._store import differences, replacing, to_disk
from . import _files, _kept
from ._program import Program
from ._runs import Runs

FORMAT = 1
MANIFEST, FAILED = "_manifest.json", "_failed"
"""Readers of folders of Parquet files pass over names that begin like these."""
WRITING = ".writing-"
ABANDONED = 3600.0
"""After so many seconds, what a killed process was writing is cleared away."""


class OtherSweep(ValueError):
    """A folder that belongs to another sweep."""


class Folder:
    """The results of one sweep on disk.

    A chunk is finished when its file is there under its name: files are written elsewhere, brought to the
    disk, and then renamed. Every file says which chunk of which sweep it is.

    Attributes:
        path: the folder. manifest: what its manifest says.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path, self.manifest = path, manifest
        self.digest: str = manifest["digest"]
        self.runs: int = manifest["design"]["runs"]
        self.chunk: int = manifest["design"]["chunk"]
        self.files: str = manifest["design"]["files"]

    @classmethod
    def begin(
        cls, path: Path, design: Mapping[str, Any], columns: Mapping[str, list[str]]
    ) -> Folder:
        """The folder of a sweep of this design, which is made or resumed.

        Raises:
            ValueError: it holds results of another design, with the differences by name; or of unknown
                origin.
        """
        manifest = {
            "format": FORMAT,
            "what": "sweep of macrostat_jax",
            "digest": hashlib.sha256(json.dumps(design, sort_keys=True).encode()).hexdigest(),
            "design": design,
            "columns": dict(columns),
        }
        found = read_manifest(path)
        results = sorted(path.glob("chunk_*"))
        if found is None and results:
            raise ValueError(
                f"{path} holds results of unknown origin ({results[0].name}, but no {MANIFEST}): choose "
                "another folder, or remove them."
            )
        if found is not None and found["digest"] == manifest["digest"]:
            return cls(path, found)
        if found is not None and results:
            changes = differences(found["design"], design)
            raise ValueError(
                f"{path} holds results of another sweep. What differs:\n  "
                + "\n  ".join(changes)
                + "\nChoose another folder, or remove this one."
            )
        with replacing(path / MANIFEST, durable=True) as target:
            target.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        return cls(path, manifest)

    @classmethod
    def open(cls, path: Path, digest: str | None = None) -> Folder:
        """A folder that there is; with `digest`, that of this sweep and no other.

        Raises:
            FileNotFoundError: there is none. OtherSweep: it is that of another one.
        """
        manifest = read_manifest(path)
        if manifest is None:
            raise FileNotFoundError(
                f"{path} holds no sweep (no {MANIFEST}). Workers on other machines need to see the folder "
                "under the same name."
            )
        if digest not in (None, manifest["digest"]):
            raise OtherSweep(f"{path} has become the folder of another sweep.")
        return cls(path, manifest)

    @property
    def chunks(self) -> int:
        return -(-self.runs // self.chunk)

    def span(self, number: int) -> tuple[int, int]:
        """Chunk -> its first run, and the one after its last."""
        return number * self.chunk, min((number + 1) * self.chunk, self.runs)

    def file(self, number: int) -> Path:
        return self.path / f"chunk_{number:06d}.{_files.ENDINGS[self.files]}"

    def receipt(self, number: int) -> dict[str, Any] | None:
        """What the file of a chunk says of itself; None where it is not finished.

        Raises:
            Damaged: the file is torn. ValueError: it belongs to another sweep.
        """
        path = self.file(number)
        found = _files.receipt_of(path)
        if found is not None and (found["sweep"], found["chunk"]) != (self.digest, number):
            raise ValueError(
                f"{path} is not chunk {number} of this sweep, but chunk {found['chunk']} of "
                f"{'this one' if found['sweep'] == self.digest else 'another'}: remove it."
            )
        return found

    def write(self, number: int, content: bytes) -> None:
        """Finishes a chunk: its file is there whole, or not at all.

        The content is on the disk before the file gets its name; the name follows within seconds, or with
        `settle`. A power cut in between costs the chunk, but leaves no torn file.
        """
        scratch = self.path / f"{WRITING}{uuid.uuid4().hex}"
        try:
            with scratch.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, self.file(number))
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        self.failure(number).unlink(missing_ok=True)

    def settle(self) -> None:
        """Brings the names of the files to the disk, too."""
        to_disk(self.path)

    def failure(self, number: int) -> Path:
        return self.path / FAILED / f"chunk_{number:06d}.json"

    def fail(self, number: int, error: BaseException, attempts: int) -> None:
        """Records that a chunk keeps failing."""
        start, stop = self.span(number)
        content = {
            "sweep": self.digest,
            "chunk": number,
            "start": start,
            "stop": stop,
            "error": in_a_line(error),
            "attempts": attempts,
            "details": "".join(traceback.format_exception(error)),
        }
        with replacing(self.failure(number), durable=True) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def failures(self) -> dict[int, dict[str, Any]]:
        """Chunk -> why it failed, for those that are not there: an earlier sweep's do not count."""
        found = {}
        for path in sorted((self.path / FAILED).glob("chunk_*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except FileNotFoundError:  # another process has finished the chunk meanwhile
                continue
            if content.get("sweep") == self.digest and not self.file(content["chunk"]).exists():
                found[content["chunk"]] = content
        return found

    def clear_abandoned(self) -> None:
        """Removes what killed processes had begun to write. It is no result: it has no name yet."""
        for path in self.path.glob(f"{WRITING}*"):
            try:
                if time.time() - path.stat().st_mtime <= ABANDONED:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            except OSError:  # gone, or another user's: it is in nobody's way
                continue


def in_a_line(error: BaseException) -> str:
    """An error as one line: of what a callback of JAX raised, the line that says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) < 2:
        return f"{type(error).__name__}: {error}"
    return lines[-1] if "Traceback" in str(error) else f"{type(error).__name__}: {lines[0]}"


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None where there is none.

    Raises:
        ValueError: it cannot be read, or is not that of a sweep of this version; a file, no folder.
    """
    file = path / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known = content["format"] == FORMAT
        if known:
            Folder(path, content)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise ValueError(f"{path} is a file: the results of a sweep are a folder.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is not the manifest of a sweep, or is torn: choose another folder, or remove it."
        ) from error
    if not known:
        raise ValueError(
            f"{file} has the format {content['format']!r} of another version; this one writes {FORMAT}."
        )
    return content


def identity(
    program: Program, found: Runs, shapes: Any, chunk: int, files: str
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The design of a sweep as its manifest has it, and the columns that follow from it.

    Args:
        shapes: of what is kept of a block.

    Raises:
        TypeError: a `keep` whose code cannot be told, or numbers that such files do not hold.
            ValueError: names of columns that clash, or that such files do not take.
    """
    model = program.plan.model
    about = list(found.columns(np.zeros(0, int)))
    arrays = _kept.arrays(shapes, program.axis)
    for one in arrays:
        if np.dtype(one.array.dtype).kind not in "biuf":
            raise TypeError(
                f"keep returns numbers of type {one.array.dtype} ({one.name}), which files do not "
                "hold: keep real ones."
            )
        if files == "zarr" and ("/" in one.name or not one.name.strip(".")):
            raise ValueError(
                f"keep returns {one.name!r}, which is no name in Zarr files: rename it."
            )
    names = [one.name for one in arrays]
    _kept.check_names(names, about)
    if program.axis == 0:
        columns = list(_kept.columns(_no_runs(shapes)))
        _kept.check_names(columns, about)
        names = columns if files == "parquet" else names
    design = {
        "runs": found.count,
        "chunk": chunk,
        "block": program.block,
        "files": files,
        **program.versions,
        "python": ".".join(platform.python_version_tuple()[:2]),
        "x64": program.x64,
        "model": {
            "name": model.name,
            "code": _fingerprint.of_code(
                *(model.initial_state, model.step),
                *(model.Params, model.Scenario, model.State, model.Noise),  # whose methods they use
            ),
            "variables": {key: list(one.shape) for key, one in model.State.fields.items()},
            "noise": _noise(model),
            "options": {name: str(value) for name, value in model.options.items()},
            "constraints": [str(one) for one in model.constraints],
        },
        "periods": program.plan.periods,
        "points": dict(found.origin),
        "inputs": found.identity(),
        "keep": _described(program.keep, program.plan.recorded),
    }
    return json.loads(json.dumps(design, default=_plain)), {"about": about, "kept": names}


def _noise(model: Any) -> dict[str, Any]:
    """Random input -> its shape, its distribution and, of one's own, the code that draws it."""
    fields = model.Noise.fields if model.Noise is not None else {}
    return {
        key: [list(one.shape), one.distribution]
        + ([] if one.draw in DISTRIBUTIONS.values() else [_fingerprint.of_code(one.draw)])
        for key, one in fields.items()
    }


def _described(keep: Any, recorded: tuple[str, ...] | None) -> Any:
    if keep is None:
        return "all paths" if recorded is None else list(recorded)
    inner: Any = keep
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = getattr(inner, "__wrapped__", inner)
    is_function = isinstance(inner, types.FunctionType | types.MethodType)
    if not is_function and not dataclasses.is_dataclass(inner):
        raise TypeError(
            f"keep is a {type(inner).__name__}, of which a folder of results could not tell one from "
            "another: pass a function, a functools.partial of one, or a dataclass with __call__."
        )
    name = inner.__qualname__ if is_function else repr(inner)
    more: list[Any] = [] if is_function else [type(inner).__call__]
    if isinstance(inner, types.MethodType):
        more.append(inner.__self__)
    return {"name": name, "code": _fingerprint.of_code(keep, *more)}


def _plain(value: Any) -> Any:
    """What JSON does not know: numbers of NumPy are numbers, everything else is its text."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else str(value)


def _no_runs(shapes: Any) -> Any:
    return jax.tree.map(lambda x: np.empty((0, *x.shape[1:]), jnp.dtype(x.dtype)), shapes)
