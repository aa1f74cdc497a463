"""Intake: what a user writes as MODEL becomes a source of a network.

    parcnetv2_t                a model edgekit ships
    timm:NAME                  an architecture of timm
    package.module:callable    a function, class or module object of an installed or local package
    path/to/file.py:callable   the same, in a file
    model.pt2                  a program saved with torch.export.save
    model.onnx                 an ONNX file

The form is decided by syntax alone, in this order: a card's name, `timm:`, the ending, the colon. Nothing is imported
or read to decide it, so a name of edgekit's own loads no framework.
"""

import ast
from pathlib import Path

from edgekit.errors import MisuseError, ModelError
from edgekit.intake.source import Source, UnknownModelError
from edgekit.models.cards import CARDS

TIMM = "timm:"

CHECKPOINTS = (".pth", ".pth.tar", ".pt", ".ckpt", ".bin", ".safetensors")
"""Endings of files that hold weights but no network."""


def resolve(text: str, *, trust: bool = False, features: bool = False) -> Source:
    """The source that a MODEL argument means.

    Args:
        text: MODEL as the user wrote it.
        trust: Whether a file that could run code while it is read may do so.
        features: Whether the maps a backbone finds are wanted instead of what its classifier makes of them.

    Raises:
        UnknownNameError: It has none of the forms, and no model has that name.
        ModelError: It names a file that is not there.
        MisuseError: It is nearly one of the forms; the message says what is missing.
    """
    if text in CARDS:
        from edgekit.intake.zoo import ZooSource

        return ZooSource(text, features=features)
    if text.startswith(TIMM):
        from edgekit.intake.timm import TimmSource, timm_name

        return TimmSource(timm_name(text.removeprefix(TIMM)), features=features)
    if features:
        raise MisuseError(
            f"--features is for edgekit's own backbones and timm's; {text} returns what it returns. Leave the option "
            "out, and give a network that returns its feature maps."
        )
    lower = text.lower()
    if lower.endswith(".pt2"):
        from edgekit.intake.exported import ExportedSource

        return ExportedSource(existing(text), trust=trust)
    if lower.endswith(".onnx"):
        from edgekit.intake.onnx_source import OnnxSource

        return OnnxSource(existing(text))
    return resolve_callable(text)


def resolve_callable(text: str) -> Source:
    """A callable of a package or a file.

    Raises:
        UnknownNameError, ModelError, MisuseError: As `resolve`.
    """
    if text.lower().endswith(CHECKPOINTS):
        raise MisuseError(
            f"{text} is a checkpoint: weights without the network they belong to. "
            f"Name the network and give the file with --weights, as in: edgekit export MODEL --weights {text}"
        )
    if text.endswith(".py"):
        path = existing(text)
        raise MisuseError(
            f"{text} does not say which function or class builds the network. Write {text}:NAME. "
            f"The file defines: {', '.join(defined_names(path)) or 'none'}."
        )
    place, colon, attribute = text.rpartition(":")
    if not colon or not all(part.isidentifier() for part in attribute.split(".")):
        raise UnknownModelError(text, CARDS)
    from edgekit.intake.callables import CallableSource

    if place.endswith(".py"):
        return CallableSource(text, attribute, file=existing(place))
    if all(part.isidentifier() for part in place.split(".")):
        return CallableSource(text, attribute, module=place)
    raise UnknownModelError(text, CARDS)


def existing(text: str) -> Path:
    """The path of a file that is there.

    Raises:
        ModelError: It is not, or it is a folder.
    """
    path = Path(text)
    if path.is_file():
        return path
    if path.is_dir():
        raise ModelError(f"{text} is a folder. Give the file inside it.")
    beside = sorted(str(found) for found in path.parent.glob(f"*{path.suffix}"))[:5] if path.parent.is_dir() else []
    hint = f"Beside it: {', '.join(beside)}." if beside else "Check the path."
    raise ModelError(f"{text} does not exist. {hint}")


def defined_names(path: Path) -> list[str]:
    """Functions and classes at the top level of a Python file, without running it; none when it does not parse."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return []
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")]
