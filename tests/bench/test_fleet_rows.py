"""Runs of several devices in one table: nothing emulated looks like a time."""

import re

import pytest
from msgspec import structs

from edgekit.bench.fleet_rows import EMULATED, NO_TIME, PEAK, fleet_markdown, fleet_rows, footnotes
from edgekit.bench.record import Run
from tests.bench.figures import MEMORY, execution, machine_called, measurement, printed, run_of

TIMED = run_of(measurement([10.0] * 6), measurement([20.0] * 6, sha256="c" * 64, artifact="net.fp32.tflite"))
COUNTED = run_of(
    run="two",
    machine=machine_called("qemu://armv7", emulated=True),
    executions=(execution(15_351_274), execution(30_702_548, artifact="net.fp32.ncnn.param")),
)


@pytest.fixture
def runs() -> list[Run]:
    return [TIMED, COUNTED]


def test_every_device_has_its_rows_and_ratios_over_its_own_first(runs: list[Run]) -> None:
    rows = fleet_rows(runs)

    assert [(row.device, row.artifact) for row in rows] == [
        ("local", "net.fp32.onnx"),
        ("local", "net.fp32.tflite"),
        ("qemu://armv7", "net.fp32.onnx"),
        ("qemu://armv7", "net.fp32.ncnn.param"),
    ]
    assert [row.ratio.split()[0] for row in rows] == ["1", "2.000", "1", "2.000"]
    assert [row.verdict for row in rows] == ["TRUSTED", "TRUSTED", EMULATED, EMULATED]


def test_an_emulated_figure_is_never_a_time(runs: list[Run]) -> None:
    *_, first, second = fleet_rows(runs)

    assert (first.figure, second.figure) == ("15,351,274 instructions", "30,702,548 instructions")
    text = fleet_markdown([COUNTED])
    assert not re.search(r"\d (ms|s|µs)\b", text.partition("\n\n")[0])
    assert text.count(f"**{EMULATED}**") == 2
    assert NO_TIME in text


def test_only_emulation_is_said_to_be_no_time() -> None:
    assert NO_TIME not in list(footnotes([TIMED]))


def test_an_emulator_that_cannot_count_gives_no_figure() -> None:
    run = run_of(run="two", machine=machine_called("ssh://board", emulated=True), executions=(execution(None),))

    (row,) = fleet_rows([run])

    assert (row.figure, row.ratio) == ("not counted", "1")


def test_several_bundles_are_told_apart() -> None:
    other = run_of(run="two", bundle="other", machine=COUNTED.machine, executions=(execution(100),))

    assert [row.artifact for row in fleet_rows([COUNTED, other])][-1] == "other/net.fp32.onnx"


def test_markdown_is_one_table_with_what_must_be_known(runs: list[Run]) -> None:
    lines = fleet_markdown(runs).splitlines()

    assert lines[0] == "| device | artifact | runtime | threads | figure | ratio | memory | SNR | verdict |"
    assert sum(line.startswith("| ") for line in lines) == 6
    assert any("profile quick: 10 s" in line for line in lines)
    assert fleet_markdown([]) == "Nothing was measured.\n"


def test_memory_has_a_column_where_anything_has_some() -> None:
    text = fleet_markdown([TIMED, COUNTED])

    assert "| 84 MiB = 50 + 30 + 4 |" in text
    assert text.count(PEAK) == 1
    assert "memory" not in fleet_markdown([COUNTED]).splitlines()[0]
    assert PEAK not in fleet_markdown([COUNTED])


def test_memory_on_an_emulated_machine_is_marked_as_everything_else_of_it() -> None:
    one = structs.replace(execution(None), memory=MEMORY)
    machine = machine_called("ssh://vm", emulated=True)

    (row,) = fleet_rows([run_of(run="two", machine=machine, executions=(one,))])

    assert (row.memory, row.verdict) == ("84 MiB = 50 + 30 + 4", EMULATED)


def test_why_there_is_no_memory_is_said_once_and_only_where_it_was_wanted() -> None:
    reason = "memory is not measured there"
    wanted = structs.replace(COUNTED, no_memory=reason)

    assert [text for text in footnotes([wanted, wanted, TIMED]) if reason in text] == [f"qemu://armv7: {reason}."]
    assert not any(reason in text for text in footnotes([COUNTED, TIMED]))


def test_what_a_program_printed_stands_beside_measured_figures_and_is_compared_with_none() -> None:
    timed = run_of(measurement([10.0] * 6), printed=(printed(12.0), printed(14.0, compared=True)))

    measured, bare, compared = fleet_rows([timed])

    assert (measured.ratio, bare.ratio, compared.ratio) == ("1", "no ratio", "no ratio")
    assert (bare.figure, bare.snr, bare.verdict) == ("mean 12.00 ms (11.00 to 13.00)", "outputs NOT compared", "NOISY")
    assert compared.snr.endswith(" dB")
    assert "local: NOISY: `net.fp32.onnx` in bench: It prints no single times." in list(footnotes([timed]))


def test_what_was_printed_under_emulation_is_no_time() -> None:
    run = run_of(machine=machine_called("qemu://armv7", emulated=True), printed=(printed(None), printed(None, count=7)))

    assert [(row.figure, row.verdict) for row in fleet_rows([run])] == [
        ("no time", EMULATED),
        ("7 instructions", EMULATED),
    ]
    assert NO_TIME in list(footnotes([run]))
