"""A folder of results, one batch at a time: what is finished survives, and is not computed again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


class Store:
    """A folder whose manifest says what its results belong to, and which batches are finished.

    Args:
        folder: it is made with the first result.
        design: what decides the results, of what JSON can hold. A folder holds results of one design.
        pattern: what results look like (`outputs_*`): those that no manifest explains are not ours.

    Raises:
        ValueError: the folder holds results of another design, with the differences by name; or
            results without a manifest.
    """

    def __init__(self, folder: os.PathLike | str, design: Mapping[str, Any], pattern: str) -> None:
        self.folder = Path(folder)
        self.design = json.loads(json.dumps(design))  # as a file gives it back
        self._finished: dict[str, dict[str, int]] = {}
        manifest = self.folder / MANIFEST
        if manifest.exists():
            self._take(manifest)
        elif found := sorted(self.folder.glob(pattern)):
            raise ValueError(
                f"{self.folder} holds results of unknown origin ({found[0].name}, but no {MANIFEST}): "
                "choose another output folder, or remove them."
            )

    def _take(self, manifest: Path) -> None:
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            design, finished = content["design"], content["finished"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{manifest} cannot be read: choose another output folder, or remove this one."
            ) from error
        changes = differences(design, self.design)
        if changes and finished:
            raise ValueError(
                f"{self.folder} holds results of another design. What differs:\n  "
                + "\n  ".join(changes)
                + "\nChoose another output folder, or remove this one."
            )
        self._finished = finished

    def begin(self) -> None:
        """Says whose folder this is, before the first result is in it."""
        if not self._finished:
            self._write_manifest()

    def is_finished(self, batch: int) -> bool:
        """Whether the batch was finished, and its files are there in the size they had."""
        files = self._finished.get(str(batch))
        return files is not None and all(
            _size(self.folder / name) == size for name, size in files.items()
        )

    def finish(self, batch: int, files: Iterable[str]) -> None:
        """Records that a batch is finished, with those of its files that there are."""
        found = {name: _size(self.folder / name) for name in files}
        self._finished[str(batch)] = {k: size for k, size in found.items() if size is not None}
        self._write_manifest()

    def _write_manifest(self) -> None:
        content = {"format": 1, "design": self.design, "finished": self._finished}
        with replacing(self.folder / MANIFEST) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """What differs between two designs, a line for each entry: `bounds.TaxRate: [0, 1] there, ... here`."""
    if isinstance(there, dict) or isinstance(here, dict):
        a, b = (side if isinstance(side, dict) else {} for side in (there, here))
        lines = []
        for key in dict.fromkeys([*b, *a]):
            label = f"{name}.{key}" if name else key
            lines += differences(a.get(key, "nothing"), b.get(key, "nothing"), label)
        return lines
    if there == here or (there != there and here != here):
        return []
    return [f"{name}: {there} there, {here} here"]


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A path to write to, of the same file name, that takes the place of `path` once it is written.

    An interrupted or failed write leaves what was there. With `durable`, the content is on the disk before
    it takes that place, so that not even a power cut leaves a torn file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A folder, and not a name, of its own: compressed files record the name they were written under.
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
    try:
        yield scratch / path.name
        if durable:
            to_disk(scratch / path.name)
        os.replace(scratch / path.name, path)
        if durable:
            to_disk(path.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def to_disk(path: Path) -> None:
    """Brings what the system still holds in memory of a file, or of a folder's names, to the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # which cannot open folders
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        # Network and user-space file systems do not do it for folders: what is in the files is safe.
        if not folder or error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
            errno.ENOSYS,
            errno.EBADF,
        ):
            raise
    finally:
        os.close(handle)
