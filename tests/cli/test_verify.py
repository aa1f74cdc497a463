"""`edgekit verify`: it says yes to a bundle as it was made, and no to every other."""

import json
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import save_file

from edgekit.bundle import MANIFEST, REFERENCE
from edgekit.exporters import EXPORTERS
from edgekit.exporters.base import ExportSpec
from edgekit.models.build import build
from edgekit.models.weights import random_weights
from edgekit.network import lower, prepare
from edgekit.plan import Request, make_plan
from tests.cli.conftest import Run, Spawn, finish

ARTIFACT = "parcnetv2_xt.fp32.onnx"


@dataclass(frozen=True, slots=True)
class Copy:
    """A bundle whose files can be changed, with or without the manifest learning of it."""

    folder: Path

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Changes the manifest."""
        manifest = json.loads((self.folder / MANIFEST).read_text())
        change(manifest)
        (self.folder / MANIFEST).write_text(json.dumps(manifest))

    def replace(self, name: str, content: bytes, *, known: bool) -> None:
        """Puts another file in a file's place; a known one has its hash in the manifest."""
        (self.folder / name).unlink()
        (self.folder / name).write_bytes(content)
        entry = {"name": name, "size": len(content), "sha256": sha256(content).hexdigest()}
        if known and name == REFERENCE:
            self.edit(lambda manifest: manifest.update(reference=entry))
        elif known:
            self.edit(lambda manifest: manifest["members"][0]["artifact"].update(files=[entry]))


@pytest.fixture
def copy(bundle: Path) -> Copy:
    return Copy(bundle)


def test_a_bundle_passes(run: Run, copy: Copy) -> None:
    result = run("verify", copy.folder)

    assert result.exit_code == 0, result.output
    assert re.search(rf"{re.escape(ARTIFACT)} +1\d\d\.\d dB +1\d\d\.\d dB +same network", result.stdout)
    assert "RANDOM weights (seed 0)" in result.stdout


def test_json_has_every_case(run: Run, copy: Copy) -> None:
    result = run("verify", copy.folder, "--json")

    content = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert content.keys() == {"schema_version", "bundle", "artifacts"}
    (row,) = content["artifacts"]
    assert (row["artifact"], row["passed"], row["problem"]) == (ARTIFACT, True, None)
    assert [case["case"] for case in row["parity"]] == ["noise", "natural", "edges", "flat"]
    assert {case["output"] for case in row["parity"]} == {"logits"}
    assert all(case["parity"]["snr_db"] >= case["gate_db"] for case in row["parity"])


def test_checking_needs_neither_torch_nor_a_cache(copy: Copy, spawn: Spawn, tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['onnx'] = None"

    assert finish(spawn("verify", copy.folder, code=code))[0] == 0
    assert not (tmp_path / "cache").exists()


def no(run: Run, copy: Copy, code: int, message: str) -> None:
    """Checks that both forms of the command say no, for the same reason."""
    before = {path.name: path.read_bytes() for path in copy.folder.iterdir() if path.is_file()}
    plain, as_json = run("verify", copy.folder), run("verify", copy.folder, "--json")

    assert plain.exit_code == as_json.exit_code == code, plain.output
    assert re.search(f"^Error: .*{message}", plain.stderr), plain.stderr
    assert as_json.stderr == ""
    content = json.loads(as_json.stdout)
    assert content["error"]["exit_code"] == code
    assert re.search(message, content["error"]["message"])
    assert {path.name: path.read_bytes() for path in copy.folder.iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_a_network_that_is_off_by_a_hundredth_in_one_channel_fails(run: Run, copy: Copy, tmp_path: Path) -> None:
    """The negative twin: a file that is well made, with a manifest that vouches for it, of very nearly the network."""
    model = build("parcnetv2_xt", None)
    random_weights(model, seed=0)
    with torch.no_grad():
        model.get_parameter("stages.2.4.token_mixer.dwconv2.weight")[0] *= 1.01
    save_file(model.state_dict(), tmp_path / "twin.safetensors")
    plan = make_plan(
        Request("parcnetv2_xt", formats=("onnx",), shape=(1, 3, 32, 32), weights=tmp_path / "twin.safetensors")
    )
    network = prepare(plan, lambda name: nullcontext())
    program = lower(network, "onnxruntime", "fp32").program
    spec = ExportSpec(plan.inputs, network.reference.outputs, plan.metadata)
    candidates = EXPORTERS["onnx"].load()(program, spec, tmp_path, "twin")

    copy.replace(ARTIFACT, candidates[0].files[0].read_bytes(), known=True)

    no(
        run,
        copy,
        1,
        rf"{re.escape(ARTIFACT)} is not the same network: \d\d\.\d dB on input '\w+', 1\d\d\.\d dB required",
    )


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("name", [ARTIFACT, REFERENCE])
def test_a_single_bit_is_noticed(run: Run, copy: Copy, name: str) -> None:
    copy.replace(name, flipped((copy.folder / name).read_bytes()), known=False)

    no(
        run,
        copy,
        1,
        rf"{re.escape(name)} is not the file that was exported: its SHA-256 is \w{{12}}…, the manifest says",
    )


@pytest.mark.parametrize("name", [ARTIFACT, REFERENCE])
def test_a_missing_file_is_noticed(run: Run, copy: Copy, name: str) -> None:
    (copy.folder / name).unlink()

    no(run, copy, 1, rf"{re.escape(name)} is missing from .*bundle\.")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "No graph was found"), (b"garbage", "Protobuf parsing failed")],
    ids=["empty", "garbage"],
)
def test_an_artifact_its_runtime_does_not_load(run: Run, copy: Copy, content: bytes, reason: str) -> None:
    copy.replace(ARTIFACT, content, known=True)

    no(run, copy, 1, rf"ONNX Runtime does not load {re.escape(ARTIFACT)}: .*{reason}")


