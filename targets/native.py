"""Benchmark programs that come with the runtimes and need no Python: how each is started, and what it prints.

They time an inference in their own way and print a summary: no single times, hence no median of edgekit's kind and no
interval. Only TFLite's can take edgekit's inputs and give its outputs back; what the others compute nobody can compare.

The forms are those of TensorFlow's tensorflow/lite/tools/benchmark, of ncnn's benchmark/benchncnn.cpp and of MNN's
benchmark/benchmark.cpp.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from edgekit.errors import ArtifactError, EdgekitError, EnvironmentProblemError, MisuseError, UnknownNameError
from edgekit.files import sha256
from edgekit.targets.shell_session import NOT_STARTED, Ended

Shape = tuple[int, ...]

OUTPUT = "output"
"""File beside the artifact's folder in which a program leaves its output."""

_NUMBER = r"([0-9.]+(?:e[+-]?[0-9]+)?)"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a program is to do with an artifact in the folder it is started in.

    Attributes:
        file: Name of the artifact's loadable file.
        shapes: Of the inputs, with the batch.
        runs: Inferences that count.
        most_seconds: After which a program that can stop by itself does so.
        help: What the program says of its own options.
        given: File beside the artifact's folder with the input; the output is then left in one too. "" for neither.
    """

    file: str
    shapes: tuple[Shape, ...]
    threads: int
    runs: int
    most_seconds: float
    help: str = ""
    given: str = ""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a program printed, in milliseconds; None where it says nothing of it."""

    runs: int
    minimum_ms: float
    mean_ms: float
    maximum_ms: float
    median_ms: float | None = None
    load_ms: float | None = None
    first_ms: float | None = None

    @property
    def sound(self) -> bool:
        """Whether these can be times at all.

        ncnn's program prints zeros where a network did not load, and has but two decimals for one that is quick.
        """
        in_order = 0 <= self.minimum_ms <= self.mean_ms <= self.maximum_ms < math.inf
        return self.runs > 0 and in_order and self.mean_ms > 0


@dataclass(frozen=True, kw_only=True)
class Program:
    """A benchmark program.

    Attributes:
        name: What its makers call it.
        arguments: An order to its command line.
        read: What it printed, the artifact's name and the ordered runs to figures; None where they are not there.
        can_exchange: Whether its help says that it takes inputs and leaves outputs; None where no version does.
        warm_up: Inferences before those that count.
        remark: What it does otherwise than edgekit's own runner, as a sentence.
        known_as: The versions whose output is read, for the message where it is not.
    """

    name: str
    arguments: Callable[[Order], tuple[str, ...]]
    read: Callable[[str, str, int], Figures | None]
    can_exchange: Callable[[str], bool] | None
    warm_up: int
    remark: str
    known_as: str


def _tflite(order: Order) -> tuple[str, ...]:
    """Options of `benchmark_model`: those that every version has, and of the others those that its help names."""
    always = {"graph": order.file, "num_threads": order.threads, "num_runs": order.runs, "warmup_runs": 2}
    further: dict[str, object] = {"min_secs": 0, "warmup_min_secs": 0, "max_secs": f"{order.most_seconds:g}"}
    if order.given:
        shape = ",".join(map(str, order.shapes[0]))
        further |= {"input_layer": "in", "input_layer_shape": shape, "output_filepath": f"../{OUTPUT}"}
        further |= {"input_layer_value_files": f"in:../{order.given}"}
    asked = {**always, **{name: value for name, value in further.items() if _names(order.help, name)}}
    return tuple(f"--{name}={value}" for name, value in asked.items())


def _names(text: str, option: str) -> bool:
    return re.search(rf"--{option}\b", text) is not None


def _tflite_exchanges(text: str) -> bool:
    wanted = ("input_layer", "input_layer_shape", "input_layer_value_files", "output_filepath")
    return all(_names(text, option) for option in wanted)


_COUNT = re.compile(r"count=([0-9]+) (.*)")
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, Warmup \(avg\): {_NUMBER}, "
    rf"Inference \(avg\): {_NUMBER}"
)
_WORDS = re.compile(rf"(\w+)={_NUMBER}")


