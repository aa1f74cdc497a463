"""The sentence about the speed of a quantized artifact: what is known, and plainly where int8 does not pay."""

import pytest
from msgspec import structs

from edgekit.artifact import OperatorPrecision
from edgekit.precision_text import speed_note
from tests.test_kept_float import RECORD


def layer(saved: float | None, reason: str = "", source: str = "rules: x on y, by linear 3>4") -> OperatorPrecision:
    return OperatorPrecision(
        name="a",
        module=None,
        kind="linear",
        macs=1,
        precision="fp32" if reason else "int8",
        reason=reason,
        source=source,
        saved=saved,
        unit="" if saved is None else "instructions",
    )


@pytest.mark.parametrize(
    ("layers", "note"),
    [
        ([layer(None), layer(None, "gate")], ""),
        ([layer(2e6), layer(1e6)], "int8 saves 3.00 M instructions of an inference in 2 layers (rules: x on y)"),
        (
            [
                layer(2e6),
                layer(-1e6, "slower"),
                layer(None, "wrong", "measured here: z"),
                layer(None, source="structure"),
            ],
            "int8 saves 2.00 M instructions of an inference in 1 layers; 2 are no faster in it and stay float; 1 are "
            "int8 by structure, for nothing like them was measured (rules: x on y)",
        ),
        (
            [layer(-2e6), layer(1e6)],
            "int8 does NOT make it faster, it only saves size: 2 layers cost 1.00 M instructions more (rules: x on y)",
        ),
    ],
)
def test_the_note_says_what_int8_is_worth(layers: list[OperatorPrecision], note: str) -> None:
    assert speed_note(structs.replace(RECORD, operators=tuple(layers))) == note