def test_half_an_artifact(run: Run, copy: Copy) -> None:
    content = (copy.folder / ARTIFACT).read_bytes()
    copy.replace(ARTIFACT, content[: len(content) // 2], known=True)

    no(run, copy, 1, rf"ONNX Runtime does not load {re.escape(ARTIFACT)}")


def identity(shape: tuple[int, ...], output: str) -> bytes:
    """An ONNX file that returns its input."""
    names = (("input", shape), (output, shape))
    given, made = (onnx.helper.make_tensor_value_info(name, 1, list(sides)) for name, sides in names)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["input"], [output])], "other", [given], [made])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("shape", "output", "message"),
    [
        ((1, 3, 64, 64), "logits", r"must return 'logits' of shape \(1, 1000\); it returns"),
        ((1, 3, 32, 32), "logits", r"must return 'logits' of shape \(1, 1000\); it returns"),
        ((1, 1000), "other", r"must return 'logits' of shape \(1, 1000\); it returns"),
        ((1, 1000), "logits", r"is not this bundle's network\. This artifact is locked to input 1x1000"),
    ],
    ids=["size", "output", "name", "input"],
)
def test_another_network_is_no_artifact_of_this_bundle(
    run: Run, copy: Copy, shape: tuple[int, ...], output: str, message: str
) -> None:
    copy.replace(ARTIFACT, identity(shape, output), known=True)

    no(run, copy, 1, message)


