"""Accuracy in the report: a waterfall with its doubts, and nothing at all of random weights."""

from pathlib import Path

import msgspec
import pytest
from msgspec import structs

from edgekit.bundle import read_manifest
from edgekit.errors import BundleError
from edgekit.report.document import Chart, Pictures, Table
from edgekit.report.environment import weights_text
from tests.report.conftest import evaluate, measure, trained
from tests.report.reading import column, every, report, section, tile


def test_accuracy_is_a_waterfall_with_its_doubts(full: Path) -> None:
    document = report(full)
    found = section(document, "accuracy")

    (waterfall,) = every(found, Chart)
    layers = waterfall.wide["layer"]
    assert layers[0]["data"]["values"][0]["value"] == -0.5, "the budget"
    first, own = layers[2]["data"]["values"]
    assert (first["name"], first["value"], first["text"]) == ("torch fp32", 0.0, "100.00 %")
    assert (own["value"], own["text"], own["colour"]) == (-10.0, "90.00 %", "var(--bad)")
    assert own["low"] < -10.0 < own["high"] < own["end"] == 0.0
    listing, flips, classes = every(found, Table)
    assert column(listing, "top-1") == ["100.00 %", "90.00 %"]
    assert column(listing, "budget") == ["–", "OVER"]
    assert column(listing, "changed") == ["–", "40"]
    assert column(flips, "kind")[0] == "lost"
    assert column(classes, "lost") == ["20", "20"]
    (pictures,) = every(found, Pictures)
    assert all(tile.startswith(b"\x89PNG") for tile in pictures.rows[0].tiles)
    assert "is the first step that is over the budget" in msgspec.json.encode(found).decode()
    assert tile(document, "Accuracy") == (
        "100.00 → 90.00 %",
        "top-1 on squares, torch fp32 to onnx fp32",
        "bad",
    )


def test_accuracy_of_random_weights_is_no_reproach_and_no_trade_off(bundle: Path) -> None:
    measure(bundle)
    evaluate(bundle, lost=40)
    document = report(bundle)

    assert document.tone == "good"
    assert tile(document, "Accuracy") == ("–", "meaningless with random weights", "")
    assert column(every(section(document, "trade-off"), Table)[0], "top-1") == ["–"]
    assert "RANDOM" in weights_text(read_manifest(bundle).weights).upper()
    assert len(every(section(document, "accuracy"), Table)) > 1


def test_accuracy_within_the_budget_is_no_reproach(bundle: Path) -> None:
    trained(bundle)
    measure(bundle)
    evaluate(bundle, lost=0)
    document = report(bundle)

    assert document.tone == "good"
    assert tile(document, "Accuracy")[2] == ""
    trade_off = section(document, "trade-off")
    assert [each.title for each in every(trade_off, Chart)] == [
        "Latency and size with 1 thread",
        "Latency and accuracy with 1 thread",
    ]
    assert column(every(trade_off, Table)[0], "top-1") == ["100.00 %"]


def test_an_evaluation_of_the_same_images_takes_the_place_of_an_earlier_one(bundle: Path) -> None:
    evaluate(bundle, lost=40)
    evaluate(bundle, lost=4, created="2026-11-22T12:00:00+00:00")

    listing = every(section(report(bundle), "accuracy"), Table)[0]
    assert column(listing, "top-1") == ["100.00 %", "99.00 %"]


def test_evaluations_of_other_images_stand_beside_each_other(bundle: Path) -> None:
    made = evaluate(bundle, lost=4)
    evaluate(bundle, lost=4, data=structs.replace(made.data, name="circles", digest="e" * 64))

    tables = every(section(report(bundle), "accuracy"), Table)
    assert [each.title for each in tables if each.title.startswith("Accuracy on ")] == [
        "Accuracy on circles: 4 images, 2 classes",
        "Accuracy on squares: 4 images, 2 classes",
    ]


def test_a_damaged_thumbnail_is_told(bundle: Path) -> None:
    made = evaluate(bundle, lost=4)
    step = made.steps[1]
    flips = tuple(structs.replace(flip, thumbnail="no base64!") for flip in step.flips)
    evaluate(
        bundle,
        lost=4,
        steps=(made.steps[0], structs.replace(step, flips=flips)),
        created="2026-11-22T12:00:00+00:00",
    )

    with pytest.raises(BundleError, match=r"A picture in an evaluation is damaged .* evaluate again\."):
        report(bundle)
