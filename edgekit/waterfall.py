"""The networks between the trained model and the artifacts of a bundle, each as a function of images.

torch fp32, as captured -> fused, as all runtimes share it -> each artifact in its runtime

The first two are built anew from what the manifest says the network was made of, and are the bundle's network only if
they return what its reference holds.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.bundle import Manifest, Member, Progress, check_file
from edgekit.cache import stage_key, tool_versions
from edgekit.clock import Clock
from edgekit.errors import ArtifactError, EdgekitError, MisuseError, ParityError
from edgekit.evaluation.loop import Classify
from edgekit.evaluation.record import Step
from edgekit.plan import Request, make_plan, runs_user_code
from edgekit.quiet import silenced
from edgekit.reference_file import read_reference
from edgekit.runners import RUNNERS, load

if TYPE_CHECKING:
    from edgekit.network import Network
    from edgekit.program import Program

AS_TRAINED, FUSED = "torch fp32", "fused"
"""The names of torch's networks: as captured, and as all runtimes share it."""

FLOAT = "fp32"


@dataclass(frozen=True, slots=True)
class Contender:
    """A network that answers: what it is called, and how it is loaded."""

    step: Step
    open: Callable[[], AbstractContextManager[Classify]]


class Rebuilt:
    """The network of a bundle, built anew from what it was made of, when somebody asks for it.

    `problem` says why it cannot be, once it was tried.
    """

    def __init__(self, folder: Path, manifest: Manifest, progress: Progress, *, trust: bool) -> None:
        self._folder, self._manifest, self._trust = folder, manifest, trust
        self._clock = Clock(progress)
        self.problem: EdgekitError | None = None

    @cached_property
    def network(self) -> "Network":
        """The network, found to be the one that the bundle's reference is of.

        Raises:
            EdgekitError: It cannot be built, or it is another one by now.
        """
        try:
            plan = make_plan(self._request())
            against = read_reference(check_file(self._folder, self._manifest.reference))
            from edgekit.network import prepare

            return prepare(plan, self._clock.stage, against)
        except ParityError as error:
            self.problem = ParityError(f"What the bundle was made from is another network by now. {error}")
            raise self.problem from error
        except EdgekitError as error:
            self.problem = error
            raise

    def _request(self) -> Request:
        """What to ask for to get the network.

        Raises:
            MisuseError: It is code that nobody has agreed to run again.
        """
        origin, manifest = self._manifest.origin, self._manifest
        if not self._trust and runs_user_code(origin.model):
            raise MisuseError(f"{origin.model} is code, which eval runs with --trust only.")
        return Request(
            model=origin.model,
            target=manifest.target,
            formats=("pt2",),
            shape={spec.name: spec.shape for spec in manifest.inputs},
            features=origin.features,
            kernel_policy=manifest.kernel_policy,
            weights=origin.weights,
            sha256=origin.weights_sha256 if origin.weights else None,  # shipped ones are not asked for
            ema=origin.ema,
            seed=origin.seed,
            trust=self._trust,
            only=origin.only,
            no_fuse=origin.no_fuse,
        )

    def program(self, step: str) -> "Program":
        """The program of one of torch's steps.

        Raises:
            EdgekitError: As `network`.
        """
        network = self.network
        return network.programs["capture"] if step == AS_TRAINED else network.proven.program


def torch_contenders(manifest: Manifest, rebuilt: Rebuilt, threads: int) -> Iterator[Contender]:
    """The networks that torch runs, before and after fusing."""
    for name in (AS_TRAINED, FUSED):
        yield Contender(torch_step(manifest, name), partial(open_torch, rebuilt, name, threads))


def artifact_contenders(folder: Path, manifest: Manifest, formats: Sequence[str], threads: int) -> Iterator[Contender]:
    """The artifacts of these formats, or of all where there are none; those in float first.

    An artifact in parts is left out: it was proved to answer as the whole one.

    Raises:
        MisuseError: The bundle has none of the formats asked for.
    """
    held = [member for member in manifest.whole if not formats or member.artifact.format in formats]
    if not held:
        there = ", ".join(sorted({member.artifact.format for member in manifest.members}))
        raise MisuseError(f"{folder} has no artifact in {', '.join(formats)}. It holds {there}.")
    for member in sorted(held, key=lambda member: member.artifact.precision != FLOAT):
        yield Contender(artifact_step(member), partial(open_artifact, folder, manifest, member, threads))


def artifact_step(member: Member) -> Step:
    """What an artifact is, before anything is known of its answers."""
    artifact = member.artifact
    package = RUNNERS[artifact.runtime][1] if artifact.runtime in RUNNERS else artifact.runtime
    return Step(
        name=artifact.files[0].name,
        sha256=artifact.sha256,
        format=artifact.format,
        precision=artifact.precision,
        runtime=artifact.runtime,
        runtime_version=tool_versions((package,)).get(package, ""),
        size_bytes=sum(file.size for file in artifact.files),
        verdict="first",
        top1=None,
        top5=None,
        nonfinite=0,
    )


@contextmanager
def open_artifact(folder: Path, manifest: Manifest, member: Member, threads: int) -> Iterator[Classify]:
    """An artifact in its runtime, after comparing its hashes.

    Raises:
        ArtifactError: It is not the bundle's, its runtime does not take it, or it returns something else.
        MissingExtraError: The runtime is not installed.
    """
    paths = [check_file(folder, file) for file in member.artifact.files]
    given, wanted = manifest.inputs[0], manifest.outputs[0]
    with silenced(), load(member.artifact.runtime, paths[0], threads) as runner:
        held = [(spec.name, spec.shape) for spec in (*runner.inputs, *runner.outputs)]
        if not {(given.name, given.shape), (wanted.name, wanted.shape)} <= set(held):
            raise ArtifactError(f"{paths[0].name} is not this bundle's network: its tensors are {held}.")
        yield lambda images: runner.run({given.name: images})[wanted.name]


def torch_step(manifest: Manifest, name: str) -> Step:
    """One of torch's networks; the reference outputs tell it from all others, the certificates how it was fused."""
    done = () if name == AS_TRAINED else (manifest.passes, manifest.regions)
    return Step(
        name=name,
        sha256=stage_key(name, manifest.reference.sha256, done),
        format="",
        precision=FLOAT,
        runtime="torch",
        runtime_version=tool_versions(("torch",)).get("torch", ""),
        size_bytes=None,
        verdict="first",
        top1=None,
        top5=None,
        nonfinite=0,
    )


@contextmanager
def open_torch(rebuilt: Rebuilt, name: str, threads: int) -> Iterator[Classify]:
    """A program of the network in torch, in float32.

    Raises:
        EdgekitError: It cannot be built again, or it is another one by now.
    """
    program = rebuilt.program(name)
    import torch

    from edgekit.network import program_forward

    forward, before = program_forward(program), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield lambda images: forward((images,))[0]
    finally:
        torch.set_num_threads(before)