@pytest.mark.parametrize("content", [b"", b"garbage", b"{}" * 100], ids=["empty", "garbage", "json"])
def test_a_reference_that_is_none(run: Run, copy: Copy, content: bytes) -> None:
    copy.replace(REFERENCE, content, known=True)

    no(run, copy, 2, r"reference\.safetensors is no reference of a bundle .*Export the model again")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"is no bundle: manifest\.json cannot be read \(No such file or directory\)"),
        (b"", r"manifest\.json is damaged: Input data was truncated\. Export the model again"),
        (b"no JSON", r"is damaged: JSON is malformed"),
        (b"[]", r"is damaged: Expected `object`, got `array`"),
        (b"[" * 100_000, r"is damaged"),
        (b"\xff\xfe{}", r"is damaged"),
        (b"{}", r"is damaged: Object missing required field `schema_version`"),
        (b'{"schema_version": 1}', r"is damaged: Object missing required field `edgekit_version`"),
        (b'{"schema_version": "1", "edgekit_version": "1"}', r"Expected `int`, got `str` - at `\$\.schema_version`"),
        (b'{"schema_version": 4, "edgekit_version": "1"}', r"is damaged: Object missing required field `created`"),
        (b'{"schema_version": 1, "edgekit_version": "0"}', r"has schema version 1; this edgekit reads 4\."),
        (b'{"schema_version": 99, "edgekit_version": "9"}', r"has schema version 99; this edgekit reads 4\."),
    ],
    ids=["none", "empty", "text", "array", "deep", "utf-16", "object", "other", "type", "fields", "older", "newer"],
)
def test_a_manifest_that_is_none(run: Run, copy: Copy, content: bytes | None, message: str) -> None:
    (copy.folder / MANIFEST).unlink()
    if content is not None:
        (copy.folder / MANIFEST).write_bytes(content)

    no(run, copy, 2, message)


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda one: one["artifact"].update(files=[]), 2, r"is damaged: its onnx artifact has no file\."),
        (lambda one: one.update(parity=[]), 2, r"is damaged: its onnx artifact has no parity\."),
        (lambda one: one["artifact"].update(runtime="tflite"), 1, r"TFLite does not load"),
        (
            lambda one: one["artifact"].update(runtime="nnapi"),
            1,
            r"is for runtime 'nnapi', which this edgekit does not",
        ),
        (lambda one: one["artifact"].update(runtime=7), 2, r"Expected `str`, got `int` - at `\$\.members\[0\]"),
    ],
    ids=["no-file", "no-parity", "wrong-runtime", "unknown-runtime", "type"],
)
def test_a_member_that_makes_no_sense(
    run: Run, copy: Copy, change: Callable[[dict[str, Any]], object], code: int, message: str
) -> None:
    copy.edit(lambda manifest: change(manifest["members"][0]))

    no(run, copy, code, message)


def test_a_bundle_without_artifacts_is_nothing_to_verify(run: Run, copy: Copy) -> None:
    copy.edit(lambda manifest: manifest.update(members=[]))

    no(run, copy, 1, r"bundle holds no artifact, so there is nothing to verify")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", ".", "", "sub/file", "a\x00b", "a\nb\x1b[31m", "manifest.json/"]
)
@pytest.mark.parametrize("where", ["artifact", "reference"])
def test_a_name_that_leads_out_of_the_bundle_is_refused(run: Run, copy: Copy, where: str, name: str) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        file = manifest["reference"] if where == "reference" else manifest["members"][0]["artifact"]["files"][0]
        file["name"] = name

    copy.edit(rename)

    no(run, copy, 2, rf"is damaged: {re.escape(ascii(name))} is not the name of a file in the bundle")


def test_one_bad_artifact_does_not_keep_the_others_from_being_checked(run: Run, copy: Copy) -> None:
    def add(manifest: dict[str, Any]) -> None:
        other = json.loads(json.dumps(manifest["members"][0]))
        other["artifact"]["files"][0]["name"] = "gone.onnx"
        manifest["members"].insert(0, other)

    copy.edit(add)

    result = run("verify", copy.folder)

    assert result.exit_code == 1
    assert re.search(r"gone\.onnx .*missing", result.stdout)
    assert re.search(rf"{re.escape(ARTIFACT)} .*same network", result.stdout)


def test_a_runtime_that_is_not_installed_is_no_failed_check(
    run: Run, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.edit(lambda manifest: manifest["members"][0]["artifact"].update(runtime="openvino"))
    monkeypatch.delitem(sys.modules, "edgekit.runners.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)

    no(run, copy, 3, r"Running .*onnx needs openvino, which is not installed\. Run: pip install 'edgekit\[openvino\]'$")
    table = "".join(run("verify", copy.folder).stdout.split())
    assert "pipinstall'edgekit[openvino]'" in table


def test_an_unknown_field_of_a_newer_edgekit_is_no_damage(run: Run, copy: Copy) -> None:
    copy.edit(lambda manifest: manifest.update(measured_later={}))

    assert run("verify", copy.folder).exit_code == 0


def test_brackets_in_a_path_are_no_markup(run: Run, copy: Copy, tmp_path: Path) -> None:
    place = tmp_path / "[red]it[b]"
    copy.folder.rename(place)
    (place / ARTIFACT).unlink()

    assert "is missing from [red]it[b]." in run("verify", Path("..") / place.name).stderr.replace("../", "")
