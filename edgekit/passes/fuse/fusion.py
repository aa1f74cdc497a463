"""The fuse stage: branches, norms, permutations and scales of a program become the fewest layers that compute the same.

Everything is decided by the operators of the graph; no model and no module is known by name.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch.fx import Node

from edgekit.artifact import Refusal, RegionCertificate
from edgekit.passes.base import Log
from edgekit.passes.fuse.commute import pool_first
from edgekit.passes.fuse.factors import move_factors
from edgekit.passes.fuse.inplace import make_functional, relax_views
from edgekit.passes.fuse.permute import remove_permutations
from edgekit.passes.fuse.rewrite import fuse_regions
from edgekit.passes.fuse.scale import expose_norms, restore_norms
from edgekit.program import Program, clone, finish, module_path


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """Which modules may be fused: glob patterns on module paths, which hold for everything below a module too.

    `only` names the modules that may be, all where it is empty; `exclude` those that may not.
    """

    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def allows(self, node: Node) -> bool:
        """Whether a node may be fused."""
        paths = _ancestors(module_path(node))
        chosen = not self.only or _any_matches(paths, self.only)
        return chosen and not _any_matches(paths, self.exclude)


def _ancestors(path: str) -> list[str]:
    """A module path and those of the modules around it."""
    parts = path.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _any_matches(paths: list[str], patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for path in paths for pattern in patterns)


@dataclass(slots=True)
class Fuse:
    """Composes maximal linear regions, in float64, and writes each in its cheapest exact form.

    Rules, by the names they are logged under:
    1. `in-place`: relu_(x)  ->  relu(x), where nobody else sees the memory.
    2. `permutation`: conv(shuffle(x), w)  ->  conv(x, w'), with the input channels of w in the order of x.
    3. `convolution`: bn(conv3x3(x)) + bn(conv1x1(avg_pool(x)))  ->  conv3x3(x, w', b')
    4. `linear`: linear(bn(x))  ->  linear(x, w', b')
    5. `affine`: batch_norm(x)  ->  x * scale + shift, where no neighbour can take it exactly.
    6. `sum`: conv(a) * g + bn(b)  ->  conv'(a) + b * scale, where no one layer computes all branches.
    7. `identity`: dropout(x)  ->  x
    8. `norm`: linear(layer_norm(x, g, beta), w, b)  ->  linear(layer_norm(x), w', b')
    9. `pool first`: avg_pool(conv1x1(x))  ->  conv1x1(avg_pool(x)), on fewer pixels.
    10. `factor`: conv(x, w) * (2 * gate)  ->  conv(x, 2 w) * gate

    Attributes:
        certificates: One for each permutation and each region of the last program rewritten.
    """

    options: FuseOptions = field(default_factory=FuseOptions)
    certificates: tuple[RegionCertificate, ...] = ()

    @property
    def name(self) -> str:
        """The name certificates carry."""
        return "fuse"

    def __call__(self, program: Program, log: Log) -> None:
        """Rewrites the program.

        Raises:
            ParityError: A region differs from its old operators by more than float32 rounding explains, or a
                permutation at all.
        """
        allowed = self.options.allows
        make_functional(program, log)
        permutations = remove_permutations(program, allowed, log)
        move_factors(program, allowed, log)
        pool_first(program, allowed, log)
        exposed = expose_norms(program, allowed)
        self.certificates = (*permutations, *fuse_regions(program, allowed, log))
        restore_norms(exposed, log)
        if log.fired:
            relax_views(program)


def fuse(
    program: Program, options: FuseOptions | None = None
) -> tuple[Program, tuple[RegionCertificate, ...], tuple[Refusal, ...]]:
    """A fused copy of a program, the certificate of each region, and what was left with the reason.

    Raises:
        ParityError: A region differs from its old operators by more than float32 rounding explains.
    """
    rewrite, log, copied = Fuse(options or FuseOptions()), Log(), clone(program)
    rewrite(copied, log)
    return finish(copied), rewrite.certificates, tuple(log.declined)
