"""Reads a checkpoint file as plain tensors, and never as code.

    file --(regular? non-empty? what it starts with says it is?)--> SHA-256
         --(torch.load(weights_only=True) or safetensors)---------> content
         --(the weights, or their running average)----------------> section, tensors

A pickle can run anything while it is read. PyTorch's restricted unpickler calls nothing but its tensor builders and
what a program has allowed by name. The one name allowed here, while a file is read, is the `argparse.Namespace` that
timm stores beside the weights; `Discarded` takes its place and drops what it is given. Nothing here reads a file in
any other way.
"""

import hashlib
import re
import warnings
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 -- only the class of the error that torch.load raises
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file
from torch import Tensor

from edgekit.errors import WeightsError

TORCH_ENDINGS = (".pth", ".pth.tar", ".pt", ".ckpt", ".bin")
"""File names read with `torch.load`."""

SAFETENSORS_ENDING = ".safetensors"
"""File names read with safetensors."""

SECTIONS = ("state_dict", "model")
"""Where training programs keep the weights, in the order they are looked for."""

EMA_SECTIONS = ("state_dict_ema", "model_ema")
"""Where they keep the exponential moving average of the weights."""

SHOWN = 8
"""How many names a message lists before it says how many more there are."""

HEAD = 512
"""Bytes looked at to tell what a file is."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of a file under the file's own names, and where in the file they were."""

    tensors: dict[str, Tensor]
    section: str | None
    sha256: str


class Discarded:
    """Stands in for `argparse.Namespace` while a file is read: takes any state and keeps none.

    A real Namespace would let a file set `__setstate__` or `__class__` on an object; this one has no attributes to set.
    """

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Drops the state."""


def read_checkpoint(path: Path, *, ema: bool = False) -> Checkpoint:
    """Reads the weights of a `.pth`, `.pth.tar`, `.pt`, `.ckpt`, `.bin` or `.safetensors` file, running no code of it.

    Args:
        path: The file.
        ema: Take the moving average of the weights instead of the weights.

    Raises:
        WeightsError: The file is missing, damaged, of another kind, carries code, or lacks the section asked for.
    """
    sha256 = hash_checkpoint(path)
    content = read_safetensors(path) if path.name.lower().endswith(SAFETENSORS_ENDING) else read_torch(path)
    section, tensors = pick_section(path, content, ema=ema)
    return Checkpoint(tensors, section, sha256)


def shown(names: Collection[str]) -> str:
    """The first names of a collection, and how many more there are; control characters of a file stay harmless."""
    first = [name if name.isprintable() and len(name) <= 120 else ascii(name[:120]) for name in list(names)[:SHOWN]]
    more = len(names) - len(first)
    return ", ".join(first) + (f", … and {more} more" if more else "")


def hash_checkpoint(path: Path) -> str:
    """The SHA-256 of a file that can be a checkpoint by its name and its first bytes."""
    name = path.name.lower()
    if not name.endswith((*TORCH_ENDINGS, SAFETENSORS_ENDING)):
        known = " ".join((*TORCH_ENDINGS, SAFETENSORS_ENDING))
        raise WeightsError(f"{path} has no ending of a weights file. Give one of: {known}.")
    try:
        if path.is_dir():
            raise WeightsError(f"{path} is a folder. Give the weights file inside it.")
        if not path.exists():
            raise WeightsError(f"{path} does not exist. Check the path.")
        if not path.is_file():
            raise WeightsError(f"{path} is not a regular file. Give a file on disk.")
        with path.open("rb") as file:
            head = file.read(HEAD)
            if reason := reason_by_content(head, safetensors=name.endswith(SAFETENSORS_ENDING)):
                raise WeightsError(f"{path} {reason}")
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}. Check who may read it.") from error


def reason_by_content(head: bytes, *, safetensors: bool) -> str | None:
    """Why a file that starts like this cannot be what its name says, or None."""
    is_safetensors = head[8:9] == b"{" and head[6:8] == b"\0\0"  # 8 bytes of header length, then the JSON header
    is_zip = head.startswith(b"PK")
    if not head:
        return "is empty. Fetch it again."
    if head.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer, not the weights. Run `git lfs pull` in its repository."
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "is a web page, probably a login or download page. Fetch the file itself."
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "is a packed archive. Unpack it and give the weights file inside."
    if is_safetensors and not safetensors:
        return f"is a safetensors file under another name. Rename it to end in {SAFETENSORS_ENDING}."
    if is_zip and safetensors:
        return "is a PyTorch file under another name. Rename it to end in .pth."
    return None


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file."""
    try:
        return load_file(path)
    except Exception as error:  # a damaged header raises SafetensorError, KeyError, OSError, ...
        raise damaged(path, error) from error


