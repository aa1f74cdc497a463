"""Writing test networks, and a whole network, in the forms to be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.exporters import Exporter
from edgekit.exporters.base import ExportSpec
from edgekit.kernel_group import KernelGroup, candidates
from edgekit.passes.base import Log
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.program import Program, as_tuple, clone, finish
from edgekit.quiet import silenced
from edgekit.reference import program_in_float64
from edgekit.tune.probe import probe_program, probe_shape

EMPTY = ""
"""The name of the test network without the group."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Files to be compared: the same network, written in different ways.

    Attributes:
        files: Name of each to its files, the loadable one first.
        inputs: What all of them are given.
        expected: What each should answer, (N, ...) in float64.
    """

    files: Mapping[str, tuple[Path, ...]]
    inputs: Mapping[str, NDArray[np.float32]]
    expected: Mapping[str, NDArray[np.float64]]


def group_contest(group: KernelGroup, exporter: Exporter, precision: str, folder: Path) -> Contest:
    """Writes the test network of a group in every form, and without the group.

    Raises:
        ConverterError: The converter failed.
    """
    trained = probe_program(group)
    programs = {EMPTY: probe_program(replace(group, chains=())), **dict.fromkeys(candidates(group), trained)}
    x = torch.randn(probe_shape(group), generator=torch.Generator().manual_seed(0))
    files, expected = {}, {}
    exact = {program: as_tuple(program_in_float64(program)(x))[0].numpy() for program in set(programs.values())}
    for index, (name, program) in enumerate(programs.items()):
        lowered = in_form(program, exporter.runtime, precision, () if name == EMPTY else (name,))
        files[name] = write(lowered, exporter, folder, f"probe{index}")
        expected[name] = exact[program]
    return Contest(files, {"x": x.numpy()}, expected)


def in_form(program: Program, runtime: str, precision: str, forms: tuple[str, ...]) -> Program:
    """A program as it is lowered for a runtime, with its groups in these forms."""
    lowering = LOWERINGS[runtime, precision]
    for rewrite in (*lowering.before, *([KernelForms(forms)] if forms else []), *lowering.after):
        program = clone(program)
        rewrite(program, Log())
        finish(program)
    return program


def write(program: Program, exporter: Exporter, folder: Path, stem: str) -> tuple[Path, ...]:
    """Writes a test network: the exporter's first choice of how to."""
    x, y = program.graph.find_nodes(op="placeholder")[0], program.graph.output_node().all_input_nodes[0]
    specs = [TensorSpec(name=name, shape=tuple(node.meta["val"].shape)) for name, node in (("x", x), ("y", y))]
    with silenced():
        return exporter.load()(program, ExportSpec((specs[0],), (specs[1],), {}), folder, stem)[0].files
