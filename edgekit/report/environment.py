"""What everything was made and measured with, and how to make it again."""

from collections.abc import Iterator

from edgekit.artifact import WeightsSource
from edgekit.bench.record import Machine
from edgekit.report.document import Block, Cell, Commands, Section, Table
from edgekit.report.gather import BundleFacts, Facts
from edgekit.report.wording import NONE, code, commands, plural, size, table


def section(facts: Facts) -> Section:
    """The machines, the tools and the runtimes."""
    blocks: list[Block] = []
    machines = _machines(facts)
    if machines:
        blocks.append(_machine_table(machines))
    blocks.append(_tools(facts))
    lead = "Figures hold for these machines, versions and settings."
    return Section("environment", "Environment", lead, tuple(blocks))


def reproduction(facts: Facts) -> Section:
    """The commands that made the bundles and their figures, the files, and where the weights came from."""
    blocks = [block for bundle in facts.bundles for block in _reproduction(bundle, several=facts.several)]
    lead = "The same inputs and tools give the same bytes; compare them with the SHA-256 below."
    return Section("reproduce", "Reproduce", lead, tuple(blocks))


def _machines(facts: Facts) -> list[Machine]:
    found = [run.machine for bundle in facts.bundles for run in bundle.runs]
    found += [run.machine for bundle in facts.bundles for run in bundle.profiles]
    kept: list[Machine] = []
    for machine in found:
        if machine not in kept:
            kept.append(machine)
    return kept


def _machine_table(machines: list[Machine]) -> Table:
    facts = [dict(_machine(machine)) for machine in machines]
    rows = [[Cell(name), *(Cell(each[name]) for each in facts)] for name in facts[0]]
    return table(plural(len(machines), "machine").capitalize(), ["", *(machine.device for machine in machines)], rows)


def _machine(machine: Machine) -> Iterator[tuple[str, str]]:
    kind = "EMULATED" if machine.emulated else "virtual" if machine.virtual else "real"
    clocks = (f" at {core.highest_mhz} MHz" if core.highest_mhz else "" for core in machine.cores)
    cores = [f"{core.count} × {core.name}{clock}" for core, clock in zip(machine.cores, clocks, strict=True)]
    governors = dict.fromkeys(core.governor or "unknown" for core in machine.cores)
    yield "processor", f"{' and '.join(cores)}, {machine.architecture}"
    yield "kind", kind
    yield "governor", ", ".join(governors)
    yield "memory", f"{machine.memory_bytes / (1 << 30):.1f} GiB"
    yield "system", f"{machine.system}, kernel {machine.kernel}, {machine.libc}"
    yield "Python", machine.python
    yield "niceness", str(machine.niceness)
    yield (
        "variables",
        ", ".join(f"{name}={value}" for name, value in machine.environment.items()) or "none that runtimes read",
    )


def _tools(facts: Facts) -> Table:
    """Versions an export was made with, and those of the runtimes that measured."""
    columns = [_versions(bundle) for bundle in facts.bundles]
    names = sorted({name for column in columns for name in column}, key=lambda name: (name != "edgekit", name))
    rows = [[Cell(name), *(Cell(column[name]) if name in column else NONE for column in columns)] for name in names]
    headings = [bundle.name if facts.several else "version" for bundle in facts.bundles]
    return table("Tools", ["tool", *headings], rows)


def _versions(bundle: BundleFacts) -> dict[str, str]:
    measured = {
        one.subject.runtime: one.subject.runtime_version for run in reversed(bundle.runs) for one in run.measurements
    }
    return {"edgekit": bundle.manifest.edgekit_version, **bundle.manifest.tools, **measured}


def _reproduction(bundle: BundleFacts, *, several: bool) -> Iterator[Block]:
    of = f" of {bundle.name}" if several else ""
    said = [bundle.manifest.command]
    said += [run.command for run in reversed(bundle.runs)]
    said += [run.command for run in reversed(bundle.profiles)]
    said += [each.command for each in reversed(bundle.evaluations)]
    yield Commands(f"Commands{of}", tuple(dict.fromkeys(commands(command) for command in said)))
    files = [file for entry in bundle.entries for file in entry.member.artifact.files]
    rows = [[code(file.name), size(file.size), code(file.sha256)] for file in (*files, bundle.manifest.reference)]
    yield table(f"Files{of}", ["file", ">size", "SHA-256"], rows)


def weights_text(weights: WeightsSource) -> str:
    """Where weights came from, in words that cannot be overlooked when they are random."""
    if weights.kind == "random":
        return f"random weights (seed {weights.seed}): right for latency, memory and parity, meaningless for accuracy"
    places = {"model": "weights the model came with", "shipped": "weights that come with edgekit"}
    place = places.get(weights.kind, f"weights of {weights.file_name}")
    return f"{place} (SHA-256 {(weights.sha256 or '')[:12]}…)"
