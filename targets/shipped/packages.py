"""Packages in edgekit's private folder on a board, where the runner finds them and nobody else does."""

from __future__ import annotations

import compileall
import os
import shutil
import zipfile

FOLDER = "wheels"
PARTIAL = "wheels.partial"


def install(archive: str, session: str) -> None:
    """Unpacks an archive beside the packages that are there already; one of the same name is replaced."""
    root = _root(session)
    partial, folder = os.path.join(root, PARTIAL), os.path.join(root, FOLDER)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as packages:
            packages.extractall(partial)
        os.unlink(archive)
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(partial):
            target = os.path.join(folder, name)
            if os.path.isdir(target):
                shutil.rmtree(target)
            os.replace(os.path.join(partial, name), target)
        compileall.compile_dir(folder, quiet=2)  # once, or a slow board would do it at every start
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def uninstall(session: str) -> None:
    """Removes all of them."""
    for name in (FOLDER, PARTIAL):
        shutil.rmtree(os.path.join(_root(session), name), ignore_errors=True)


def _root(session: str) -> str:
    return os.path.dirname(os.path.dirname(session))