def _read_tflite(text: str, file: str, runs: int) -> Figures | None:  # noqa: ARG001 - it names no file, and counts itself
    """The last line of counts is of the runs, those before are of the warm-up; times are in microseconds."""
    counts, timings = _COUNT.findall(text), _TIMINGS.search(text)
    if not counts or timings is None:
        return None
    count, rest = counts[-1]
    words = {name: 1e-3 * float(value) for name, value in _WORDS.findall(rest)}
    mean = 1e-3 * float(timings[4])
    alone = words.get("curr", mean)  # of a single run it prints nothing else
    fastest, slowest = words.get("min", alone), words.get("max", alone)
    return Figures(
        runs=int(count),
        minimum_ms=fastest,
        mean_ms=min(max(mean, fastest), slowest) if math.isclose(mean, words.get("avg", mean), rel_tol=1e-3) else -1.0,
        maximum_ms=slowest,
        median_ms=words.get("median"),
        load_ms=1e-3 * float(timings[1]),
        first_ms=1e-3 * float(timings[2]),
    )


def _ncnn(order: Order) -> tuple[str, ...]:
    """Loops, threads, all cores, no GPU, no pause to cool down; ncnn has no batch and counts sizes from the last."""
    if any(shape[0] != 1 for shape in order.shapes):
        raise MisuseError(f"ncnn takes batches of one, and {order.file} is of {order.shapes[0][0]}.")
    shapes = ",".join(f"[{','.join(map(str, reversed(shape[1:])))}]" for shape in order.shapes)
    return (str(order.runs), str(order.threads), "0", "-1", "0", f"param={order.file}", f"shape={shapes}")


def _mnn(order: Order) -> tuple[str, ...]:
    """Folder, loops, warm-up, CPU, threads, and precision high, as edgekit's own runner has it."""
    return (".", str(order.runs), "2", "0", str(order.threads), "1")


def _line(form: str) -> Callable[[str, str, int], Figures | None]:
    """Reads a line that begins with the artifact's name; lines of other names are of programs that ignored ours."""

    def read(text: str, file: str, runs: int) -> Figures | None:
        found = [match for match in re.finditer(form, text, re.MULTILINE) if match["name"].strip() == file]
        if not found:
            return None
        fastest, slowest, mean = (float(found[-1][name]) for name in ("min", "max", "avg"))
        return Figures(runs=runs, minimum_ms=fastest, mean_ms=mean, maximum_ms=slowest)

    return read


def _value(name: str) -> str:
    return rf"{name} =\s*(?P<{name}>[0-9.]+)"


PROGRAMS: Mapping[str, Program] = MappingProxyType(
    {
        "tflite": Program(
            name="benchmark_model",
            arguments=_tflite,
            read=_read_tflite,
            can_exchange=_tflite_exchanges,
            warm_up=2,
            remark="benchmark_model chooses its kernels by itself.",
            known_as="of TensorFlow 2 or LiteRT",
        ),
        "ncnn": Program(
            name="benchncnn",
            arguments=_ncnn,
            read=_line(rf"^(?P<name>.*\S)\s+{_value('min')}\s+{_value('max')}\s+{_value('avg')}\s*$"),
            can_exchange=None,
            warm_up=8,
            remark=(
                "benchncnn runs the structure alone, with zeros for weights, and in half precision where the "
                "processor has it."
            ),
            known_as="that knows param= and shape=",
        ),
        "mnn": Program(
            name="benchmark.out",
            arguments=_mnn,
            read=_line(
                rf"^\[ - \] (?P<name>.*\S)\s+{_value('max')} ?ms\s+{_value('min')} ?ms\s+{_value('avg')} ?ms\s*$"
            ),
            can_exchange=None,
            warm_up=2,
            remark="MNN's benchmark takes no input and shows no output.",
            known_as="of MNN 1.1 or newer",
        ),
    }
)
"""edgekit's word for a runtime to its benchmark program."""


def read_figures(program: Program, text: str, order: Order) -> Figures | None:
    """What a program printed; None where it is nothing that can be meant."""
    found = program.read(text, order.file, order.runs)
    return found if found is not None and found.sound else None


