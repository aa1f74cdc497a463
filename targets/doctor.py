"""What a device has, what it lacks, and what it could run."""

from typing import Literal

from msgspec import Struct

from edgekit.targets.job import NO_PYTHON, Facts, State
from edgekit.targets.native import PROGRAMS
from edgekit.targets.wheels import WHEELS, Wheel, obstacle

Verdict = Literal["works", "broken", "installable", "unavailable", "native only"]

HOT_C = 70.0
SHORT_KIB = 256 << 10


class RuntimeVerdict(Struct, frozen=True, kw_only=True):
    """What a device can do with artifacts of one runtime.

    Attributes:
        runtime: edgekit's word for it; `distribution` is what brings it, of `version` where it is installed.
        remark: Why it is broken or unavailable, or what there is to know about it.
    """

    runtime: str
    distribution: str
    verdict: Verdict
    version: str = ""
    remark: str = ""


class Diagnosis(Struct, frozen=True, kw_only=True):
    """A device, what runs there, and what would disturb a measurement now."""

    device: Facts
    state: State
    runtimes: tuple[RuntimeVerdict, ...]
    concerns: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether any runtime works."""
        return any(each.verdict == "works" for each in self.runtimes)


def diagnose(device: Facts, state: State, checked: dict[str, str]) -> Diagnosis:
    """Puts together what was found.

    Args:
        device: What it is.
        state: How it is.
        checked: Every installed distribution to why it does not import, or "".
    """
    return Diagnosis(
        device=device,
        state=state,
        runtimes=tuple(verdict for runtime in WHEELS for verdict in _verdicts(runtime, device, checked)),
        concerns=tuple(concerns(device, state)),
    )


def diagnose_without_python(device: Facts, state: State) -> Diagnosis:
    """The same of a board on which nothing but the runtimes' own benchmark programs can run."""
    return Diagnosis(
        device=device,
        state=state,
        runtimes=tuple(
            RuntimeVerdict(
                runtime=runtime,
                distribution=program.name,
                verdict="native only",
                remark=f"built for {device.machine}, by --native {runtime}=PROGRAM of edgekit bench",
            )
            for runtime, program in PROGRAMS.items()
        ),
        concerns=("It has no Python on its PATH, which edgekit's own runner needs.", *concerns(device, state)),
    )


def _verdicts(runtime: str, device: Facts, checked: dict[str, str]) -> list[RuntimeVerdict]:
    """What works or is broken; where nothing is installed, the first that could be, or why none can."""
    wheels = WHEELS[runtime]
    here = [_installed(runtime, wheel, device, checked) for wheel in wheels if wheel.distribution in checked]
    return here or [_missing(runtime, device)]


def _installed(runtime: str, wheel: Wheel, device: Facts, checked: dict[str, str]) -> RuntimeVerdict:
    failure = checked[wheel.distribution]
    return RuntimeVerdict(
        runtime=runtime,
        distribution=wheel.distribution,
        verdict="broken" if failure else "works",
        version=device.runtimes.get(wheel.distribution, ""),
        remark=failure or (wheel.note if device.bits == 32 else ""),
    )


def _missing(runtime: str, device: Facts) -> RuntimeVerdict:
    obstacles = [(wheel, obstacle(wheel, device)) for wheel in WHEELS[runtime]]
    wheel, reason = next((each for each in obstacles if not each[1]), obstacles[-1])
    return RuntimeVerdict(
        runtime=runtime,
        distribution=wheel.distribution,
        verdict="unavailable" if reason else "installable",
        remark=reason or (wheel.note if device.bits == 32 else ""),
    )


def concerns(device: Facts, state: State) -> list[str]:
    """What would make times of this device doubtful, or a job fail."""
    found = []
    if device.emulated:
        found.append("It is emulated: its outputs are a board's, its times are not, and none are shown.")
    if device.python != NO_PYTHON and not device.numpy:
        found.append("It has no numpy, which every runtime but ncnn needs.")
    if 0 < state.available_kib < SHORT_KIB:
        found.append(f"Only {state.available_kib // 1024} MiB of memory are free.")
    return found if device.emulated else [*found, *doubts(state)]


def doubts(state: State) -> list[str]:
    """What would make times taken now doubtful."""
    found = []
    others = sorted({governor for governor in state.governors.values() if governor != "performance"})
    if others:
        found.append(f"The governor is {', '.join(others)}: clocks change while a job runs.")
    throttled = [core for core, allowed in state.allowed_khz.items() if allowed < state.highest_khz.get(core, 0)]
    if throttled:
        found.append(f"{', '.join(throttled)} may not run at the highest clock: throttled, or limited by someone.")
    hot = [f"{zone} {degrees:.0f} °C" for zone, degrees in state.temperatures_c.items() if degrees >= HOT_C]
    if hot:
        found.append(f"It is hot: {', '.join(hot)}.")
    if state.load is not None and state.load > 0.5:
        found.append(f"It is busy with something else: its load is {state.load:.2f}, which makes times doubtful.")
    return found
