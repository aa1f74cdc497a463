"""A device that is always there, and bundles for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.bundle import read_manifest
from edgekit.measure import Bundle
from edgekit.targets.device import Device, open_device


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of the machine itself are kept in the cache."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def device() -> Iterator[Device]:
    """The machine itself, as if it were a board."""
    with open_device("local") as opened:
        yield opened


@pytest.fixture
def opened(bundle: Path) -> Bundle:
    """The smallest bundle, as one to measure."""
    return Bundle(bundle, read_manifest(bundle))
