"""Which artifacts of some bundles a device can run, and the tasks they become."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.bundle import Manifest, Member, check_file
from edgekit.errors import CheckFailedError, EdgekitError, EnvironmentProblemError, MisuseError
from edgekit.measure import Bundle, Choice, Contestant, Problem, Skipped, choose_contestants
from edgekit.reference_file import read_reference
from edgekit.targets.job import Facts, Task
from edgekit.targets.wheels import advice, runtimes_on
from edgekit.verify import Reference


@dataclass(frozen=True, slots=True)
class Entry:
    """An artifact that a device runs, with what it must compute."""

    contestant: Contestant
    folder: Path
    manifest: Manifest
    files: tuple[Path, ...]
    against: Reference

    @property
    def member(self) -> Member:
        return self.manifest.members[self.contestant.member]

    @property
    def name(self) -> str:
        """Its loadable file."""
        return self.files[0].name

    @property
    def key(self) -> str:
        """What tells it from all others of a job."""
        return f"{self.contestant.bundle}/{self.name}"

    def task(self, cases: int | None = None) -> Task:
        """The artifact as part of a job, on that many cases of its reference, or on all of them."""
        names = [spec.name for spec in self.against.inputs]
        return Task(
            key=self.key,
            runtime=self.member.artifact.runtime,
            files=self.files,
            cases=tuple(dict(zip(names, case.inputs, strict=True)) for case in self.against.cases[:cases]),
        )


@dataclass(slots=True)
class Line:
    """The artifacts that take part on a device, by number of threads; those that do not, and why."""

    entries: dict[int, list[Entry]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def line_up(
    bundles: Sequence[Bundle],
    choice: Choice,
    facts: Facts,
    here: Collection[str] | None = None,
    lacking: Callable[[str, Facts], str] = advice,
) -> Line:
    """Chooses what a device runs.

    An artifact for which it has no runtime is passed over, unless that format or runtime was asked for.

    Args:
        bundles: What there is.
        choice: What of it was asked for.
        facts: What the device is.
        here: The runtimes it has; those of its packages if None.
        lacking: What to do about a runtime that it has not.

    Raises:
        MisuseError: There is nothing to measure, or processors were chosen.
        EnvironmentProblemError: The device has a runtime for nothing of it.
        BundleError: A reference is damaged.
    """
    if any(setting.affinity is not None for setting in choice.settings):
        raise MisuseError("--affinity chooses processors of this machine. Leave it out for other devices.")
    here, line = runtimes_on(facts) if here is None else here, Line()
    references: dict[int, Reference] = {}
    for contestant in choose_contestants(bundles, choice):
        bundle = bundles[contestant.bundle]
        artifact = bundle.manifest.members[contestant.member].artifact
        name = artifact.files[0].name
        if artifact.runtime not in here:
            reason = lacking(artifact.runtime, facts)
            if choice.runtimes or choice.formats:
                missing = EnvironmentProblemError(reason)
                line.problems.append(problem(bundle.folder, name, contestant, facts, missing))
            else:
                line.skipped.append(Skipped(facts.address, bundle.folder, name, reason))
            continue
        if contestant.bundle not in references:
            references[contestant.bundle] = read_reference(bundle.folder / bundle.manifest.reference.name)
        try:
            files = tuple(check_file(bundle.folder, file) for file in artifact.files)
        except CheckFailedError as error:
            line.problems.append(problem(bundle.folder, name, contestant, facts, error))
            continue
        entry = Entry(contestant, bundle.folder, bundle.manifest, files, references[contestant.bundle])
        line.entries.setdefault(contestant.setting.threads, []).append(entry)
    if not line.entries and not line.problems:
        reasons = dict.fromkeys(each.reason for each in line.skipped)
        raise EnvironmentProblemError(f"{facts.address} runs nothing of this. {' '.join(reasons)}")
    return line


def problem(folder: Path, name: str, contestant: Contestant, facts: Facts, error: EdgekitError) -> Problem:
    """Why an artifact has no figures on a device."""
    return Problem(folder, name, contestant.setting, error, facts.address)
