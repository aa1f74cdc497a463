"""`edgekit report`: where the page goes, what is printed, and refusals."""

import json
import sys
from pathlib import Path

import pytest

from edgekit.bundle import MANIFEST
from tests.bench.figures import timed
from tests.cli.conftest import Run, names


def test_the_page_goes_into_the_bundle(run: Run, bundle: Path) -> None:
    timed(bundle)

    result = run("report", bundle)

    assert result.exit_code == 0, result.output
    assert "onnx fp32 is the fastest: 10.05 ms" in result.stdout
    assert f"Report: {bundle / 'report.html'}" in result.stdout
    text = (bundle / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")
    assert names(Path.cwd()) == []


def test_alone_it_takes_the_newest_bundle(run: Run, bundle: Path) -> None:
    Path("edgekit-out").mkdir()
    bundle.rename("edgekit-out/new")

    result = run("report")

    assert result.exit_code == 0, result.output
    assert Path("edgekit-out/new/report.html").is_file()


def test_the_page_goes_where_it_is_said(run: Run, bundle: Path) -> None:
    result = run("report", bundle, "-o", "page.html")

    assert result.exit_code == 0, result.output
    assert names(Path.cwd()) == ["page.html"]
    assert not (bundle / "report.html").exists()


def test_several_bundles_need_a_place_of_their_own(run: Run, bundle: Path, twin: Path) -> None:
    refused = run("report", bundle, twin)
    written = run("report", bundle, twin, "-o", "both.html")

    assert refused.exit_code == 2
    assert "Say where to write it with -o FILE" in " ".join(refused.stderr.split())
    assert written.exit_code == 0, written.output
    assert "Side by side" in Path("both.html").read_text()


def test_markdown_goes_to_the_output_or_into_a_file(run: Run, bundle: Path) -> None:
    printed = run("report", bundle, "--markdown")
    written = run("report", bundle, "--markdown", "-o", "report.md")

    assert printed.exit_code == written.exit_code == 0
    assert printed.stdout.startswith("## parcnetv2\\_xt\n")
    assert Path("report.md").read_text() == printed.stdout
    assert not (bundle / "report.html").exists()


def test_json_has_the_tables_and_what_is_missing(run: Run, bundle: Path) -> None:
    result = run("report", bundle, "--json")

    content = json.loads(result.stdout)
    assert content["schema_version"] == 2
    assert content["report"] == str(bundle / "report.html")
    assert content["tone"] == "warn"
    sections = {section["name"]: section for section in content["sections"]}
    assert sections["latency"]["missing"][0]["command"] == f"edgekit bench {bundle}"
    assert sections["certificates"]["tables"][0]["rows"][0][0]["text"] == "onnx fp32"
    assert result.stderr == ""


def test_json_with_markdown_writes_no_page(run: Run, bundle: Path) -> None:
    content = json.loads(run("report", bundle, "--markdown", "--json").stdout)

    assert content["report"] is None
    assert not (bundle / "report.html").exists()


@pytest.mark.parametrize("arguments", [("nowhere",), ()], ids=["no bundle", "none at all"])
def test_a_bundle_there_is_not(run: Run, arguments: tuple[str, ...]) -> None:
    result = run("report", *arguments)

    assert result.exit_code == 2
    assert "edgekit export MODEL" in " ".join(result.stderr.split())


def test_a_place_that_cannot_be_written(run: Run, bundle: Path) -> None:
    result = run("report", bundle, "-o", "none/page.html")

    assert result.exit_code == 3
    assert "none/page.html cannot be written" in " ".join(result.stderr.split())


def test_damaged_measurements_leave_no_page(run: Run, bundle: Path) -> None:
    (bundle / "measurements").mkdir()
    (bundle / "measurements" / "x.json").write_text("{")

    result = run("report", bundle)

    assert result.exit_code == 2
    assert "x.json is damaged" in " ".join(result.stderr.split())
    assert not (bundle / "report.html").exists()


@pytest.mark.parametrize("package", ["vl_convert", "jinja2"])
def test_a_missing_extra_is_one_line_that_says_what_to_run(
    run: Run, bundle: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    timed(bundle)

    result = run("report", bundle)

    assert result.exit_code == 3
    assert f"needs {package}, which is not installed. Run: pip install 'edgekit[report]'" in " ".join(
        result.stderr.split()
    )
    assert run("report", bundle, "--markdown").exit_code == 0, "which needs neither"


def test_an_earlier_page_survives_a_failure(run: Run, bundle: Path) -> None:
    (bundle / "report.html").write_text("before")
    (bundle / MANIFEST).write_text("{")

    assert run("report", bundle).exit_code == 2
    assert (bundle / "report.html").read_text() == "before"
