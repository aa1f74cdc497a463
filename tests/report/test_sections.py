"""What the report says: only trusted figures lead, INVALID ones enter no comparison, and gaps come with a command."""

from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from edgekit.bench.record import Level, Minute
from edgekit.bench.store import write_profiles, write_run
from edgekit.bundle import MANIFEST, read_manifest
from edgekit.errors import ArtifactError, BundleError
from edgekit.report.compose import SECTIONS
from edgekit.report.document import Chart, Missing, Pictures, Table, Text, flat
from edgekit.report.drawing import svg
from edgekit.report.gather import gather
from edgekit.report.kernels import png
from tests.bench.figures import (
    MACHINE,
    MEMORY,
    counted,
    execution,
    machine_called,
    measurement,
    printed,
    profile_run_of,
    run_of,
)
from tests.report.conftest import measure
from tests.report.reading import changed, column, drawn, every, report, section, tile


def test_sections_come_in_their_order_with_a_name_each(full: Path) -> None:
    names = [each.name for each in report(full).sections]

    assert len(names) == len(set(names)) == len(SECTIONS)
    assert names[:2] == ["overview", "latency"]
    assert names[-1] == "reproduce"


def test_the_verdict_names_the_fastest_trusted_artifact(full: Path) -> None:
    document = report(full)

    assert document.tone == "bad", "for its accuracy"
    assert document.verdict == (
        "The one artifact is the same network as the original, and onnx fp32 is the fastest: "
        "10.05 ms on 4 × Cortex-A17 (local) with 1 thread. "
        "onnx fp32 loses more accuracy than the budget allows."
    )
    assert tile(document, "Fastest trusted") == (
        "10.05 ms",
        "onnx fp32 on 4 × Cortex-A17 (local) with 1 thread",
        "good",
    )
    assert tile(document, "Parity passed")[0] == "1 of 1"
    assert tile(document, "Target")[:2] == ("arm", "trained weights")


def test_a_bundle_alone_says_which_commands_make_the_rest(bundle: Path) -> None:
    document = report(bundle)

    wanted = {each.command for part in document.sections for each in every(part, Missing)}
    assert {
        f"edgekit bench {bundle}",
        f"edgekit profile {bundle}",
        f"edgekit eval {bundle} --data FOLDER",
    } <= wanted
    assert document.verdict.endswith("and nothing was measured yet.")
    assert tile(document, "Fastest trusted") == ("–", "not measured yet", "warn")


@pytest.mark.parametrize("level", ["NOISY", "THROTTLED", "INVALID"])
def test_what_is_not_trusted_never_leads(bundle: Path, level: Level) -> None:
    measure(bundle, level=level)
    document = report(bundle)

    assert "no latency can be trusted" in document.verdict
    assert document.tone == "warn"
    assert tile(document, "Fastest trusted")[0] == "none"
    latency = section(document, "latency")
    assert column(every(latency, Table)[0], "verdict") == [level]
    assert [f"It was {level.lower()}."] == column(every(latency, Table)[1], "reason")
    assert (f"onnx fp32 ({level})" in drawn(flat(latency.blocks))) == (level != "INVALID")


def test_an_invalid_number_is_shown_as_such_and_compared_with_nothing(bundle: Path) -> None:
    measure(bundle, level="INVALID")
    document = report(bundle)

    latency, trade_off = section(document, "latency"), section(document, "trade-off")
    assert every(latency, Chart) == every(trade_off, Chart) == every(trade_off, Table) == []
    (listing, _) = every(latency, Table)
    assert [cell.text for cell in listing.rows[0]] == ["onnx fp32", *["–"] * 5, "INVALID"]
    assert "10.0" not in msgspec.json.encode(latency).decode()


def test_a_later_run_takes_the_place_of_an_earlier_one(bundle: Path) -> None:
    measure(bundle, level="INVALID")
    measure(bundle, factor=2.0, created="2026-11-22T12:00:00+00:00", run="two")

    assert tile(report(bundle), "Fastest trusted")[0] == "20.10 ms"


def test_what_was_emulated_says_so_and_never_leads(bundle: Path) -> None:
    measure(bundle, machine=structs.replace(MACHINE, device="qemu://armv7", emulated=True))
    document = report(bundle)

    latency = section(document, "latency")
    assert "EMULATED" in latency.lead
    assert "onnx fp32 (emulated)" in drawn(flat(latency.blocks))
    assert tile(document, "Fastest trusted")[0] == "none"
    assert every(section(document, "trade-off"), Chart) == every(section(document, "memory"), Chart) == []
    assert "EMULATED" in column(every(section(document, "environment"), Table)[0], "qemu://armv7")


def test_two_machines_are_told_apart(bundle: Path) -> None:
    measure(bundle)
    board = structs.replace(MACHINE, device="ssh://board")
    measure(bundle, factor=0.5, machine=board, created="2026-11-22T12:00:00+00:00", run="two")
    document = report(bundle)

    (listing,) = every(section(document, "latency"), Table)
    assert column(listing, "where") == [
        "4 × Cortex-A17 (ssh://board) with 1 thread",
        "4 × Cortex-A17 (local) with 1 thread",
    ]
    assert column(listing, "ratio") == ["1", "1"], "each machine has its own"
    assert "ssh://board" in document.verdict


