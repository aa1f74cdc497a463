"""What stayed float, why, and what it takes."""

from msgspec import structs

from edgekit.artifact import CalibrationRecord, OperatorPrecision, Parity, QuantRecord
from edgekit.bench.profile_record import OperatorRow
from edgekit.kept_float import kept_of


def operator(name: str, module: str | None, macs: int, reason: str = "") -> OperatorPrecision:
    return OperatorPrecision(
        name=name, module=module, kind="Conv", macs=macs, precision="fp32" if reason else "int8", reason=reason
    )


def row(nodes: tuple[str, ...], module: str, ms: float) -> OperatorRow:
    return OperatorRow(
        name="kernel", kind="Conv", module=module, nodes=nodes, ms=ms, macs=100, bytes=1, fastest_ms=0.1 * ms
    )


RECORD = QuantRecord(
    recipe="mixed_wi8_ai8",
    calibration=CalibrationRecord(data="digits", digest="d" * 64, images=64),
    operators=(
        operator("conv_0", "0", 600),
        operator("conv_1", "1", 100, "grouped"),
        operator("conv_2", "2", 200, "gate"),
        operator("conv_3", None, 100, "asked"),
    ),
    held_out_images=16,
    held_out=Parity(max_abs=0.1, relative=0.1, snr_db=25.0, cosine=0.999, top1_agreement=1.0, nonfinite=0),
    floor_db=10.0,
)


def test_the_most_work_comes_first_where_nothing_was_timed() -> None:
    kept = kept_of("net.int8.onnx", RECORD, ())

    assert (kept.quantized, kept.operators, kept.timed) == (1, 4, False)
    assert [(each.name, each.reason, each.macs_share, each.ms) for each in kept.kept] == [
        ("conv_2", "gate", 0.2, None),
        ("conv_1", "grouped", 0.1, None),
        ("conv_3", "asked", 0.1, None),
    ]


def test_operators_are_ranked_by_what_each_costs_alone() -> None:
    measured = [
        structs.replace(each, alone_db=db) for each, db in zip(RECORD.operators, (40.0, 5.0, 12.0), strict=False)
    ]
    record = structs.replace(RECORD, operators=(*measured, RECORD.operators[3]))

    assert [each.name for each in kept_of("net.int8.onnx", record, ()).ranking] == ["conv_1", "conv_2", "conv_0"]
    assert kept_of("net.int8.onnx", RECORD, ()).ranking == ()


def test_times_are_found_by_node_and_else_by_module() -> None:
    rows = (row(("conv_0_quantized",), "0", 1.0), row(("relu", "conv_1"), "1", 5.0), row(("renamed",), "2", 2.0))

    kept = kept_of("net.int8.onnx", RECORD, rows)

    assert kept.timed
    assert [(each.name, each.ms, each.ms_share) for each in kept.kept] == [
        ("conv_1", 5.0, 0.625),
        ("conv_2", 2.0, 0.25),
        ("conv_3", None, None),
    ]


def test_what_int8_would_add_is_told_of_what_was_measured() -> None:
    slower = structs.replace(RECORD.operators[1], reason="slower", saved=-0.25, unit="ms")
    kept = kept_of("net.int8.onnx", structs.replace(RECORD, operators=(RECORD.operators[0], slower)), ())
    assert [(each.reason, each.added, each.unit) for each in kept.kept] == [("slower", 0.25, "ms")]
    assert kept_of("net.int8.onnx", RECORD, ()).kept[0].added is None
