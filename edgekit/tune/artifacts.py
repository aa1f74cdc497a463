"""Writing test networks, and a whole network, in the forms to be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from edgekit.artifact import TensorSpec
from edgekit.errors import ConverterError
from edgekit.exporters import Exporter
from edgekit.exporters.base import ExportSpec
from edgekit.kernel_group import KernelGroup, candidates
from edgekit.passes.base import Log
from edgekit.passes.lower import LOWERINGS
from edgekit.passes.lower.kernel_forms import KernelForms
from edgekit.program import Program, as_tuple, clone, finish, stats
from edgekit.quiet import silenced
from edgekit.reference import program_in_float64
from edgekit.tune.probe import probe_program, probe_shape

EMPTY = ""
"""The name of the test network without the group."""

MOST_WORK = 10
"""A form with this many times the multiplications of another is not worth the time to measure it."""


@dataclass(frozen=True, slots=True)
class Contest:
    """Files to be compared: the same network, written in different ways.

    Attributes:
        files: Name of each to its files, the loadable one first.
        inputs: What all of them are given.
        expected: What each should answer, (N, ...) in float64.
        failures: Why other ways to write it have no files.
    """

    files: Mapping[str, tuple[Path, ...]]
    inputs: Mapping[str, NDArray[np.float32]]
    expected: Mapping[str, NDArray[np.float64]]
    failures: Mapping[str, str] = field(default_factory=dict)


def group_contest(group: KernelGroup, exporter: Exporter, precision: str, folder: Path) -> Contest:
    """Writes the test network of a group in every form, and without the group."""
    trained = probe_program(group)
    programs = {EMPTY: probe_program(replace(group, chains=())), **dict.fromkeys(candidates(group), trained)}
    x = torch.randn(probe_shape(group), generator=torch.Generator().manual_seed(0))
    exact = {program: as_tuple(program_in_float64(program)(x))[0].numpy() for program in set(programs.values())}
    lowered = {
        name: in_form(program, exporter.runtime, precision, () if name == EMPTY else (name,))
        for name, program in programs.items()
    }
    worth = worth_running({name: stats(program).macs for name, program in lowered.items()})
    files, failures = {}, {}
    for index, name in enumerate(worth):
        try:
            files[name] = write(lowered[name], exporter, folder, f"probe{index}")
        except ConverterError as error:
            failures[name] = str(error)
    return Contest(files, {"x": x.numpy()}, {name: exact[programs[name]] for name in files}, failures)


def worth_running(macs: Mapping[str, int]) -> list[str]:
    """The programs that do not multiply so much more than the least of them that no kernel makes up for it."""
    own = {name: count - macs[EMPTY] for name, count in macs.items() if name != EMPTY}
    return [EMPTY, *(name for name, count in own.items() if count <= MOST_WORK * max(min(own.values()), 1))]


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
