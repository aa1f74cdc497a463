"""From tables to a decision for every group of a program.

What was measured for the group decides, or the nearest that was (`edgekit.tuning.nearest`). Where nothing of the same
structure was measured, each kind of convolution is written as its largest one would be by itself.

A target with several architectures gets one file for all of them: the form whose cost is lowest on the average, each
cost taken as a ratio over the architecture's best.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import log2, prod

from msgspec import Struct
from msgspec.structs import replace

from edgekit.errors import MisuseError
from edgekit.kernel_group import DEPTHWISE, FORMS, Candidate, KernelGroup, Kind, candidates
from edgekit.tuning.fit import fitted
from edgekit.tuning.nearest import Found, Place, find
from edgekit.tuning.tables import Table
from edgekit.tuning.words import RATIO, CandidateCost, KernelChoice

AUTO = "auto"

EVERYWHERE = "*"
"""The pattern of what is asked for without one."""


class Override(Struct, frozen=True):
    """A form that the user asks for, in the modules whose paths match a pattern."""

    pattern: str
    form: str


Choose = Callable[[Sequence[tuple[KernelGroup, str]], int], list[KernelChoice]]
"""Chooses for all groups of a program, given each with its module path, and the bytes of the program's constants."""


def as_trained(places: Sequence[tuple[KernelGroup, str]], program_bytes: int) -> list[KernelChoice]:  # noqa: ARG001
    """Every group as it is."""
    return [_choice(group, path, DEPTHWISE, "as trained", (), candidates(group), {}) for group, path in places]


@dataclass(frozen=True, slots=True)
class Chooser:
    """Chooses by what was measured, what the user asks for, and the size allowed.

    Attributes:
        max_bytes: Most bytes of all constants of a program; None where it does not matter.
    """

    runtime: str
    place: Place
    own: tuple[Table, ...]
    rules: tuple[Table, ...]
    overrides: tuple[Override, ...] = ()
    max_bytes: int | None = None

    def __call__(self, places: Sequence[tuple[KernelGroup, str]], program_bytes: int) -> list[KernelChoice]:
        check_patterns(self.overrides, [path for _, path in places])
        chosen = [self.alone(group, path) for group, path in places]
        return chosen if self.max_bytes is None else fitted(chosen, self.max_bytes - program_bytes)

    def alone(self, group: KernelGroup, path: str) -> KernelChoice:
        """The choice for one group, whatever the others take."""
        ways = candidates(group)
        found = find(group, self.runtime, self.place, self.own, self.rules)
        ratios = combined([each.costs(ways) for each in found])
        form, source = self._decided(group, ways, found, ratios)
        asked = asked_form(path, self.overrides)
        if asked is not None and asked != AUTO:
            wanted = with_form(ways, asked, ratios)
            form, source = (wanted, f"asked for: {asked}") if wanted else (form, f"not to be had as {asked}; {source}")
        return _choice(group, path, form, source, found, ways, ratios)

    def _decided(
        self, group: KernelGroup, ways: Mapping[str, Candidate], found: list[Found], ratios: Mapping[str, float]
    ) -> tuple[str, str]:
        """Form and source, from the measurements alone."""
        if len(found) == 1 and found[0].entry.chosen in ways:
            return found[0].form_for(group), found[0].source
        if ratios:
            return min(ratios, key=lambda name: (ratios[name], ways[name].bytes)), "; ".join(
                each.source for each in found
            )
        return self._by_kind(group, ways)

    def _by_kind(self, group: KernelGroup, ways: Mapping[str, Candidate]) -> tuple[str, str]:
        """Each kind of convolution as its largest one would be written alone; as trained where nothing is known."""
        forms: dict[Kind, str] = {}
        for kind in dict.fromkeys(step.kind for step in group.steps):
            steps = [step for step in group.steps if step.kind == kind]
            largest = max(steps, key=lambda step: prod(step.taps))
            alone = KernelGroup(channels=group.channels, size=group.size, chains=((largest,),))
            found = find(alone, self.runtime, self.place, self.own, self.rules)
            if found and (form := found[0].form_for(alone)) in candidates(alone):
                forms |= candidates(alone)[form].kinds
        for name, way in ways.items():
            if forms and way.whole is None and way.kinds.items() >= forms.items():
                return name, "rules, for each kind of convolution by itself"
        return DEPTHWISE, "as trained: nothing like it was measured"


