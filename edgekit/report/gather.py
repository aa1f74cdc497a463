"""From bundles to facts: what was exported, measured, profiled and pictured, each with its name in this report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.bench.compare import Side, setting_text
from edgekit.bench.profile_record import ArtifactProfile, ProfileRun
from edgekit.bench.record import Machine, Run
from edgekit.bench.store import read_profiles, read_runs
from edgekit.bundle import Manifest, Member, check_file, read_manifest
from edgekit.evaluation.record import Evaluation
from edgekit.evaluation.store import read_evaluations
from edgekit.kernel_file import KernelPicture, read_pictures


@dataclass(frozen=True, slots=True)
class Entry:
    """One artifact of one bundle, and what to call it: its format and precision where those tell it from the others.

    `top1` is its accuracy in percent by the latest evaluation with labels, None where there is none or it means
    nothing, because the weights are random.
    """

    bundle: str
    label: str
    member: Member
    top1: float | None

    @property
    def sha256(self) -> str:
        """What its measurements are known by."""
        return self.member.artifact.sha256

    @property
    def quantized(self) -> bool:
        """Whether it is another network on purpose, so that accuracy has to say how good it is."""
        return self.member.quantization is not None

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.member.artifact.files)


@dataclass(frozen=True, slots=True)
class Figure:
    """An artifact's latest measurement in one place: a machine and a setting.

    `place` is what tells it from the other places of the report: the threads, and the machine where there are several.
    """

    entry: Entry
    side: Side
    place: str

    @property
    def where(self) -> str:
        """The machine and the setting."""
        return f"{machine_name(self.side.run.machine)} with {setting_text(self.side.measurement)}"

    @property
    def label(self) -> str:
        """The artifact; what was emulated or disturbed is said wherever its name is."""
        level = self.side.measurement.verdict.level
        marks = ("emulated" if self.emulated else "", "" if level == "TRUSTED" else level)
        shown = ", ".join(mark for mark in marks if mark)
        return f"{self.entry.label} ({shown})" if shown else self.entry.label

    @property
    def emulated(self) -> bool:
        """Whether it says nothing about a board's time."""
        return self.side.run.machine.emulated

    @property
    def median_ms(self) -> float:
        """Median latency."""
        return self.side.measurement.latency.median_ms

    @property
    def comparable(self) -> bool:
        """Whether it may stand beside others: a figure, and of a real machine."""
        return self.side.measurement.verdict.level != "INVALID" and not self.emulated

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against it."""
        return self.comparable and self.side.measurement.verdict.level == "TRUSTED"


@dataclass(frozen=True, slots=True)
class Profiled:
    """Where an artifact's time goes, by its latest profile."""

    entry: Entry
    run: ProfileRun
    profile: ArtifactProfile


