"""Whether a `.pt2` file can be read without running anything that is in it.

`torch.export.load` can run code of the file in four ways: tensors and objects may be stored as pickles, which are
loaded without restriction; sizes are strings that sympy evaluates; an operator is any dotted name below `torch`; and a
tree of outputs may name modules to import. A file that torch.export.save wrote for a plain network uses none of them.
What is checked here is that it does not:

1. No stored tensor, constant or sample input is a pickle that the restricted unpickler refuses.
2. Every size is a number, or an expression of the few functions that sizes are made of.
3. Every operator is an ATen operator or one of Python's own arithmetic.
4. Every tree is made of tuples, lists and dictionaries.
5. There is no compiled code.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import torch

OPERATOR = re.compile(r"torch\.ops\.aten\.(?!from_file)\w+\.\w+|_operator\.\w+|torch\.sym_\w+|math\.\w+")

SIZES = frozenset(
    {
        "Symbol",
        "Integer",
        "Mul",
        "Add",
        "Pow",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CeilDiv",
        "CleanDiv",
        "ModularIndexing",
        "Max",
        "Min",
        "Rational",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "IntTrueDiv",
        "ToFloat",
        "FloatTrueDiv",
        "TruncToInt",
        "Identity",
        "Where",
        "And",
        "Or",
        "Not",
        "true",
        "false",
    }
)
"""What sizes are written with."""

TREES = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict", None})

LONGEST = 80
"""Characters of a file's own words that are shown."""

PLAIN_NODES = (ast.Expression, ast.Constant, ast.keyword, ast.Load, ast.UnaryOp, ast.USub)


def reason_for_distrust(file: BinaryIO) -> str | None:
    """Why reading a `.pt2` file might run code of it, or None when it does not.

    Raises:
        zipfile.BadZipFile, ValueError, KeyError: The file is damaged.
    """
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        compiled = [name for name in names if name.endswith((".so", ".o", ".cubin", ".dll")) or "/aotinductor/" in name]
        if compiled:
            return f"it holds compiled code ({compiled[0].rpartition('/')[2]})"
        if len(set(names)) < len(names):
            return "it holds two entries of one name, of which readers may take either"
        if not any("/models/" in name for name in names):
            return "it has the layout of torch 2.7 and older, in which everything is a pickle"
        for name in names:
            if name.endswith(".pt") and not is_plain_pickle(archive.read(name)):
                return f"{name.rpartition('/')[2]} is a pickle of more than tensors"
            if name.endswith(".json") and (reason := reason_in_json(json.loads(archive.read(name)))):
                return reason
    return None


def reason_in_json(content: Any) -> str | None:
    """What is wrong with a list of stored tensors, or with a program."""
    stored = content.get("config") if isinstance(content, dict) else None
    return stored_as_pickle(stored) if isinstance(stored, dict) else next(suspicious(content), None)


def stored_as_pickle(entries: dict[str, Any]) -> str | None:
    """Whether the list of stored tensors has an entry that is not plain bytes."""
    for name, entry in entries.items():
        if entry["use_pickle"] or "custom_obj" in entry["path_name"] or "opaque_obj" in entry["path_name"]:
            return f"{brief(str(name))!r} is stored as a pickle"
    return None


def brief(text: str) -> str:
    """A file's own words on one line, cut when long."""
    joined = " ".join(text.split())
    return joined if len(joined) <= LONGEST else f"{joined[:LONGEST]} …"


def is_plain_pickle(content: bytes) -> bool:
    """Whether the restricted unpickler reads it, which then runs nothing."""
    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - whatever keeps it from being read, it is not plain
        return not content
    return True


def suspicious(value: Any) -> Iterator[str]:
    """What in a program's description could run code, each with the reason."""
    if isinstance(value, list):
        for item in value:
            yield from suspicious(item)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        if key == "target" and isinstance(item, str) and not OPERATOR.fullmatch(item):
            yield f"it calls {brief(item)!r}, which is no ATen operator"
        elif key == "expr_str" and not is_size(item):
            yield f"it has a size that is no plain expression: {brief(str(item))!r}"
        elif key in {"in_spec", "out_spec"} and isinstance(item, str) and item and not is_tree(json.loads(item)):
            yield f"its {key[:-5]}puts are put together by a class of their own"
        else:
            yield from suspicious(item)


def is_size(text: object) -> bool:
    """Whether a size is written with numbers, symbols and the functions of `SIZES` alone."""
    try:
        nodes = list(ast.walk(ast.parse(str(text), mode="eval")))
    except (SyntaxError, ValueError, RecursionError):
        return False
    for node in nodes:
        if isinstance(node, ast.Name):
            if node.id not in SIZES and not re.fullmatch(r"z?[su][uf]?\d+", node.id):
                return False
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and not re.fullmatch(r"\w{1,40}", node.value):
                return False
        elif isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name):
                return False
        elif not isinstance(node, PLAIN_NODES):
            return False
    return True


def is_tree(spec: Any) -> bool:
    """Whether a tree of inputs or outputs is made of Python's own containers."""
    if isinstance(spec, list):
        return all(is_tree(item) for item in spec)
    if isinstance(spec, dict):
        return spec.get("type") in TREES and all(is_tree(item) for item in spec.get("children_spec", ()))
    return True
