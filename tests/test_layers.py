"""The laws of the layout: who may import whom, what a light command may load, and how large a file may grow."""

import ast
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.layout import ALLOWED, FREE, SHARED, WORDS

ROOT = Path(__file__).parents[1]
LINKED = ("exporters", "quant", "targets")
FOLDERS = ("edgekit", *LINKED)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

FRAMEWORKS = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "onnxsim",
    "openvino",
    "litert_torch",
    "ai_edge_litert",
    "MNN",
    "ncnn",
    "pnnx",
)

HELP_CPU_SECONDS = 0.150


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Every module of the four folders under the name it is imported by; the links inside edgekit/ are not followed."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts if folder == "edgekit" else ("edgekit", *parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(tree: ast.Module) -> Iterator[str]:
    """Everything a module imports, anywhere in it, and modules of edgekit named in strings, as tables name them.

    `from a import b` may mean the module a.b, so both come.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Two words without a colon, "edgekit.reference", are a key of some file's metadata.
            module, colon, _ = node.value.partition(":")
            if re.fullmatch(r"edgekit(\.\w+)+" if colon else r"edgekit(\.\w+){2,}", module):
                yield module


def unit(name: str) -> str:
    """The module or package of edgekit that a dotted name is in: edgekit.passes.lower -> passes."""
    parts = name.split(".")
    return parts[1] if parts[0] == "edgekit" and len(parts) > 1 else ""


def breach(importer: str, *, is_package: bool, name: str) -> str | None:
    """What is wrong with one import, if anything."""
    if name.startswith("."):
        return "imports relatively; write the whole name"
    if name.split(".")[0] in LINKED:
        return f"imports {name}, which makes a second copy of it; write edgekit.{name}"
    own, other = unit(importer), unit(name)
    if other == own:
        parts = name.split(".")
        if own in SHARED and not is_package and len(parts) > 2 and parts[2] not in SHARED[own] and name != importer:
            return f"imports its neighbour {name}; within {own} only {', '.join(sorted(SHARED[own]))} is shared"
        return None
    if own in FREE or other not in ALLOWED.keys() | FREE or other in WORDS:
        return None
    if other not in ALLOWED.get(own, frozenset()):
        return f"{own or 'edgekit'} may not import {other}"
    return None


def violations(root: Path) -> list[str]:
    """Every import that breaks a law, and every module no law speaks of."""
    found = []
    for name, path in modules(root):
        if unit(name) not in ALLOWED.keys() | FREE | {""}:
            found.append(f"{name}: is not in ALLOWED; say there what it may import")
            continue
        tree = ast.parse(path.read_text())
        breaches = (breach(name, is_package=path.stem == "__init__", name=other) for other in imported(tree))
        found += sorted({f"{name}: {text}" for text in breaches if text})
    return found


def too_long(path: Path) -> list[str]:
    """The file and its functions that exceed the limits."""
    text = path.read_text()
    lines = text.count("\n")
    found = [f"{path.name}: {lines} lines"] if lines > MAX_FILE_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            lines = node.end_lineno - node.lineno + 1
            if lines > MAX_FUNCTION_LINES:
                found.append(f"{path.name}: {node.name} has {lines} lines")
    return found


def python_files() -> list[Path]:
    folders = (*FOLDERS, "tests", "scripts", "benchmarks")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_every_import_keeps_the_law() -> None:
    assert violations(ROOT) == []


def test_law_speaks_of_modules_that_exist() -> None:
    units = {unit(name) for name, _ in modules(ROOT)}
    assert ALLOWED.keys() | FREE <= units


def test_data_flows_one_way() -> None:
    order = list(TopologicalSorter(ALLOWED).static_order())  # raises CycleError
    assert order.index("pipeline") > order.index("network") > order.index("plan")
    assert not any(allowed & FREE for allowed in ALLOWED.values())


def test_only_the_order_imports_several_stages() -> None:
    stages = {"capture", "exporters", "intake", "models", "passes", "quant", "runners", "targets"}
    assert {name for name, allowed in ALLOWED.items() if len(allowed & stages) > 1} == {
        *("budget", "fused", "network", "partitioned", "pipeline", "plan", "quantize", "quantize_file"),
        *("quantized", "quantized_parts", "tune"),
    }


PLANTED = {
    "stage imports a neighbour": ("exporters/onnx.py", "from edgekit.passes import base", "may not import passes"),
    "stage imports the order": ("quant/recipe.py", "import edgekit.pipeline", "may not import pipeline"),
    "inside a function": ("edgekit/capture.py", "def f():\n    from edgekit.verify import x", "may not import verify"),
    "module from the package": ("edgekit/macs.py", "from edgekit import numerics", "may not import numerics"),
    "by its name in a table": ("targets/board.py", "T = {'a': 'edgekit.runners.onnx:f'}", "may not import runners"),
    "for annotations only": (
        "edgekit/models/x.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from edgekit.plan import Plan",
        "may not import plan",
    ),
    "the command line": ("edgekit/pipeline.py", "from edgekit.cli import cli", "may not import cli"),
    "the package itself": ("edgekit/__init__.py", "from edgekit.plan import Plan", "edgekit may not import plan"),
    "one exporter another": ("exporters/onnx.py", "from edgekit.exporters.tflite import x", "its neighbour"),
    "one runner another": ("edgekit/runners/onnxruntime.py", "import edgekit.runners.tflite", "its neighbour"),
    "bare folder": ("edgekit/plan.py", "import exporters.onnx", "write edgekit.exporters.onnx"),
    "from a bare folder": ("edgekit/plan.py", "from targets import board", "write edgekit.targets"),
    "relative": ("edgekit/plan.py", "from . import errors", "imports relatively"),
    "unknown module": ("edgekit/utils.py", "", "not in ALLOWED"),
}


@pytest.mark.parametrize(("file", "source", "message"), PLANTED.values(), ids=PLANTED.keys())
def test_planted_violation_is_found(tmp_path: Path, file: str, source: str, message: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    found = violations(tmp_path)
    assert found
    assert all(message in violation for violation in found), found


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("exporters/__init__.py", "import torch\nfrom edgekit.exporters.onnx import x\nfrom edgekit.errors import y"),
        (
            "exporters/onnx.py",
            "from edgekit.exporters.base import x\nM = 'edgekit.exporters.onnx'\nK = 'edgekit.model'",
        ),
        ("edgekit/cli/export.py", "from edgekit.cli.output import x\nfrom edgekit.pipeline import export"),
        ("edgekit/passes/fuse.py", "import edgekit\nfrom edgekit.artifact import Certificate"),
    ],
)
def test_lawful_module_passes(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(tmp_path) == []


def test_nobody_imports_the_folders_by_their_bare_names() -> None:
    found = {
        str(path.relative_to(ROOT)): name
        for path in python_files()
        for name in imported(ast.parse(path.read_text()))
        if name.split(".")[0] in LINKED
    }
    assert found == {}


def test_no_drawer() -> None:
    drawers = {"utils", "util", "helpers", "common", "misc"}
    assert [path for path in python_files() if drawers & {*path.relative_to(ROOT).with_suffix("").parts}] == []


def test_files_and_functions_are_short() -> None:
    assert [excess for path in python_files() for excess in too_long(path)] == []


def test_long_file_and_function_are_found(tmp_path: Path) -> None:
    path = tmp_path / "long.py"
    path.write_text("def long():\n" + "    x = 1\n" * MAX_FUNCTION_LINES + "\n" * MAX_FILE_LINES)
    assert too_long(path) == ["long.py: 461 lines", "long.py: long has 61 lines"]


LIGHT = (
    ("--help",),
    ("--version",),
    ("models",),
    ("models", "parcnetv2_t", "--json"),
    ("targets",),
    ("targets", "rk3288"),
    ("export", "parcnetv2_t", "--target", "arm", "--dry-run"),
)

IMPORT_PROBE = """
import json, sys
from edgekit.cli import COMMANDS, cli
frameworks, *lines = json.loads(sys.argv[1])
loaded = {}
def note(what):
    if not loaded and (found := [name for name in frameworks if name in sys.modules]):
        loaded[what] = found
