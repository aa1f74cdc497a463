"""What a profile says: each operator of an artifact with its time and work, and the ceiling it is compared with.

Several profiles of one call go into `profiles/<time>.json` of a bundle, so all of them are frozen msgspec structs.
Times end in `_ms` (milliseconds).
"""

from msgspec import Struct

from edgekit.bench.ceiling_record import Ceiling
from edgekit.bench.record import Machine

PROFILE_SCHEMA_VERSION = 1


class OperatorRow(Struct, frozen=True, kw_only=True):
    """One operator of a runtime.

    Attributes:
        name: As the runtime calls it.
        kind: Its kernel, as the runtime calls it.
        module: Path of the torch module it came from; of several fused ones that with most MACs.
        nodes: The nodes of the file it computes; empty where it only moves a tensor.
        ms: Median over the runs.
        macs: Multiply-accumulates of its nodes.
        bytes: What it reads and writes, constants included; between fused nodes nothing passes.
        fastest_ms: What it would take at the ceiling.
    """

    name: str
    kind: str
    module: str
    nodes: tuple[str, ...]
    ms: float
    macs: int
    bytes: int
    fastest_ms: float


class ArtifactProfile(Struct, frozen=True, kw_only=True):
    """Where the time of an artifact goes.

    Attributes:
        latency_ms: A run without the profiler, median; half of the runs came before the profile, half after.
        fastest_ms: The fastest of these.
        profiled_ms: A run while the runtime measured itself, median.
        inside: Share of such a run that its operators take, median over the runs.
    """

    artifact: str
    runtime: str
    runs: int
    latency_ms: float
    fastest_ms: float
    profiled_ms: float
    inside: float
    ceiling: Ceiling
    operators: tuple[OperatorRow, ...]

    @property
    def operators_ms(self) -> float:
        """All operators together."""
        return sum(row.ms for row in self.operators)

    @property
    def outside_ms(self) -> float:
        """What a run takes besides, by its median share; below zero where runtimes measure operators generously."""
        return self.operators_ms * (1 / self.inside - 1) if self.inside else 0.0


class StoredProfile(Struct, frozen=True, kw_only=True):
    """A profile, and the hash of all files of the artifact it is of."""

    sha256: str
    profile: ArtifactProfile


class ProfileRun(Struct, frozen=True, kw_only=True):
    """The profiles of one call, on one machine."""

    schema_version: int
    created: str
    edgekit_version: str
    command: tuple[str, ...]
    machine: Machine
    measurements: tuple[StoredProfile, ...]