MACHINES: Mapping[int, tuple[str, Sequence[str]]] = MappingProxyType(
    {
        3: ("32-bit x86", ("i386", "i586", "i686", "x86_64")),
        40: ("32-bit ARM", ("armv6l", "armv7l", "armv8l", "aarch64")),
        62: ("x86-64", ("x86_64",)),
        183: ("64-bit ARM", ("aarch64",)),
        243: ("RISC-V", ("riscv32", "riscv64")),
    }
)
"""Number of an architecture in an ELF file to its name, and what `uname -m` says where such a file runs."""


def foreign(head: bytes, machine: str) -> str:
    """For which other architecture a program is, by its first 20 bytes; "" for none, and for what is no ELF file."""
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return ""
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    name, machines = MACHINES.get(number, (f"architecture {number}", ()))
    return "" if machine in machines else name


BOARD = "board:"
"""Begins the path of a program that the device has."""

HEAD_BYTES = 20
ABOVE_SIGNALS = 128
SAID_LINES = 6


@dataclass(frozen=True)
class Given:
    """A program that the user has for a runtime: a file of this machine, or a place on the device."""

    runtime: str
    file: Path | None = None
    place: str = ""

    @property
    def program(self) -> Program:
        """What it is taken for."""
        return PROGRAMS[self.runtime]

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.file.name if self.file else self.place.rpartition("/")[2]

    @cached_property
    def sha256(self) -> str:
        """Of the file; "" of one that the device has."""
        return sha256(self.file) if self.file else ""

    def foreign(self, machine: str) -> str:
        """For which other architecture it is; "" where it is for this one, or nobody knows."""
        if self.file is None:
            return ""
        with self.file.open("rb") as opened:
            return foreign(opened.read(HEAD_BYTES), machine)


def parse_given(text: str) -> Given:
    """A program from `ncnn=./benchncnn`, or from `ncnn=board:/usr/bin/benchncnn` where the device has it.

    Raises:
        UnknownNameError: No program of that runtime is known.
        MisuseError: There is no such file, or the place is no absolute path.
    """
    runtime, separator, path = text.partition("=")
    if not separator or not path:
        raise MisuseError(f"{text!r} names no program. Write RUNTIME=PROGRAM, such as ncnn=./benchncnn.")
    if runtime not in PROGRAMS:
        raise UnknownNameError("benchmark program for a runtime", runtime, PROGRAMS, see="edgekit bench --help")
    if path.startswith(BOARD):
        place = path.removeprefix(BOARD)
        if not place.startswith("/"):
            raise MisuseError(
                f"{place!r} is no place on a board. Write its whole path: {runtime}={BOARD}/usr/bin/NAME."
            )
        return Given(runtime, place=place)
    if not Path(path).is_file():
        raise MisuseError(
            f"There is no program {path}. Build {PROGRAMS[runtime].name} for the board and name its file."
        )
    return Given(runtime, Path(path))


def fault(given: Given, ended: Ended, artifact: str, address: str) -> EdgekitError | None:
    """Why a program did not run an artifact; None where it did."""
    said = "\n".join(ended.said.splitlines()[-SAID_LINES:])
    said = f" It said:\n{said}" if said else ""
    if ended.code in NOT_STARTED:
        return EnvironmentProblemError(f"{given.name} cannot be started on {address}.{said}")
    if ended.code > ABOVE_SIGNALS:
        hint = " The board may have run out of memory." if ended.code == ABOVE_SIGNALS + 9 else ""
        how = f"was killed by signal {ended.code - ABOVE_SIGNALS}"
        return ArtifactError(f"{artifact} does not run on {address}: {given.name} {how}.{hint}{said}")
    if ended.code:
        return ArtifactError(f"{artifact} does not run on {address}: {given.name} ended with code {ended.code}.{said}")
    return None


def unreadable(given: Given, ended: Ended, address: str) -> EnvironmentProblemError:
    """What is said of a program that ran and printed no figures."""
    said = "\n".join(ended.said.splitlines()[-SAID_LINES:])
    return EnvironmentProblemError(
        f"{given.name} on {address} printed no figures that can be read. What is known is {given.program.name} "
        f"{given.program.known_as}. It said:\n{said or 'nothing'}"
    )