def test_bundles_stand_side_by_side(full: Path, twin: Path) -> None:
    (member,) = read_manifest(twin).members
    write_profiles(profile_run_of(member.artifact.sha256), twin)
    document = report(full, twin)

    (sheet,) = every(section(document, "overview"), Table)
    assert [each.heading for each in sheet.columns] == ["", "bundle", "twin"]
    assert column(every(section(document, "latency"), Table)[0], "artifact") == ["bundle onnx fp32"]
    assert [each.command for each in every(section(document, "latency"), Missing)] == [f"edgekit bench {twin}"]
    assert "twin onnx fp32" in column(every(section(document, "certificates"), Table)[0], "artifact")
    assert document.verdict.startswith("Both artifacts are the same network")


def test_bundles_of_one_name_are_called_by_their_paths(full: Path, bundle: Path) -> None:
    assert [each.name for each in gather([full, bundle]).bundles] == [str(full), str(bundle)]


def test_time_adds_up_and_the_roof_is_above(full: Path) -> None:
    found = section(report(full), "time")
    by_module, by_kind = every(found, Table)

    assert column(by_module, "module") == ["stem.conv", "stages.0.conv", "stages.0", "(outside of operators)"]
    shares = [float(text.removesuffix(" %")) for text in column(by_module, "share")]
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert column(by_kind, "kernel")[:3] == ["Gemm", "Conv", "Add"]
    _, roofline = every(found, Chart)
    dots = roofline.wide["layer"][-1]["data"]["values"]
    assert [dot["said"].split(",")[0] for dot in dots] == ["stages.0.conv", "stem.conv"], "a sum has no MACs"
    assert dots[0]["y"] == pytest.approx(1e-6 * 20_000_000 / 1.0)
    assert max(roof["y"] for roof in roofline.wide["layer"][0]["data"]["values"]) == 50.0


def test_memory_is_its_parts(full: Path) -> None:
    (table,) = every(section(report(full), "memory"), Table)

    assert [cell.text for cell in table.rows[0]][1:] == [
        *("50.0 MiB", "30.0 MiB", "4.0 MiB", "84.0 MiB", "82.0 MiB", "70.0 MiB")
    ]


def test_memory_on_devices_is_labelled_with_them(bundle: Path) -> None:
    (member,) = read_manifest(bundle).members
    sha256 = member.artifact.sha256
    measure(bundle)
    untold = structs.replace(MEMORY, run_bytes=MEMORY.run_bytes - (1 << 20), peak_pss_bytes=None)
    board = structs.replace(MACHINE, device="ssh://board")
    write_run(run_of(measurement([10.0] * 6, sha256=sha256, memory=untold), run="two", machine=board), bundle)
    machine = machine_called("ssh://vm", emulated=True)
    larger = structs.replace(MEMORY, run_bytes=MEMORY.run_bytes + (1 << 20))
    executed = structs.replace(execution(None, sha256=sha256), memory=larger)
    write_run(run_of(run="three", machine=machine, executions=(executed,)), bundle)
    counted(bundle, 1_000_000, no_memory="memory is not measured there")

    document = report(bundle)

    found = section(document, "memory")
    (table,) = every(found, Table)
    assert column(table, "device") == ["ssh://board", "local", "ssh://vm (EMULATED)"]
    assert column(table, "peak running") == ["83.0 MiB", "84.0 MiB", "85.0 MiB"]
    assert column(table, "PSS") == ["not told", "70.0 MiB", "70.0 MiB"]
    assert "EMULATED" in found.lead
    assert [each.text for each in every(found, Text)] == ["qemu://armv7: memory is not measured there."]
    assert tile(document, "Least memory")[:2] == ("83.0 MiB", "onnx fp32 on ssh://board")


def test_memory_here_needs_no_device(full: Path) -> None:
    (table,) = every(section(report(full), "memory"), Table)

    assert "device" not in [each.heading for each in table.columns]
    assert tile(report(full), "Least memory")[1] == "onnx fp32"


def test_kernels_are_pictured(full: Path) -> None:
    over, usual = every(section(report(full), "kernels"), Pictures)

    assert over.rows[0].label == "stages.0.0.token_mixer.dwconv1"
    assert over.rows[0].note == "15 × 15, column and row, 48 channels"
    assert len(over.rows[0].tiles) == 8
    assert all("7 × 7" in row.note for row in usual.rows)


def test_a_tile_shows_sign_and_strength_and_lets_the_page_through_where_it_is_zero() -> None:
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(png(np.array([[127, 0, -127]], np.int8)))) as image:
        positive, zero, negative = (image.convert("RGBA").getpixel((place, 0)) for place in range(3))

    assert isinstance(positive, tuple)
    assert isinstance(zero, tuple)
    assert isinstance(negative, tuple)
    assert positive[0] > positive[2]
    assert negative[2] > negative[0]
    assert (positive[3], zero[3], negative[3]) == (254, 0, 254)


