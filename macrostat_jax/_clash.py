"""The published distribution `macrostat` in the same environment overwrites our package `macrostat`."""

from __future__ import annotations

import importlib.metadata

MESSAGE = (
    "The distribution 'macrostat' {version} is installed in the same environment as 'macrostat-jax'. Both "
    "provide the import package 'macrostat', and pip lets the one installed last overwrite the other's "
    "files: 'import macrostat' may not be ours. To mend it: pip uninstall macrostat, then "
    "pip install --force-reinstall --no-deps macrostat-jax. To compare the two, keep the published package in "
    "an environment of its own."
)


def clash() -> str | None:
    """What is wrong and how to mend it, or None."""
    try:
        version = importlib.metadata.version("macrostat")
    except importlib.metadata.PackageNotFoundError:
        return None
    return MESSAGE.format(version=version)
