"""Executed instructions of small published networks on emulated boards, and the baseline they are held against.

`make instructions` writes the baseline anew: after a change that is meant to change the counts, and after a new version
of a runtime or a converter. With one thread counts are the same in every process to 0.03 %, so 0.5 % is a regression.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from edgekit.bench.profiles import PROFILES
from edgekit.bundle import read_manifest
from edgekit.fleet.board import measure_on
from edgekit.fleet.run import Fleet
from edgekit.measure import Bundle, Choice, Outcome

REPOSITORY = Path(__file__).parents[2]
BASELINE = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.005
BOARDS = ("qemu://armv7", "qemu://aarch64")


@dataclass(frozen=True)
class Network:
    """A published network at an input that is cheap to emulate, the formats it is counted in, and how it is exported.

    OpenVINO is never among them: its worker threads wait in loops, which scatters its counts by a percent.
    """

    model: str
    side: int
    formats: tuple[str, ...]
    options: tuple[str, ...] = ()

    def export(self, folder: Path) -> Bundle:
        """Makes its bundle with the real tool."""
        place = folder / self.model
        command = [sys.executable, "-m", "edgekit", "export", self.model, "--input", str(self.side)]
        formats = [option for name in self.formats for option in ("--format", name)]
        subprocess.run(
            [*command, "--target", "arm", *formats, *self.options, "-o", str(place)],
            cwd=REPOSITORY,
            env={**os.environ, "EDGEKIT_TUNING": str(folder / "tuning")},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return Bundle(place, read_manifest(place))


# MNN computes `exp` on ARM with an error of 5.6e-5, so that parcnetv2_xt, whose GELUs are made of it, is right at 224
# pixels and not quite at 64.
NETWORKS = (
    Network("parcnetv2_xt", 64, ("onnx", "tflite", "ncnn")),
    Network("parnet_s", 32, ("onnx", "tflite", "ncnn", "mnn")),
    Network("parcnetv2_pico_digits", 64, ("onnx", "tflite"), ("--int8", "--data", "digits")),
)


class Counted(Struct, frozen=True, order=True):
    """What one inference executes, on which board and in which build of which runtime."""

    board: str
    model: str
    precision: str
    distribution: str
    version: str
    instructions: int
    simd: int

    @property
    def place(self) -> tuple[str, ...]:
        """What tells it from all others of a baseline."""
        return self.board, self.model, self.precision, self.distribution


def measured(bundles: Sequence[Bundle]) -> dict[str, Outcome]:
    """What each board makes of the bundles, both at the same time."""
    profile = PROFILES["quick"]
    fleet = Fleet(lambda device: measure_on(device, bundles, Choice(), profile, ("edgekit", "bench")), print)
    return fleet.visit(BOARDS)


def counts(outcomes: Mapping[str, Outcome]) -> Iterator[Counted]:
    """The counts of what computed the right thing."""
    for board, outcome in outcomes.items():
        for run in outcome.runs:
            for one in run.executions:
                subject = one.subject
                if one.instructions is not None and one.simd is not None:
                    yield Counted(
                        board,
                        subject.model,
                        subject.precision,
                        subject.distribution,
                        subject.runtime_version,
                        one.instructions,
                        one.simd,
                    )


def read_baseline(path: Path = BASELINE) -> dict[tuple[str, ...], Counted]:
    """The committed counts."""
    return {each.place: each for each in msgspec.json.decode(path.read_bytes(), type=list[Counted])}


def complaint(found: Counted, expected: Counted) -> str | None:
    """Why a count fails against the baseline; None where it does not."""
    if found.version != expected.version:
        return f"{found.distribution} is {found.version}, the baseline is of {expected.version}; `make instructions`"
    added = found.instructions / expected.instructions - 1
    if added > TOLERANCE:
        return f"{expected.instructions:,} became {found.instructions:,} instructions: {added:+.2%}"
    return None


def main() -> None:
    """Writes the baseline."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes = measured([network.export(Path(folder)) for network in NETWORKS])
    for problem in (each for outcome in outcomes.values() for each in outcome.problems):
        print(problem.error)  # noqa: T201 - it is a program here
    BASELINE.write_bytes(msgspec.json.format(msgspec.json.encode(sorted(counts(outcomes))), indent=1) + b"\n")


if __name__ == "__main__":
    main()