note("import edgekit.cli")
for line in (*lines, *([command, "--help"] for command in COMMANDS)):
    cli(line, standalone_mode=False)
    note(" ".join(line))
print(json.dumps(loaded), file=sys.stderr)
"""


def first_to_load(names: Iterable[str], lines: Iterable[tuple[str, ...]]) -> dict[str, list[str]]:
    """The first of these commands, and of every command's help, after which one of the modules is loaded, and which."""
    command = [sys.executable, "-c", IMPORT_PROBE, json.dumps([[*names], *lines])]
    process = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    loaded: dict[str, list[str]] = json.loads(process.stderr)
    return loaded


def test_light_commands_load_no_framework() -> None:
    assert first_to_load(FRAMEWORKS, LIGHT) == {}


def test_checking_a_bundle_needs_no_torch() -> None:
    code = "import sys, edgekit.check; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_loaded_module_is_found() -> None:
    """`models` prints a table, so it loads rich, which the help before it does not."""
    assert first_to_load(("torch", "rich.table"), (("--help",), ("models",))) == {"models": ["rich.table"]}


def cpu_seconds(*arguments: str) -> float:
    """Processor time of one run of edgekit."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "edgekit", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_is_quick() -> None:
    cpu_seconds("--help")  # the first run may still have to compile
    assert min(cpu_seconds("--help") for _ in range(5)) < HELP_CPU_SECONDS
