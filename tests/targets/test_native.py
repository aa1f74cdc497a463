"""Benchmark programs of the runtimes' makers: their command lines, and what they printed once.

The texts of ncnn were printed by benchncnn, built from the sources of ncnn 1.0.20261020; those of TFLite and MNN are as
their sources print them: benchmark_model of TensorFlow 2.8 and of LiteRT, MNN's benchmark of 3.0.
"""

import struct
from pathlib import Path

import pytest

from edgekit.errors import ArtifactError, EnvironmentProblemError, MisuseError, UnknownNameError
from edgekit.targets.native import (
    PROGRAMS,
    Figures,
    Given,
    Order,
    fault,
    foreign,
    parse_given,
    read_figures,
    unreadable,
)
from edgekit.targets.shell_session import Ended

NCNN = """\
loop_count = 20
num_threads = 1
powersave = 0
gpu_device = -1
cooling_down = 0
          tiny.param  min =    0.25  max =    1.61  avg =    0.31
"""
NCNN_QUICK = "          tiny.param  min =    0.00  max =    0.03  avg =    0.01\n"
NCNN_NOT_LOADED = """\
fopen nope.param failed
network graph not ready
          nope.param  min =    0.00  max =    0.00  avg =    0.00
"""
NCNN_OLD = "          squeezenet  min =   36.25  max =   38.47  avg =   37.28\n"

TFLITE = """\
STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [./net.tflite]
Loaded model ./net.tflite
The input model file size (MB): 16.9008
Initialized session in 17.187ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
"""
TFLITE_NEW = """\
INFO: Running benchmark for at least 25 iterations and at least 0 seconds but terminate if exceeding 120 seconds.
INFO: count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533
INFO: Inference timings in us: Init: 92318, First inference: 187533, Warmup (avg): 211669, Inference (avg): 145528
"""
TFLITE_ONCE = """\
count=1 curr=4000
count=1 curr=3000
Inference timings in us: Init: 100, First inference: 4000, Warmup (avg): 4000, Inference (avg): 3000
"""

MNN = """\
MNN benchmark
Forward type: **CPU** thread=1** precision=1** sparsity=0** sparseBlockOC=1
--------> Benchmarking... loop = 20, warmup = 2
[ - ] net.mnn                     max =    2.613 ms  min =    1.964 ms  avg =    2.042 ms
"""