def read_torch(path: Path) -> object:
    """The content of a `torch.save` file, as tensors, numbers, strings and containers of them."""
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                check_archive(path, file)
            file.seek(0)
            with (
                warnings.catch_warnings(),
                torch.serialization.safe_globals([(Discarded, "argparse.Namespace")]),
            ):
                warnings.simplefilter("ignore")  # what torch finds odd, such as another protocol, it then refuses
                content: object = torch.load(file, map_location="cpu", weights_only=True)
                return content
    except WeightsError:
        raise
    except UnpicklingError as error:
        raise WeightsError(f"{path} was refused: {refusal(str(error), path)}") from error
    except Exception as error:  # a damaged pickle or archive can raise nearly anything
        raise damaged(path, error) from error


def check_archive(path: Path, file: BinaryIO) -> None:
    """Refuses TorchScript, which is code, and archives whose records fail their checksum, which torch.load ignores."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        if any(record.filename.endswith("/constants.pkl") for record in records):
            raise WeightsError(
                f"{path} is a TorchScript archive: a program, not weights. "
                f"Where it was made, save the weights alone: {resave(path)}"
            )
        if not any(record.filename.endswith("/data.pkl") for record in records):
            raise WeightsError(f"{path} is a zip archive, but not one of torch.save. Give the weights file inside it.")
        for record in records:
            if record.CRC:  # 0 when written with torch's compute_crc32 off
                with archive.open(record) as stream:
                    while stream.read(1 << 20):
                        pass


def refusal(message: str, path: Path) -> str:
    """Why the restricted unpickler stopped, from its message, and what to do."""
    name = re.search(r"\bGLOBAL (\S+)", message)
    detail = re.search(r"Unsupported operand \d+|Can only [^\n]{1,80}|Trying to call [^\n]{1,80}", message)
    if name:
        reason = f"it asks for {shown([name[1]])}, which is code and not weights"
    else:
        reason = f"it is no plain pickle of tensors ({shown([detail[0]]) if detail else 'unknown instruction'})"
    return f"{reason}; nothing in it was executed. In the program that made it, save the weights alone: {resave(path)}"


def resave(path: Path) -> str:
    """The line that writes a model's weights without code, for the program that has the model."""
    stem = path.name.split(".")[0]
    return f"from safetensors.torch import save_file; save_file(model.state_dict(), {stem + SAFETENSORS_ENDING!r})"


def damaged(path: Path, error: Exception) -> WeightsError:
    """The error for a file that broke while it was read."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return WeightsError(
        f"{path} is damaged or cut short ({shown([first])}). Fetch it again and compare its size and SHA-256 with the "
        "publisher's."
    )


def pick_section(path: Path, content: object, *, ema: bool) -> tuple[str | None, dict[str, Tensor]]:
    """The weights, or their average, of a training file or a bare dictionary, and the section they were under."""
    if not isinstance(content, dict) or not content:
        held = "nothing" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise WeightsError(f"{path} holds {held} instead of a dictionary of tensors. Save `model.state_dict()` to it.")
    if all(isinstance(value, Tensor) for value in content.values()):
        if ema:
            raise WeightsError(f"{path} holds one bare set of weights and no moving average. Load it without EMA.")
        return None, plain_tensors(path, content, "it")
    wanted = EMA_SECTIONS if ema else SECTIONS
    for name in wanted:
        if isinstance(content.get(name), dict):
            return name, plain_tensors(path, content[name], name)
    what = "moving average" if ema else "weights"
    raise WeightsError(
        f"{path} has no {what} under {' or '.join(wanted)}. "
        f"Sections present: {shown([str(key) for key in content])}. "
        + ("Load it without EMA." if ema else "Save `model.state_dict()` to a file of its own.")
    )


def plain_tensors(path: Path, section: dict[Any, Any], where: str) -> dict[str, Tensor]:
    """A section whose every entry is a dense tensor under a name; anything else is an error that lists it."""
    bad = [str(key) for key, value in section.items() if not (isinstance(key, str) and is_dense(value))]
    if bad or not section:
        found = f"{len(bad)} entries that are not: {shown(bad)}" if bad else "nothing"
        raise WeightsError(
            f"{path} should have named dense tensors and nothing else, but {where} holds {found}. "
            "Save `model.state_dict()` of the float model."
        )
    return section


def is_dense(value: object) -> bool:
    """Whether this is a tensor with one stored number per element."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not value.is_quantized
        and value.device.type == "cpu"
    )
