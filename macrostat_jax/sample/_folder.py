"""The folder of a sweep: a manifest that says whose it is, and one file for each finished chunk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import traceback
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._store import differences, replacing, to_disk
from . import _files

FORMAT = 1
MANIFEST, FAILED = "_manifest.json", "_failed"
"""Readers of folders of Parquet files pass over names that begin like these."""
WRITING = ".writing-"
ABANDONED = 3600.0
"""After so many seconds, what a killed process was writing is cleared away."""


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
            FileNotFoundError: there is none. ValueError: it is that of another sweep.
        """
        manifest = read_manifest(path)
        if manifest is None:
            raise FileNotFoundError(
                f"{path} holds no sweep (no {MANIFEST}). Workers on other machines need to see the folder "
                "under the same name."
            )
        if digest not in (None, manifest["digest"]):
            raise ValueError(f"{path} has become the folder of another sweep.")
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
        """Chunk -> why it failed."""
        found = {}
        for path in sorted((self.path / FAILED).glob("chunk_*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            if not self.file(content["chunk"]).exists():
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
            except FileNotFoundError:
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
        ValueError: it cannot be read, or is not that of a sweep of this version.
    """
    file = path / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known = content["format"] == FORMAT
        if known:
            Folder(path, content)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is not the manifest of a sweep, or is torn: choose another folder, or remove it."
        ) from error
    if not known:
        raise ValueError(
            f"{file} has the format {content['format']!r} of another version; this one writes {FORMAT}."
        )
    return content