def order(file: str = "net.tflite", **changes: object) -> Order:
    settings: dict[str, object] = {"shapes": ((1, 3, 64, 48),), "threads": 2, "runs": 20, "most_seconds": 120.0}
    return Order(file=file, **(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("runtime", "file", "text", "expected"),
    [
        ("ncnn", "tiny.param", NCNN, Figures(runs=20, minimum_ms=0.25, mean_ms=0.31, maximum_ms=1.61)),
        ("ncnn", "tiny.param", NCNN_QUICK, Figures(runs=20, minimum_ms=0.0, mean_ms=0.01, maximum_ms=0.03)),
        ("ncnn", "nope.param", NCNN_NOT_LOADED, None),
        ("ncnn", "tiny.param", NCNN_OLD, None),
        ("mnn", "net.mnn", MNN, Figures(runs=20, minimum_ms=1.964, mean_ms=2.042, maximum_ms=2.613)),
        ("mnn", "other.mnn", MNN, None),
        ("tflite", "net.tflite", "count=3 first=1 curr=1 min=1 max=1 avg=1 std=0", None),
        ("tflite", "net.tflite", "Hello, world!", None),
    ],
)
def test_what_a_program_printed_is_read(runtime: str, file: str, text: str, expected: Figures | None) -> None:
    assert read_figures(PROGRAMS[runtime], text, order(file)) == expected


@pytest.mark.parametrize(
    ("text", "runs", "fastest", "mean", "slowest", "median", "load", "first"),
    [
        (TFLITE, 50, 2727.568, 2950.34, 3189.954, None, 17.187, 3512.391),
        (TFLITE_NEW, 25, 140.071, 145.528, 195.121, 141.253, 92.318, 187.533),
        (TFLITE_ONCE, 1, 3.0, 3.0, 3.0, None, 0.1, 4.0),
    ],
)
def test_benchmark_model_speaks_of_microseconds(
    text: str, runs: int, fastest: float, mean: float, slowest: float, median: float | None, load: float, first: float
) -> None:
    found = read_figures(PROGRAMS["tflite"], text, order())

    assert found is not None
    assert (found.runs, found.median_ms) == (runs, pytest.approx(median) if median else None)
    assert (found.minimum_ms, found.mean_ms, found.maximum_ms) == pytest.approx((fastest, mean, slowest))
    assert (found.load_ms, found.first_ms) == pytest.approx((load, first))


def test_figures_that_contradict_each_other_are_none() -> None:
    assert read_figures(PROGRAMS["tflite"], TFLITE_NEW.replace("(avg): 145528", "(avg): 190000"), order()) is None
    assert read_figures(PROGRAMS["ncnn"], NCNN.replace("1.61", "0.11"), order("tiny.param")) is None


def test_benchncnn_counts_sizes_from_the_last() -> None:
    two = order("net.param", shapes=((1, 3, 64, 48), (1, 10)))

    arguments = PROGRAMS["ncnn"].arguments(two)

    assert arguments == ("20", "2", "0", "-1", "0", "param=net.param", "shape=[48,64,3],[10]")


def test_ncnn_takes_no_batch() -> None:
    with pytest.raises(MisuseError, match=r"ncnn takes batches of one, and net\.param is of 4"):
        PROGRAMS["ncnn"].arguments(order("net.param", shapes=((4, 3, 64, 48),)))


def test_mnn_runs_all_of_a_folder() -> None:
    assert PROGRAMS["mnn"].arguments(order("net.mnn")) == (".", "20", "2", "0", "2", "1")


OLD_HELP = "\t--graph=  string\n\t--min_secs=1 float\n\t--input_layer= string\n\t--input_layer_shape= string\n"
NEW_HELP = OLD_HELP + "\t--input_layer_value_files= string\n\t--output_filepath= string\n\t--max_secs=150 float\n"


def test_benchmark_model_is_asked_for_what_its_help_names() -> None:
    program = PROGRAMS["tflite"]
    assert program.can_exchange is not None
    assert not program.can_exchange(OLD_HELP)
    assert program.can_exchange(NEW_HELP)

    old, new = program.arguments(order(help=OLD_HELP)), program.arguments(order(help=NEW_HELP, given="abc"))

    always = ("--graph=net.tflite", "--num_threads=2", "--num_runs=20", "--warmup_runs=2", "--min_secs=0")
    assert old == always
    assert set(new) - {*always} == {
        *("--max_secs=120", "--input_layer=in", "--input_layer_shape=1,3,64,48"),
        *("--input_layer_value_files=in:../abc", "--output_filepath=../output"),
    }


def elf(machine: int, order_byte: int = 1) -> bytes:
    return b"\x7fELF" + bytes([1, order_byte]) + bytes(12) + struct.pack("<H" if order_byte == 1 else ">H", machine)


@pytest.mark.parametrize(
    ("head", "machine", "expected"),
    [
        (elf(40), "armv7l", ""),
        (elf(40), "aarch64", ""),
        (elf(40), "x86_64", "32-bit ARM"),
        (elf(183), "armv7l", "64-bit ARM"),
        (elf(62), "aarch64", "x86-64"),
        (elf(8, 2), "armv7l", "architecture 8"),
        (b"#!/bin/sh\nexec benchncnn", "armv7l", ""),
        (b"", "armv7l", ""),
    ],
)
def test_a_program_of_another_architecture_is_known(head: bytes, machine: str, expected: str) -> None:
    assert foreign(head, machine) == expected


def test_a_program_is_a_file_here_or_a_place_there(tmp_path: Path) -> None:
    file = tmp_path / "my=bench"
    file.write_bytes(elf(62))

    here, there = parse_given(f"ncnn={file}"), parse_given("tflite=board:/usr/bin/benchmark_model")

    assert (here.runtime, here.file, here.name, len(here.sha256)) == ("ncnn", file, "my=bench", 64)
    assert here.foreign("armv7l") == "x86-64"
    assert (there.place, there.name, there.sha256) == ("/usr/bin/benchmark_model", "benchmark_model", "")
    assert there.foreign("armv7l") == ""


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("benchncnn", MisuseError, "names no program. Write RUNTIME=PROGRAM"),
        ("ncnn=", MisuseError, "names no program"),
        ("onnx=./x", UnknownNameError, "no benchmark program for a runtime named 'onnx'"),
        ("ncnn=./nowhere", MisuseError, "There is no program ./nowhere. Build benchncnn for the board"),
        ("ncnn=board:bin/x", MisuseError, "is no place on a board"),
    ],
)
def test_what_is_no_program_is_refused(text: str, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        parse_given(text)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (126, EnvironmentProblemError, "bench cannot be started on ssh://b. It said:\nno"),
        (127, EnvironmentProblemError, "bench cannot be started on ssh://b"),
        (139, ArtifactError, "net.param does not run on ssh://b: bench was killed by signal 11"),
        (137, ArtifactError, "signal 9. The board may have run out of memory."),
        (1, ArtifactError, "bench ended with code 1"),
    ],
)
def test_how_a_program_ended_is_told(code: int, kind: type[Exception], said: str) -> None:
    error = fault(Given("ncnn", place="/bin/bench"), Ended(code, "no"), "net.param", "ssh://b")

    assert type(error) is kind
    assert said in str(error)


def test_a_program_that_ended_well_has_no_fault() -> None:
    assert fault(Given("ncnn", place="/bin/bench"), Ended(0, "no"), "net.param", "ssh://b") is None


def test_a_program_that_prints_something_else_is_told_what_is_known() -> None:
    error = unreadable(Given("ncnn", place="/bin/bench"), Ended(0, NCNN_OLD), "ssh://b")

    assert error.exit_code == 3
    assert "What is known is benchncnn that knows param= and shape=" in str(error)
    assert "squeezenet" in str(error)
