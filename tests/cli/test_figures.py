"""Tables of figures: the columns that differ or fit, and what is printed below them."""

from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from edgekit.bench.compare import Side
from edgekit.bench.record import Measurement, Minute, Run, Setting, Verdict
from edgekit.cli.figures import COLOURS, figure_table, print_figures, print_fleet, problem_rows
from edgekit.errors import ParityError
from edgekit.measure import Outcome, Problem
from tests.bench.figures import ONE, machine_called, measurement, run_of

MEDIANS = (10.0, 10.1, 10.2, 10.3, 10.4, 10.6)
FIRST = measurement(MEDIANS)
SECOND = measurement([2 * each for each in MEDIANS], artifact="net.fp32.tflite")


def headings(*measurements: Measurement, wide: bool) -> list[str]:
    sides = [Side(run_of(*measurements), one) for one in measurements]
    return [str(column.header) for column in figure_table(sides, wide=wide).columns]


def printed(*measurements: Measurement, problems: tuple[Problem, ...] = ()) -> str:
    with pytest.MonkeyPatch.context() as patch:
        shown = Console(width=170, record=True, highlight=False, markup=False, quiet=False)
        patch.setattr("edgekit.cli.figures.console", lambda: shown)
        print_figures(Outcome((run_of(*measurements),), problems), [Path("stored.json")])
    return shown.export_text()


def test_a_narrow_terminal_gets_what_matters_most() -> None:
    assert headings(FIRST, wide=False) == ["artifact", "median", "ratio", "memory", "verdict"]
    assert headings(FIRST, wide=True) == [
        *("artifact", "runtime", "median", "p90", "ratio", "load", "first"),
        *("memory (runtime + load + run)", "verdict"),
    ]


@pytest.mark.parametrize(
    ("width", "shown", "missing"),
    [(100, "84 MiB  TRUSTED", "125.0 dB"), (170, "84 MiB = 50 + 30 + 4  125.0 dB  TRUSTED", "no such thing")],
)
def test_devices_have_memory_and_what_fits_beside_it(width: int, shown: str, missing: str) -> None:
    text = printed_fleet(width, run_of(FIRST, machine=machine_called("ssh://pi@board")))

    assert shown in text
    assert missing not in text.partition("\n\n")[0]


def printed_fleet(width: int, *runs: Run) -> str:
    with pytest.MonkeyPatch.context() as patch:
        screen = Console(width=width, record=True, highlight=False, markup=False)
        patch.setattr("edgekit.cli.figures.console", lambda: screen)
        print_fleet(Outcome(runs, ()), [])
    return screen.export_text()


def test_what_differs_gets_a_column() -> None:
    two = measurement(MEDIANS, setting=Setting(threads=2))
    batch = structs.replace(FIRST, subject=structs.replace(FIRST.subject, inputs=((4, 3, 32, 32),)))

    assert headings(FIRST, two, wide=False)[1] == "threads"
    assert headings(FIRST, batch, wide=False)[1:3] == ["batch", "images/s"]
    assert "390.2" in printed(FIRST, batch)  # four images in 10.25 ms


def test_rows_are_held_against_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(FIRST, SECOND)

    assert "Latency and memory, 1 thread, profile quick" in text
    assert "10.25 ± 0.35 ms" in text
    assert "20.50 ± 0.70 ms" in text
    assert "2.000 [2.000, 2.000]" in text
    assert "84 MiB = 50 + 30 + 4" in text
    assert "Machine: local: 4 x Cortex-A17 at 1800 MHz, Linux 5.10.110" in text
    assert "Stored:  stored.json" in text


def test_doubts_and_what_nobody_saw_are_below() -> None:
    blind = structs.replace(
        measurement(MEDIANS, level="NOISY"),
        verdict=Verdict(level="NOISY", reasons=measurement(MEDIANS, level="NOISY").verdict.reasons, unseen=("clock",)),
    )

    text = printed(FIRST, blind)

    assert "  NOISY net.fp32.onnx: It was noisy." in text
    assert "This machine does not tell its clock." in text
    assert set(COLOURS) == {"TRUSTED", "NOISY", "THROTTLED", "INVALID"}


def test_a_long_measurement_is_shown_minute_by_minute() -> None:
    rows = (
        Minute(minute=0, runs=9, median_ms=196.0, clock_mhz=1800.0, temperature_c=61.0),
        Minute(minute=1, runs=5, median_ms=391.5, clock_mhz=900.0, temperature_c=None),
    )

    text = printed(structs.replace(FIRST, minutes=rows))

    assert "net.fp32.onnx, minute by minute" in text
    assert "     1  196.0 ms  1800 MHz      61.0 °C" in text
    assert "     2  391.5 ms   900 MHz" in text


def test_a_problem_is_a_line_and_a_row() -> None:
    problem = Problem(Path("bundle"), "net.fp32.xml", ONE, ParityError("It is not the same network."))

    assert "net.fp32.xml: It is not the same network." in printed(FIRST, problems=(problem,))
    assert "net.fp32.xml: It is not the same network." in printed(problems=(problem,))
    (row,) = problem_rows([problem])
    assert (row["bundle"], row["kind"]) == ("bundle", "ParityError")
