"""`edgekit export`: what it leaves behind, and that it leaves nothing behind when it does not come to its end."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from edgekit.bundle import read_manifest
from edgekit.data.preprocess import golden
from tests.cli.conftest import Run, Spawn, digest, finish, names
from tests.conftest import Exported

FILES = ["kernels.safetensors", "manifest.json", "parcnetv2_xt.fp32.onnx", "reference.safetensors"]


def test_a_bundle_has_what_its_manifest_says(exported: Exported) -> None:
    manifest = read_manifest(exported.folder)

    assert names(exported.folder) == FILES
    assert names(exported.folder.parent) == ["bundle", "cache"]
    for file in (manifest.reference, *manifest.members[0].artifact.files):
        assert (file.size, file.sha256) == (
            (exported.folder / file.name).stat().st_size,
            digest(exported.folder / file.name),
        )
    assert manifest.command == ("edgekit", "export", *exported.arguments, "-o", str(exported.folder))
    assert manifest.target == "arm"
    assert [(spec.name, spec.shape) for spec in manifest.inputs] == [("input", (1, 3, 32, 32))]
    assert manifest.kernel_policy == "interpolate"
    assert manifest.weights.kind == "random"
    assert manifest.golden == golden(manifest.model.preprocessing, (32, 32))
    assert manifest.captured.parameters == 7_427_720
    assert manifest.passes == exported.network.certificates
    assert [stage.name for stage in manifest.stages][-3:] == ["lower for onnxruntime", "export onnx", "verify onnx"]
    assert not any(stage.cached for stage in manifest.stages)
    assert {"torch", "numpy", "onnx", "onnxruntime"} <= manifest.tools.keys()


def test_the_result_says_that_the_weights_are_random_and_how_to_check_it(exported: Exported) -> None:
    assert "same network" in exported.output
    assert "RANDOM weights (seed 0)" in exported.output
    assert f"Bundle:  {exported.folder}\n" in exported.output
    assert f"edgekit verify {exported.folder}\n" in exported.output


def test_a_bundle_can_be_read_by_whoever_the_mask_allows(warm: tuple[str, ...], run: Run) -> None:
    mask = os.umask(0o027)
    try:
        assert run(*warm, "-o", "out").exit_code == 0
    finally:
        os.umask(mask)

    assert Path("out").stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in Path("out").iterdir()} == {0o640}


def test_a_second_run_takes_everything_from_the_cache_and_loads_no_framework(
    warm: tuple[str, ...], exported: Exported, spawn: Spawn
) -> None:
    code = (
        "import atexit, sys\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'onnxscript', 'openvino', 'litert_torch'}\n"
        "atexit.register(lambda: print(sorted(heavy & sys.modules.keys()), file=sys.stderr))"
    )

    returned, _, errors = finish(spawn(*warm, "-o", "out", code=code))

    assert returned == 0, errors
    first, second, loaded = errors.splitlines()
    assert first.split() == ["network", "from", "cache"]
    assert second.split() == ["onnx", "from", "cache"]
    assert loaded == "[]"
    assert names(Path("out")) == FILES
    for name in (FILES[0], *FILES[2:]):
        assert digest(Path("out") / name) == digest(exported.folder / name)
    assert [(stage.name, stage.cached) for stage in read_manifest(Path("out")).stages] == [
        ("network", True),
        ("onnx", True),
    ]


def test_json_is_all_there_is_on_standard_output(warm: tuple[str, ...], spawn: Spawn) -> None:
    returned, output, errors = finish(spawn(*warm, "-o", "out", "--json"))

    assert (returned, errors) == (0, "")
    content = json.loads(output)
    assert content.keys() == {"schema_version", "bundle", "manifest"}
    assert content["bundle"] == "out"
    assert content["manifest"] == json.loads(Path("out/manifest.json").read_text())


@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
def test_a_dry_run_makes_nothing(run: Run, tmp_path: Path, as_json: bool) -> None:
    result = run("export", "parcnetv2_t", "--target", "rk3288", "--dry-run", *(["--json"] if as_json else []))

    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["work"]
    assert names(Path.cwd()) == []
    if as_json:
        content = json.loads(result.stdout)
        assert content.pop("schema_version") == 2
        assert content == {
            "bundle": "edgekit-out/parcnetv2_t-224-rk3288",
            "input": "1x3x224x224",
            "stages": [
                {"stage": "network", "makes": "captured, materialised", "cached": False},
                {"stage": "onnx", "makes": "parcnetv2_t.fp32.onnx", "cached": False},
                {"stage": "tflite", "makes": "parcnetv2_t.fp32.tflite", "cached": False},
                {
                    "stage": "ncnn",
                    "makes": "parcnetv2_t.fp32.ncnn.param parcnetv2_t.fp32.ncnn.bin",
                    "cached": False,
                },
            ],
        }
    else:
        assert "Plan: parcnetv2_t at 1x3x224x224 into edgekit-out/parcnetv2_t-224-rk3288\n" in result.stdout
        assert result.stdout.count("to do") == 4


def test_a_dry_run_knows_what_is_in_the_cache(warm: tuple[str, ...], run: Run) -> None:
    stages = json.loads(run(*warm, "--dry-run", "--json").stdout)["stages"]

    assert [stage["cached"] for stage in stages] == [True, True]
    assert [
        stage["cached"] for stage in json.loads(run(*warm, "--no-cache", "--dry-run", "--json").stdout)["stages"]
    ] == [
        False,
        False,
    ]


@pytest.mark.slow
def test_a_backbone_is_exported_with_all_its_maps(run: Run) -> None:
    result = run("export", "parnet_cifar_w32", "--features", "--format", "onnx")

    assert result.exit_code == 0, result.output
    (bundle,) = Path("edgekit-out").iterdir()
    manifest = read_manifest(bundle)
    assert (bundle.name, manifest.model.name) == ("parnet_cifar_w32_features-32-arm", "parnet_cifar_w32_features")
    assert [(spec.name, spec.shape) for spec in manifest.outputs] == [
        ("stride1", (1, 32, 32, 32)),
        ("stride2", (1, 64, 16, 16)),
        ("stride4", (1, 128, 8, 8)),
    ]
    assert names(bundle)[1] == "parnet_cifar_w32_features.fp32.onnx"
    assert run("verify", bundle).exit_code == 0
    inspected = json.loads(run("inspect", "parnet_cifar_w32", "--features", "--json").stdout)["inspection"]
    assert inspected["totals"] == json.loads(json.dumps(inspected["passes"][-1]["after"]))
    again = run("export", "parnet_cifar_w32", "--format", "onnx", "--dry-run", "--json")
    assert not any(stage["cached"] for stage in json.loads(again.stdout)["stages"])  # the classifier is another network


# -- the place ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with space", "größe-日本", "it's", "[red]x[b]", ":smile:", "-", "a*[b]?"])
def test_any_name_will_do(warm: tuple[str, ...], run: Run, name: str) -> None:
    result = run(*warm, f"--out={name}")

    assert result.exit_code == 0, result.output
    assert names(Path(name)) == FILES
    assert f"Bundle:  {name}\n" in result.stdout
    command = result.stdout.partition("Check it anywhere: ")[2]
    assert shlex.split(command) == ["edgekit", "verify", name]
    assert names(Path.cwd()) == [name]


def test_missing_folders_are_made(warm: tuple[str, ...], run: Run) -> None:
    assert run(*warm, "-o", "a/b/c").exit_code == 0
    assert names(Path("a/b")) == ["c"]


@pytest.mark.parametrize("before", ["bundle", "empty", "damaged-bundle"])
def test_a_bundle_takes_the_place_of_a_bundle_as_a_whole(
    warm: tuple[str, ...], run: Run, bundle: Path, before: str
) -> None:
    out = Path("out")
    if before == "empty":
        out.mkdir()
    else:
        shutil.move(bundle, out)
        (out / "left-over.txt").write_text("of the old one")
    if before == "damaged-bundle":
        (out / FILES[2]).unlink()

    result = run(*warm, "-o", out)

    assert result.exit_code == 0, result.output
    assert names(out) == FILES
    assert names(Path.cwd()) == ["out"]


def test_a_link_stays_a_link(warm: tuple[str, ...], run: Run) -> None:
    Path("disk").mkdir()
    Path("out").symlink_to("disk")

    assert run(*warm, "-o", "out").exit_code == 0

    assert Path("out").is_symlink()
    assert names(Path("disk")) == FILES
    assert names(Path.cwd()) == ["disk", "out"]


OTHERS = {
    "folder": {"thesis.tex": "years of work"},
    "extension": {"manifest.json": '{"manifest_version": 3, "name": "a browser extension"}', "main.js": ""},
    "half-manifest": {"manifest.json": '{"schema_version": 1, "edgek', "notes.txt": ""},
}


@pytest.mark.parametrize("option", [(), ("--dry-run",)], ids=["export", "dry-run"])
@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_bundle_is_never_replaced(
    warm: tuple[str, ...], run: Run, what: str, option: tuple[str, ...]
) -> None:
    out = Path("out")
    out.mkdir()
    for name, content in OTHERS[what].items():
        (out / name).write_text(content)

    result = run(*warm, "-o", out, *option)

    assert result.exit_code == 3
    assert result.stderr == "Error: out exists and is no bundle. Choose another place with -o, or remove it.\n"
    assert {path.name: path.read_text() for path in out.iterdir()} == OTHERS[what]
    assert names(Path.cwd()) == ["out"]


@pytest.mark.parametrize("option", [(), ("--dry-run",)], ids=["export", "dry-run"])
def test_a_file_in_the_way_stays(warm: tuple[str, ...], run: Run, option: tuple[str, ...]) -> None:
    Path("out").write_text("mine")

    result = run(*warm, "-o", "out", *option)

    assert (result.exit_code, result.stderr[:34]) == (3, "Error: out exists and is no bundle")
    assert Path("out").read_text() == "mine"


def test_a_folder_below_a_file_cannot_be_made(warm: tuple[str, ...], run: Run) -> None:
    Path("file").write_text("mine")

    result = run(*warm, "-o", "file/out")

    assert result.exit_code == 3
    assert result.stderr == "Error: file/out cannot be written: File exists. Write elsewhere with -o.\n"
    assert names(Path.cwd()) == ["file"]


@pytest.mark.parametrize("name", [".", "../here", ""])
def test_the_working_folder_cannot_be_replaced(
    warm: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = Path("here").absolute()
    place.mkdir()
    monkeypatch.chdir(place)

    result = run(*warm, "-o", name)

    assert result.exit_code == 3
    assert "is the working folder, which cannot be replaced. Name a folder inside it with -o." in result.stderr
    assert names(place) == []


def test_a_mount_point_cannot_be_replaced(warm: tuple[str, ...], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda self: self == Path("out").resolve())

    result = run(*warm, "-o", "out")

    assert (result.exit_code, result.stderr[:30]) == (3, "Error: out is a mount point, w")
    assert names(Path.cwd()) == ["out"]


def test_a_name_that_is_too_long(warm: tuple[str, ...], run: Run) -> None:
    result = run(*warm, "-o", "a" * 300)

    assert result.exit_code == 3
    assert "cannot be written: File name too long. Write elsewhere with -o." in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["keep"])
def test_two_runs_anywhere_leave_the_same_bytes(spawn: Spawn, tmp_path: Path, kernel: str) -> None:
    arguments = ("export", "parcnetv2_xt", "--input", "64", "--target", "arm", "--no-cache", "--kernel", kernel)
    found = []
    for seed, place in (("1", "first"), ("2", "somewhere/else entirely")):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        process = spawn(*arguments, "-o", "bundle", cwd=folder, env={"PYTHONHASHSEED": seed, "TMPDIR": str(folder)})
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        files = {path.name: digest(path) for path in (folder / "bundle").iterdir() if path.name != "manifest.json"}
        manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
        found.append((files, {key: value for key, value in manifest.items() if key not in ("created", "stages")}))

    assert found[0] == found[1]
    assert sorted(found[0][0]) == [
        "kernels.safetensors",
        *(
            "parcnetv2_xt.fp32.bin",
            "parcnetv2_xt.fp32.mnn",
            "parcnetv2_xt.fp32.ncnn.bin",
            "parcnetv2_xt.fp32.ncnn.param",
        ),
        *("parcnetv2_xt.fp32.onnx", "parcnetv2_xt.fp32.tflite", "parcnetv2_xt.fp32.xml"),
        "reference.safetensors",
    ]


# -- forms of large kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lowering", "message"),
    [
        (("fast",), "Choose depthwise, toeplitz, pieces, rows, polyphase, dense, matmul or auto"),
        (("stages.*=",), "There is no lowering ''"),
    ],
)
@pytest.mark.parametrize("option", [(), ("--dry-run",)], ids=["export", "dry-run"])
def test_a_form_there_is_not_is_refused_first(
    run: Run, mixer: str, lowering: tuple[str, ...], message: str, option: tuple[str, ...]
) -> None:
    asked = [part for form in lowering for part in ("--lowering", form)]
    result = run("export", mixer, "--format", "onnx", *asked, *option)
    assert (result.exit_code, names(Path.cwd())) == (2, [])
    assert message in result.stderr


def test_a_pattern_that_meets_no_kernel_is_a_slip(run: Run, mixer: str) -> None:
    result = run("export", mixer, "--format", "onnx", "--lowering", "stage.*=dense", "-o", "out")
    assert (result.exit_code, names(Path.cwd())) == (2, [])
    assert "--lowering stage.*=dense meets no large depthwise kernel." in result.stderr


@pytest.mark.parametrize("size", ["large", "40", "0MB", "-1MB", "4TB"])
def test_what_is_no_size_is_refused(run: Run, mixer: str, size: str) -> None:
    result = run("export", mixer, "--max-size", size)
    assert result.exit_code == (1 if size == "40" else 2)
    assert ("above --max-size" if size == "40" else "is no size. Write 40MB, 800KB or 40MiB") in result.stderr
    assert names(Path.cwd()) == []


def exported_forms(run: Run, mixer: str, *options: str) -> tuple[int, str, str]:
    """Bytes of the artifact, the form of its one group, and what decided."""
    result = run("export", mixer, "--format", "onnx", "-o", "out", *options)
    assert result.exit_code == 0, result.output
    (member,) = read_manifest(Path("out")).members
    (choice,) = member.kernels
    assert run("verify", "out").exit_code == 0
    return sum(file.size for file in member.artifact.files), choice.form, choice.source


@pytest.mark.slow
def test_forms_that_are_asked_for_are_in_the_artifact_and_in_the_manifest(run: Run, mixer: str) -> None:
    sizes = {}
    for form in ("depthwise", "toeplitz", "dense", "matmul"):
        sizes[form], *told = exported_forms(run, mixer, "--lowering", form)
        assert told == [form, f"asked for: {form}"]
    assert sizes["depthwise"] < sizes["toeplitz"] < sizes["dense"] < sizes["matmul"]
    _, form, source = exported_forms(run, mixer, "--lowering", "pieces")
    assert (form, source.partition(";")[0]) == ("depthwise", "not to be had as pieces")


@pytest.mark.slow
def test_a_size_is_kept_by_taking_smaller_forms(run: Run, mixer: str) -> None:
    free, form, _ = exported_forms(run, mixer, "--lowering", "matmul")
    assert form == "matmul"
    assert exported_forms(run, mixer, "--lowering", "matmul", "--max-size", "3MB")[:2] == (free, "matmul")

    size, form, source = exported_forms(run, mixer, "--lowering", "matmul", "--max-size", "25KB")

    assert size <= 25_000 < free
    assert form != "matmul"
    assert source == "--max-size; else matmul"


def test_a_size_that_nothing_keeps_is_a_failed_check_and_leaves_nothing(run: Run, mixer: str) -> None:
    for kind in ("onnx", "pt2"):
        result = run("export", mixer, "--format", kind, "--max-size", "1KB", "-o", "out")
        assert (result.exit_code, names(Path.cwd())) == (1, []), result.output
        assert "above --max-size" in result.stderr
        assert "Nothing was published" in result.stderr