def combined(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over architectures of the logarithm of each candidate's cost over the best, as a ratio.

    Candidates that some architecture has not measured are left out.
    """
    if not costs or not all(costs):
        return {}
    names = [name for name in costs[0] if all(name in each for each in costs)]
    logs = {name: sum(log2(each[name] / min(each.values())) for each in costs) / len(costs) for name in names}
    return {name: 2**value for name, value in logs.items()}


def asked_form(path: str, overrides: Sequence[Override]) -> str | None:
    """What the user asks for at a module path; of several patterns that match the last one counts."""
    asked = [override.form for override in overrides if fnmatchcase(path, override.pattern)]
    return asked[-1] if asked else None


def check_patterns(overrides: Sequence[Override], paths: Sequence[str]) -> None:
    """Refuses what the user asks for in modules that are none.

    Raises:
        MisuseError: A pattern other than `*` matches no group.
    """
    for override in overrides:
        if override.pattern != EVERYWHERE and not any(fnmatchcase(path, override.pattern) for path in paths):
            there = ", ".join(dict.fromkeys(paths)) or "none"
            raise MisuseError(
                f"--lowering {override.pattern}={override.form} meets no large depthwise kernel. There are: {there}."
            )


def with_form(ways: Mapping[str, Candidate], form: str, ratios: Mapping[str, float]) -> str | None:
    """The fastest candidate that has a form anywhere, None where there is none."""
    if form == DEPTHWISE:
        return DEPTHWISE
    having = [name for name, way in ways.items() if form in way.forms]
    return min(having, key=lambda name: ratios.get(name, float("inf")), default=None)


def _choice(
    group: KernelGroup,
    path: str,
    form: str,
    source: str,
    found: Sequence[Found],
    ways: Mapping[str, Candidate],
    ratios: Mapping[str, float],
) -> KernelChoice:
    """A choice with what is known of every candidate: of one that was measured with a like group, the ratio alone."""
    single = found[0] if len(found) == 1 and found[0].entry.group == group else None
    added = {each.form: each.cost - single.entry.empty for each in single.entry.forms} if single else {}
    costs = (
        CandidateCost(form=name, bytes=way.bytes, added=added.get(name), ratio=ratios.get(name))
        for name, way in ways.items()
    )
    unit = single.table.unit if single else RATIO
    return KernelChoice(group=str(group), sites=(path,), form=form, source=source, unit=unit, candidates=tuple(costs))


def together(choices: Iterable[KernelChoice]) -> tuple[KernelChoice, ...]:
    """Choices for people: groups that are alike and were decided alike, in one."""
    alike: dict[tuple[str, str, str], list[KernelChoice]] = {}
    for choice in choices:
        alike.setdefault((choice.group, choice.form, choice.source), []).append(choice)
    return tuple(replace(each[0], sites=tuple(site for one in each for site in one.sites)) for each in alike.values())


def parse_overrides(texts: Iterable[str]) -> tuple[Override, ...]:
    """`toeplitz` for every group, `stages.0.*=toeplitz` for some.

    Raises:
        MisuseError: There is no such form.
    """
    overrides = []
    for text in texts:
        pattern, _, form = text.rpartition("=")
        if form not in (*FORMS, AUTO):
            raise MisuseError(
                f"There is no lowering {form!r}. Choose {', '.join(FORMS)} or {AUTO}, for some modules as PATTERN=FORM."
            )
        overrides.append(Override(pattern or EVERYWHERE, form))
    return tuple(overrides)