def test_a_network_without_large_kernels_says_so(bundle: Path) -> None:
    changed(bundle, pictures=None)
    (bundle / "kernels.safetensors").unlink()

    found = section(report(bundle), "kernels")
    assert "has no depthwise kernel of 7 taps or more" in msgspec.json.encode(found).decode()


def test_the_commands_make_it_again(full: Path) -> None:
    found = section(report(full), "reproduce")
    text = msgspec.json.encode(found).decode()

    assert "edgekit export parcnetv2_xt --input 32 --format onnx" in text
    assert "edgekit bench" in text
    assert "edgekit profile net" in text
    files = {file.name: file.sha256 for member in read_manifest(full).members for file in member.artifact.files}
    assert all(name in text and digest in text for name, digest in files.items())


def test_pictures_that_were_changed_are_refused(bundle: Path) -> None:
    (bundle / "kernels.safetensors").write_bytes(b"other")

    with pytest.raises(ArtifactError, match=r"kernels\.safetensors is not the file that was exported"):
        report(bundle)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"{MANIFEST} cannot be read"):
        report(tmp_path)


def test_instructions_are_counts_and_never_times(bundle: Path) -> None:
    counted(bundle, 250_000_000)
    counted(bundle, 4_000_000_000, device="qemu://aarch64")

    document = report(bundle)
    found = section(document, "instructions")

    assert found.lead.startswith("EMULATED")
    (rows,) = every(found, Table)
    assert set(zip(column(rows, "device"), column(rows, "instructions"), strict=True)) == {
        ("qemu://armv7", "250,000,000"),
        ("qemu://aarch64", "4,000,000,000"),
    }
    assert set(column(rows, "of them vector")) == {"50%"}
    assert all("emulated" in each.title for each in every(found, Chart))
    assert "250.0 M" in drawn(flat(found.blocks))
    assert " ms" not in str(every(found, Table))
    assert tile(document, "Fastest trusted")[0] == "–"


def test_what_could_not_be_counted_has_no_bar(bundle: Path) -> None:
    run = run_of(machine=structs.replace(MACHINE, device="ssh://board", emulated=True))
    (member,) = read_manifest(bundle).members
    write_run(structs.replace(run, executions=(execution(None, sha256=member.artifact.sha256),)), bundle)

    found = section(report(bundle), "instructions")

    (rows,) = every(found, Table)
    assert (column(rows, "instructions"), column(rows, "of them vector")) == (["not counted"], ["–"])
    assert not every(found, Chart)


def test_what_other_programs_printed_is_marked_and_ranked_nowhere(bundle: Path) -> None:
    (member,) = read_manifest(bundle).members
    one = printed(12.0)
    one = structs.replace(one, subject=structs.replace(one.subject, sha256=member.artifact.sha256))
    write_run(run_of(printed=(one,)), bundle)

    document = report(bundle)

    (rows,) = every(section(document, "latency"), Table)
    assert column(rows, "figure") == ["mean 12.00 ms (11.00 to 13.00)"]
    assert (column(rows, "SNR there"), column(rows, "verdict")) == (["outputs NOT compared"], ["NOISY"])
    assert not every(section(document, "latency"), Chart)
    assert tile(document, "Fastest trusted")[0] == "–"


def minutes(clock_mhz: float | None) -> tuple[Minute, ...]:
    """Ten minutes in which it becomes slower, hotter and, where it tells, throttled."""
    return tuple(
        Minute(
            minute=number,
            runs=100,
            median_ms=10.0 + number,
            clock_mhz=clock_mhz and clock_mhz - 10 * number,
            temperature_c=50.0 + number,
        )
        for number in range(10)
    )


@pytest.mark.parametrize(
    ("clock_mhz", "titles"), [(1800.0, ["Latency", "Clock", "Temperature"]), (None, ["Latency", "Temperature"])]
)
def test_long_measurements_are_drawn_minute_by_minute(bundle: Path, clock_mhz: float | None, titles: list[str]) -> None:
    (member,) = read_manifest(bundle).members
    one = measurement([10.0] * 6, sha256=member.artifact.sha256, minutes=minutes(clock_mhz))
    write_run(run_of(one), bundle)

    charts = [each for each in every(section(report(bundle), "latency"), Chart) if "minute by minute" in each.title]

    assert [each.title.split()[0] for each in charts] == titles
    values = charts[0].wide["data"]["values"]
    assert [(row["x"], row["y"]) for row in values] == [(number + 1, 10.0 + number) for number in range(10)]
    assert "minute 10: 19 ms" in charts[0].alternative
    assert "minute 10: 19 ms" in svg(charts[0].wide, "minutes")


def test_a_short_measurement_has_no_minutes(full: Path) -> None:
    assert not [each for each in every(section(report(full), "latency"), Chart) if "minute" in each.title]
