"""Depthwise kernels are written in the form that was chosen for them.

The forms themselves are in `toeplitz`, `kernel_pieces`, `kernel_rows`, `kernel_polyphase`, `dense_kernel` and
`pixel_matrix`; which of them a group gets is no business of this pass (`edgekit.tuning` decides).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from torch.fx import Node

from edgekit.kernel_group import (
    DENSE,
    DEPTHWISE,
    MATMUL,
    PIECES,
    POLYPHASE,
    ROWS,
    TOEPLITZ,
    Candidate,
    candidates,
    forms_of_steps,
)
from edgekit.passes.base import Log
from edgekit.passes.lower.dense_kernel import write_dense
from edgekit.passes.lower.kernel_pieces import write_pieces
from edgekit.passes.lower.kernel_polyphase import write_polyphase
from edgekit.passes.lower.kernel_rows import write_rows
from edgekit.passes.lower.kernel_sites import GroupSite, StepSite, find_groups
from edgekit.passes.lower.pixel_matrix import write_matmul
from edgekit.passes.lower.toeplitz import write_toeplitz
from edgekit.program import Program

STEP_FORMS: Mapping[str, Callable[[Program, StepSite], Node]] = MappingProxyType(
    {TOEPLITZ: write_toeplitz, PIECES: write_pieces, ROWS: write_rows, POLYPHASE: write_polyphase}
)
"""Form of a single convolution to what writes it."""

WHOLE_FORMS: Mapping[str, Callable[[Program, GroupSite], Node]] = MappingProxyType(
    {DENSE: write_dense, MATMUL: write_matmul}
)
"""Form of a group to what writes it."""


@dataclass(frozen=True, slots=True)
class KernelForms:
    """Writes groups of depthwise convolutions in given forms.

    Attributes:
        forms: Names of candidates, one for each group that `find_groups` finds, in its order.
    """

    forms: tuple[str, ...]

    @property
    def name(self) -> str:
        return "kernel-forms"

    def __call__(self, program: Program, log: Log) -> None:
        moved: dict[Node, Node] = {}
        for site, name in zip(find_groups(program), self.forms, strict=True):
            candidate = candidates(site.group)[name]
            if candidate.whole is not None:
                here = replace(site, source=moved.get(site.source, site.source))
                moved[site.result] = WHOLE_FORMS[candidate.whole](program, here)
                site.result.replace_all_uses_with(moved[site.result])
                log.fired[candidate.whole] += 1
            else:
                _write_steps(program, site, candidate, log, moved)


def _write_steps(program: Program, site: GroupSite, candidate: Candidate, log: Log, moved: dict[Node, Node]) -> None:
    """Writes every convolution of a group in the form of its kind; `moved` has what took the place of which node."""
    steps = (step for chain in site.chains for step in chain)
    for step, form in zip(steps, forms_of_steps(site.group, candidate.kinds), strict=True):
        if form == DEPTHWISE:
            continue
        here = StepSite(step.node, moved.get(step.source, step.source), step.step)
        moved[step.node] = STEP_FORMS[form](program, here)
        step.node.replace_all_uses_with(moved[step.node])
        log.fired[form] += 1
