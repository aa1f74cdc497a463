"""`edgekit bench`: figures with a verdict, where they go, and what is refused."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.bundle import MANIFEST
from edgekit.cli import contenders
from edgekit.files import hash_files
from edgekit.measure import Choice
from tests.bench.conftest import disturbed
from tests.cli.conftest import Run, Spawn, finish, names, wait_for

ARTIFACT = "parcnetv2_xt.fp32.onnx"
BRIEF = ("--seconds", "0.05", "--runs", "6")


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short windows for warming up; how long they are is no matter here."""
    monkeypatch.setattr("edgekit.bench.method.WINDOW_SECONDS", 0.02)


def test_a_bundle_gets_figures_a_verdict_and_a_file(run: Run, bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = run("bench", bundle, *BRIEF)

    assert result.exit_code == 0, result.output
    row = rf"{re.escape(ARTIFACT)} +onnxruntime +[\d.]+ ± [\d.]+ ms .* MiB = \d+ \+ \d+ \+ \d+ +(TRUSTED|[A-Z]+)"
    assert re.search(row, result.stdout), result.stdout
    assert "1 thread, profile quick, changed" in result.stdout
    assert "Machine: local: " in result.stdout
    assert re.search(r"^Runtimes: onnxruntime \d", result.stdout, re.MULTILINE)
    (stored,) = (bundle / "measurements").iterdir()
    assert f"Stored:  {stored}" in result.stdout
    assert re.search(r"warm up parcnetv2_xt\.fp32\.onnx +\d+\.\d s", capfd.readouterr().err)


def test_json_has_every_sample(run: Run, bundle: Path) -> None:
    result = run("bench", bundle, *BRIEF, "--threads", "1", "--threads", "2", "--json")

    assert (result.exit_code, result.stderr) == (0, "")
    content = json.loads(result.stdout)
    assert content.keys() == {"schema_version", "runs", "stored", "problems", "skipped"}
    (made,) = content["runs"]
    assert made["command"][:2] == ["edgekit", "bench"]
    assert [one["setting"]["threads"] for one in made["measurements"]] == [1, 2]
    for one in made["measurements"]:
        assert one["verdict"]["level"] in ("TRUSTED", "NOISY", "THROTTLED", "INVALID")
        assert len(one["rounds"]) >= 6
        assert all(each["samples_ms"] for each in one["rounds"])
    assert json.loads(Path(content["stored"][0]).read_text()) == made


def test_markdown_goes_to_a_page(run: Run, bundle: Path) -> None:
    result = run("bench", bundle, *BRIEF, "--no-memory", "--markdown")

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("| artifact | threads | median | p90 |")
    assert f"| `{ARTIFACT}` in onnxruntime" in result.stdout


def test_figures_go_elsewhere_when_asked_to(run: Run, bundle: Path) -> None:
    result = run("bench", bundle, *BRIEF, "--no-memory", "-o", "figures.json")

    assert result.exit_code == 0, result.output
    assert not (bundle / "measurements").exists()
    assert json.loads(Path("figures.json").read_text())["runs"][0]["measurements"][0]["memory"] is None


def test_alone_it_takes_the_newest_bundle(run: Run, bundle: Path) -> None:
    Path("edgekit-out").mkdir()
    for name, created in (("old", "2026-01-01T00:00:00+00:00"), ("new", "2026-02-01T00:00:00+00:00")):
        folder = Path("edgekit-out") / name
        folder.mkdir()
        for path in bundle.iterdir():
            if path.name != MANIFEST:
                (folder / path.name).hardlink_to(path)
        manifest = json.loads((bundle / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**manifest, "created": created}))
    (Path("edgekit-out") / "no-bundle").mkdir()
    for name, more in (("ancient", {"created": "2020-01-01T00:00:00+00:00"}), ("undated", {})):
        (Path("edgekit-out") / name).mkdir()
        manifest = {"schema_version": 1, "edgekit_version": "0", **more}
        (Path("edgekit-out") / name / MANIFEST).write_text(json.dumps(manifest))

    result = run("bench", *BRIEF, "--no-memory")

    assert result.exit_code == 0, result.output
    assert names(Path("edgekit-out/new")) == [
        "kernels.safetensors",
        MANIFEST,
        "measurements",
        ARTIFACT,
        "reference.safetensors",
    ]
    assert "measurements" not in names(Path("edgekit-out/old"))


@pytest.mark.parametrize("out", [None, "edgekit-out"])
def test_there_is_no_bundle_to_take(run: Run, out: str | None) -> None:
    if out:
        Path(out).mkdir()

    result = run("bench")

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: There is no bundle in edgekit-out. `edgekit export MODEL` makes one")


