"""What the instruction counter wrote, read out."""

import pytest

from edgekit.errors import DeviceError
from edgekit.targets.counter import END, read_counts, read_total
from edgekit.targets.job import Count

EMPTY = 2
MARKS = (
    "0 100 10\n1 300 60\n2 400 60\n3 1500 90\n2 1600 90\n3 2700 121\n4 3000 121\n5 3090 123\n4 3100 123\n5 3150 124\n"
)
"""Task 0 once, task 1 twice, then nothing twice: at last 50 instructions, one of them a vector's."""


def test_regions_are_counted_without_what_the_marks_cost() -> None:
    assert read_counts(MARKS, EMPTY) == {
        0: (Count(instructions=150, simd=49),),
        1: (Count(instructions=1050, simd=29), Count(instructions=1050, simd=30)),
    }


@pytest.mark.parametrize("text", ["1 100 0\n0 200 0\n", "0 100 0\n3 200 0\n", "0 100 0\n2 200 0\n"])
def test_marks_that_are_no_pairs_are_refused(text: str) -> None:
    with pytest.raises(DeviceError, match="do not come in pairs"):
        read_counts(text, EMPTY)


def test_no_marks_at_all_is_the_plugins_fault() -> None:
    with pytest.raises(DeviceError, match="saw no marks"):
        read_counts("", EMPTY)


def test_the_programs_end_is_no_mark() -> None:
    assert read_counts(f"{MARKS}{END} 9000 800\n", EMPTY) == read_counts(MARKS, EMPTY)


def test_the_total_is_the_last_line() -> None:
    assert read_total(f"{MARKS}{END} 9000 800\n") == Count(instructions=9000, simd=800)


@pytest.mark.parametrize("text", ["", MARKS])
def test_a_program_whose_end_was_not_seen_has_no_total(text: str) -> None:
    with pytest.raises(DeviceError, match="did not see the program's end"):
        read_total(text)
