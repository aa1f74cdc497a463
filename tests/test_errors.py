"""What is told of an error of somebody else's, and the exit codes of our own."""

import re
from itertools import pairwise

import pytest

from edgekit import errors
from edgekit.errors import EdgekitError, first_line, root_cause

TREE = re.compile(r"^    [| `-]*(\w+Error)\s+(\d)\b", re.MULTILINE)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n\n  first \nsecond"), "first"),
        (ValueError(), "ValueError"),
        (ValueError(" \n\t\n"), "ValueError"),
        (KeyError("k"), "'k'"),
    ],
    ids=["several-lines", "silent", "blank", "key"],
)
def test_the_first_line_that_says_anything(error: BaseException, line: str) -> None:
    assert first_line(error) == line


def raised_from(*reasons: BaseException) -> BaseException:
    """The last of several errors, each raised from the one before."""
    for before, after in pairwise(reasons):
        after.__cause__ = before
    return reasons[-1]


def test_the_error_that_others_were_raised_from() -> None:
    first = KeyError("why")
    assert root_cause(raised_from(first, ValueError("so"), RuntimeError("failed"))) is first
    assert root_cause(first) is first


def test_an_error_met_while_handling_another_is_its_own_cause() -> None:
    error = ValueError("here")
    error.__context__ = KeyError("elsewhere")
    assert root_cause(error) is error


def test_the_tree_at_the_top_of_the_module_is_the_tree() -> None:
    assert errors.__doc__
    told = {name: int(code) for name, code in TREE.findall(errors.__doc__)}
    assert told.pop("EdgekitError", None) is None  # its line has the heading instead of a code
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EdgekitError)]
    assert {kind.__name__: kind.exit_code for kind in classes if kind is not EdgekitError} == told