def vouch_for(folder: Path, content: bytes) -> None:
    """Puts another file in the artifact's place, with a manifest that knows its hash."""
    (folder / ARTIFACT).unlink()
    (folder / ARTIFACT).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    file = hash_files([folder / ARTIFACT])[0]
    entry = {"name": file.name, "size": file.size, "sha256": file.sha256}
    manifest["members"][0]["artifact"].update(files=[entry])
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_wrong_artifact_is_never_timed(run: Run, bundle: Path, tmp_path: Path) -> None:
    """The negative twin: one weight is off by a hundredth, and the manifest vouches for it."""
    vouch_for(bundle, disturbed(bundle / ARTIFACT, tmp_path / "wrong.onnx").read_bytes())

    plain, as_json = run("bench", bundle, *BRIEF), run("bench", bundle, *BRIEF, "--json")

    assert plain.exit_code == as_json.exit_code == 1
    assert re.search(rf"Error: {re.escape(ARTIFACT)} is not the same network: .* It was not timed\.", plain.stderr)
    assert " ms " not in plain.stdout
    content = json.loads(as_json.stdout)
    assert content["runs"][0]["measurements"] == []
    assert (content["error"]["kind"], content["error"]["exit_code"]) == ("ParityError", 1)
    assert content["problems"][0]["artifact"] == ARTIFACT
    assert not (bundle / "measurements").exists()


