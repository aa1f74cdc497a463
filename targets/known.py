"""The devices that `edgekit devices` lists: this machine, the emulated boards, and boards that were set up."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.files import whole_file
from edgekit.targets.address import Address
from edgekit.targets.place import cache_folder
from edgekit.targets.userland import USERLANDS, find_userland


class Known(Struct, frozen=True, kw_only=True):
    """A device one can name, and in a few words what is known of it without asking it."""

    address: str
    kind: str
    note: str


def known_devices() -> list[Known]:
    """All of them; nothing is connected to."""
    return [
        Known(address="local", kind="this machine", note="runs what is installed in edgekit's own environment"),
        *(_emulated(name) for name in USERLANDS),
        *(
            Known(address=address, kind="board", note=f"was set up with {', '.join(runtimes)}")
            for address, runtimes in _read().items()
        ),
    ]


def _emulated(name: str) -> Known:
    board, folder = USERLANDS[name], find_userland(name)
    if folder.is_dir():
        note = f"ready, {_size(folder) >> 20} MiB"
    elif shutil.which(board.qemu) is None:
        note = f"needs {board.qemu}; on Debian 12, as root: apt-get install qemu-user"
    else:
        note = "is made from packages when it is first used"
    return Known(address=f"qemu://{name}", kind=f"emulated {board.cpu}", note=note)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*"))


def remember(address: Address, distributions: Iterable[str]) -> None:
    """Lists a board from now on."""
    _write({**_read(), address.text: tuple(distributions)})


def forget(address: Address) -> None:
    """Lists a board no longer."""
    _write({known: runtimes for known, runtimes in _read().items() if known != address.text})


def remove_userland(name: str) -> bool:
    """Removes an emulated board from the cache; says whether there was one."""
    folder = find_userland(name)
    there = folder.is_dir()
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)
    return there


def _file() -> Path:
    return cache_folder("devices") / "boards.json"


def _read() -> dict[str, tuple[str, ...]]:
    try:
        return msgspec.json.decode(_file().read_bytes(), type=dict[str, tuple[str, ...]])
    except (FileNotFoundError, msgspec.DecodeError):  # a list of conveniences is not worth an error
        return {}


def _write(boards: dict[str, tuple[str, ...]]) -> None:
    _file().parent.mkdir(parents=True, exist_ok=True)
    with whole_file(_file()) as partial:
        partial.write_bytes(msgspec.json.encode(boards))