@dataclass(frozen=True, slots=True)
class BundleFacts:
    """One bundle: its name in this report, what it holds, and what it was made with; all the latest first."""

    name: str
    folder: Path
    manifest: Manifest
    entries: tuple[Entry, ...]
    runs: tuple[Run, ...]
    profiles: tuple[ProfileRun, ...]
    evaluations: tuple[Evaluation, ...]
    kernels: tuple[KernelPicture, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """All bundles of a report."""

    bundles: tuple[BundleFacts, ...]

    @property
    def several(self) -> bool:
        """Whether things have to be told apart by their bundle."""
        return len(self.bundles) > 1

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Every artifact."""
        return tuple(entry for bundle in self.bundles for entry in bundle.entries)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every artifact's latest measurement in each place; the place of the fastest trusted one comes first."""
        found = [figure for bundle in self.bundles for figure in latest_figures(bundle)]
        if len({machine_name(figure.side.run.machine) for figure in found}) > 1:
            found = [replace(figure, place=figure.where) for figure in found]
        best = min((each for each in found if each.trusted), key=lambda one: one.median_ms, default=None)
        places = list(dict.fromkeys(each.place for each in (*([best] if best else []), *found)))
        return tuple(sorted(found, key=lambda figure: places.index(figure.place)))

    @property
    def fastest(self) -> Figure | None:
        """The fastest artifact among the trusted figures."""
        return min((figure for figure in self.figures if figure.trusted), key=lambda one: one.median_ms, default=None)

    @property
    def profiled(self) -> tuple[Profiled, ...]:
        """Every artifact's latest profile, with what takes longest last."""
        found = [one for bundle in self.bundles for one in latest_profiles(bundle)]
        return tuple(sorted(found, key=lambda one: one.profile.latency_ms))


def gather(folders: Sequence[Path]) -> Facts:
    """Reads bundles.

    Raises:
        BundleError: A folder is no bundle, or a file in it is damaged.
        ArtifactError: A file is not the one that was exported.
    """
    names = bundle_names(folders)
    return Facts(tuple(_bundle(folder, name, len(names) > 1) for folder, name in zip(folders, names, strict=True)))


def bundle_names(folders: Sequence[Path]) -> list[str]:
    """What to call bundles: their folders' names, with the whole path where two are the same."""
    short = [folder.resolve().name for folder in folders]
    return [name if short.count(name) == 1 else str(folder) for name, folder in zip(short, folders, strict=True)]


def _bundle(folder: Path, name: str, several: bool) -> BundleFacts:
    manifest = read_manifest(folder)
    known = {member.artifact.sha256 for member in manifest.members}
    pictures = read_pictures(check_file(folder, manifest.pictures)) if manifest.pictures else []
    evaluations = latest_evaluations(read_evaluations(folder, known))
    return BundleFacts(
        name=name,
        folder=folder,
        manifest=manifest,
        entries=_entries(name, manifest, evaluations, prefix=f"{name} " if several else ""),
        runs=tuple(read_runs(folder, known)),
        profiles=tuple(read_profiles(folder, known)),
        evaluations=evaluations,
        kernels=tuple(pictures),
    )


def _entries(bundle: str, manifest: Manifest, evaluations: Sequence[Evaluation], prefix: str) -> tuple[Entry, ...]:
    short = [f"{member.artifact.format} {member.artifact.precision}" for member in manifest.members]
    often = Counter(short)
    return tuple(
        Entry(
            bundle=bundle,
            label=prefix + (label if often[label] == 1 else member.artifact.files[0].name),
            member=member,
            top1=None if manifest.weights.kind == "random" else top1(evaluations, member.artifact.sha256),
        )
        for label, member in zip(short, manifest.members, strict=True)
    )


def top1(evaluations: Sequence[Evaluation], sha256: str) -> float | None:
    """An artifact's top-1 accuracy in percent, by the first of these evaluations that knows it."""
    known = (step.top1 for each in evaluations for step in each.steps if step.sha256 == sha256)
    return next((value for value in known if value is not None), None)


def latest_figures(bundle: BundleFacts) -> list[Figure]:
    """The latest measurement of each artifact in each place; runs come the latest first."""
    entries = {entry.sha256: entry for entry in bundle.entries}
    found: dict[tuple[str, str], Figure] = {}
    for run in bundle.runs:
        for one in run.measurements:
            figure = Figure(entries[one.subject.sha256], Side(run, one), setting_text(one))
            found.setdefault((one.subject.sha256, figure.where), figure)
    return list(found.values())


def latest_profiles(bundle: BundleFacts) -> list[Profiled]:
    """The latest profile of each artifact."""
    entries = {entry.sha256: entry for entry in bundle.entries}
    found: dict[str, Profiled] = {}
    for run in bundle.profiles:
        for one in run.measurements:
            found.setdefault(one.sha256, Profiled(entries[one.sha256], run, one.profile))
    return list(found.values())


def latest_evaluations(evaluations: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    """The latest on each set of images; they come the latest first."""
    found: dict[str, Evaluation] = {}
    for each in evaluations:
        found.setdefault(each.data.digest, each)
    return tuple(found.values())


def machine_name(machine: Machine) -> str:
    """A machine's device and processor, in a few words."""
    cores = " and ".join(f"{core.count} × {core.name}" for core in machine.cores)
    return f"{cores}{', EMULATED' if machine.emulated else ''} ({machine.device})"