def test_interrupting_leaves_no_figures_and_no_process(run: Run, bundle: Path, spawn: Spawn) -> None:
    process = spawn("bench", bundle, "--seconds", "300", "--no-memory")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: "bench.worker" in "".join(command_of(int(pid)) for pid in children.read_text().split()), process)
    (worker,) = (int(pid) for pid in children.read_text().split() if "bench.worker" in command_of(int(pid)))

    process.send_signal(signal.SIGINT)

    code, output, errors = finish(process)
    assert (code, output) == (130, "")
    assert errors.endswith("Interrupted; nothing was left behind.\n")
    deadline = time.monotonic() + 10  # seconds that a busy machine may take to end it; left alone it measures for 300
    while command_of(worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert command_of(worker) == ""
    assert not (bundle / "measurements").exists()


def command_of(pid: int) -> str:
    """The command line of a process; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_file_that_does_not_load(run: Run, bundle: Path) -> None:
    vouch_for(bundle, b"garbage")

    result = run("bench", bundle, *BRIEF)

    assert result.exit_code == 1
    assert f"Error: ONNX Runtime does not load {ARTIFACT}: " in result.stderr


def test_a_busy_machine_is_told(run: Run, bundle: Path, busy: Callable[[int], None]) -> None:
    busy(os.cpu_count() or 1)

    result = run("bench", bundle, "--seconds", "0.5", "--runs", "6", "--no-memory")

    assert result.exit_code == 0, result.output
    assert re.search(r" INVALID$", result.stdout, re.MULTILINE)
    assert re.search(r"INVALID Other processes took \d\.\d\d of \d+ processors", result.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--profile", "quik"), r"no profile named 'quik'\. Did you mean quick"),
        (("--runtime", "onnxruntim"), r"no runtime named 'onnxruntim'\. Did you mean onnxruntime"),
        (("--format", "onx"), r"no format named 'onx'\. Did you mean onnx"),
        (("--format", "tflite"), r"Nothing is left to measure; the bundles hold onnx"),
        (("--batch", "2"), r"is a bundle, which --batch does not apply to\. Name a model"),
        (("--input", "64"), r"is a bundle, which --input does not apply to"),
        (("--affinity", "0-x"), r"'0-x' is no list of processors\. Write 0,2 or 4-7"),
        (("--affinity", "4-2"), r"'4-2' is no list of processors"),
        (("--affinity", "9999"), r"Processor 9999 cannot be used; there is"),
        (("--threads", "3000"), r"3000 is not in the range"),
        (("--threads", "2", "--affinity", "0"), r"2 threads do not fit on 1 processors"),
    ],
    ids=" ".join,
)
def test_requests_that_cannot_be(run: Run, bundle: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("bench", bundle, *arguments)

    assert result.exit_code == 2
    assert re.search(message, result.stderr), result.stderr
    assert not (bundle / "measurements").exists()


def test_a_model_that_does_not_exist(run: Run) -> None:
    result = run("bench", "parcnetv2_x", *BRIEF)

    assert result.exit_code == 2
    assert "There is no model named 'parcnetv2_x'. Did you mean parcnetv2_xt" in result.stderr


def test_a_model_is_exported_apart_and_from_the_cache(run: Run, mixer: str) -> None:
    result = run("bench", mixer, "--format", "onnx", *BRIEF, "--no-memory", "--json")

    assert result.exit_code == 0, result.output
    (folder,) = Path("edgekit-out/bench").iterdir()
    assert folder.name == "mixer-build-32-host"
    artifact = "mixer-build.fp32.onnx"
    assert names(folder) == ["kernels.safetensors", MANIFEST, "measurements", artifact, "reference.safetensors"]
    content: dict[str, Any] = json.loads(result.stdout)
    assert content["runs"][0]["bundle"] == folder.name

    again = run("bench", mixer, "--format", "onnx", *BRIEF, "--no-memory")

    assert again.exit_code == 0, again.output
    made = json.loads((folder / MANIFEST).read_text())
    assert {stage["name"] for stage in made["stages"] if stage["cached"]} == {"network", "onnx"}
    assert len(names(folder / "measurements")) == 2  # the first measured the same bytes


@pytest.mark.parametrize(
    ("choice", "batches", "formats", "shapes"),
    [
        ((), (), None, [(1, 3, 32, 32)]),
        (("onnxruntime", "torch"), (), ("onnx", "pt2"), [(1, 3, 32, 32)]),
        ((), (1, 4, 1), None, [(1, 3, 32, 32), (4, 3, 32, 32)]),
    ],
)
def test_how_a_model_is_exported(
    choice: tuple[str, ...], batches: tuple[int, ...], formats: tuple[str, ...] | None, shapes: list[tuple[int, ...]]
) -> None:
    network: Any = {"shape": (1, 3, 32, 32)}

    plans = contenders.plans_of("parcnetv2_xt", Choice(runtimes=choice), batches, network)

    assert [plan.inputs[0].shape for plan in plans] == shapes
    assert all(plan.out.parent == Path("edgekit-out/bench") for plan in plans)
    assert len({plan.out for plan in plans}) == len(shapes)
    assert formats is None or tuple(entry.format for entry in plans[0].exporters) == formats
    assert plans[0].request.target == "host"


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a device that adb does not know."""
    (tmp_path / "bin").mkdir()
    adb = tmp_path / "bin" / "adb"
    adb.write_text("#!/bin/sh\necho \"adb: device 'nobody' not found\" >&2\nexit 1\n")
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", str(adb.parent), prepend=":")
    return "adb://nobody"


def test_a_device_that_is_not_there_loses_nothing_of_the_others(run: Run, bundle: Path, nobody: str) -> None:
    result = run("bench", bundle, *BRIEF, "--no-memory", "--device", "local", "--device", nobody)

    assert result.exit_code == 3
    assert re.search(
        rf"^local +{re.escape(ARTIFACT)} +onnxruntime \S+ +1 thread +[\d.]+ ± [\d.]+ ms", result.stdout, re.MULTILINE
    )
    assert re.search(rf"^{nobody}: .*`adb devices` lists what is", result.stdout, re.MULTILINE), result.stdout
    assert len(list((bundle / "measurements").iterdir())) == 1


def test_devices_that_fail_are_problems_in_json(run: Run, bundle: Path, nobody: str) -> None:
    result = run("bench", bundle, "--device", nobody, "--json")

    content = json.loads(result.stdout)
    assert (result.exit_code, content["runs"], content["error"]["kind"]) == (3, [], "DeviceError")
    (problem,) = content["problems"]
    assert (problem["device"], problem["bundle"], problem["artifact"]) == (nobody, None, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--governor", "performance"), "--governor is for boards. Name one with --device."),
        (("--native", "ncnn"), "'ncnn' names no program. Write RUNTIME=PROGRAM, such as ncnn=./benchncnn."),
        (("--native", "ncnn=./nowhere"), "There is no program ./nowhere."),
        (("--native", "ncnn=board:/a", "--native", "ncnn=board:/b"), "--native takes one program for each runtime."),
        (
            ("--device", "ssh://b", "--governor", "performance", "--native", "ncnn=board:/a"),
            "--governor needs Python on the board. Leave it out with --native.",
        ),
        (("--device", "board"), "'board' is no address of a device"),
        (("--device", "qemu://armv7", "--device", "qemu://armv7"), "qemu://armv7 is named twice"),
    ],
    ids=" ".join,
)
def test_devices_that_cannot_be(run: Run, bundle: Path, arguments: tuple[str, ...], message: str) -> None:
    result = run("bench", bundle, *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
