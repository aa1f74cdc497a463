"""`edgekit tune`: what it prints and keeps, and what it refuses before it measures anything."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgekit.kernel_group import KernelGroup
from edgekit.tune.precision import TunedPrecision, WrongLayer
from edgekit.tune.run import RefusedForm, Tuned
from edgekit.tune.whole import AS_TRAINED, BEFORE, TUNED
from edgekit.tune.whole_precision import AS_FLOAT, MEASURED, WholePrecision
from edgekit.tuning.tables import Table, own_tables, read
from tests.cli.conftest import Run, names
from tests.kernels import GROUPS, MIXED
from tests.tables import entry, layer_entry, only, table
from tests.tune.test_whole import variant

PAIR, ROW = GROUPS["pair"], GROUPS["row"]
TABLE = table(entry(PAIR, {"depthwise": 3.0, "toeplitz": 1.5, "dense": 2.0}), only(ROW, "toeplitz"))


def tuned(of: Table = TABLE, unmeasured: tuple[KernelGroup, ...] = ()) -> Tuned:
    return Tuned(
        runtime=of.runtime,
        table=of,
        places={str(PAIR): 6, str(ROW): 1},
        refused=(RefusedForm(group=str(PAIR), form="matmul", reason="wrong: 12.3 dB"),),
        unmeasured=tuple(map(str, unmeasured)),
        variants=(variant(AS_TRAINED, 12.0), variant(BEFORE, 10.0), variant(TUNED, 8.125)),
    )


Comes = Callable[[Tuned], None]


@pytest.fixture
def comes(monkeypatch: pytest.MonkeyPatch) -> Comes:
    """What tuning comes to: measuring is not what these tests are about."""

    def to(*results: Tuned) -> None:
        monkeypatch.setattr("edgekit.tune.run.tune", lambda *_, **__: results)

    return to


def test_every_form_is_shown_with_what_it_adds_and_why_it_was_chosen(run: Run, comes: Comes, mixer: str) -> None:
    comes(tuned(unmeasured=(GROUPS["plane"],)))

    result = run("tune", mixer, "--format", "onnx")

    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "onnxruntime: onnxruntime 1.31.1 on Zen 3, 1 thread, 2026-11-21" in lines
    assert f"{PAIR} 6 toeplitz 0.500 ms chosen: fastest" in lines
    assert lines.index("dense 1.000 ms") < lines.index("depthwise 2.000 ms")
    assert "matmul never chosen: wrong: 12.3 dB" in lines
    assert f"{ROW} 1 toeplitz 0.500 ms chosen: fastest" in lines
    assert any(line.startswith("tuned 8.125 ms 0.000 ms 0.000 ms 0.0 MiB") for line in lines)
    assert any(line.startswith(f"Not measured: {GROUPS['plane']}. Allow more with --budget") for line in lines)


def test_instructions_are_called_so(run: Run, comes: Comes, mixer: str) -> None:
    counted = table(entry(PAIR, {"depthwise": 3e6, "toeplitz": 1.5e6}, empty=1e6), unit="instructions", emulated=True)
    comes(tuned(counted))
    printed = " ".join(run("tune", mixer, "--format", "onnx").stdout.split())
    assert "toeplitz 0.50 M instructions chosen: fastest" in printed
    assert "(emulated, instructions)" in printed


def test_tables_are_kept_where_exports_find_them(run: Run, comes: Comes, mixer: str, tuning_folder: Path) -> None:
    comes(tuned())
    result = run("tune", mixer, "--format", "onnx")
    assert f"Kept in {tuning_folder / TABLE.file_name}\n" in result.stdout
    assert own_tables() == (TABLE,)

    comes(tuned(table(only(PAIR, "dense"))))
    run("tune", mixer, "--format", "onnx")
    (kept,) = own_tables()
    assert {each.group: each.chosen for each in kept.entries} == {PAIR: "dense", ROW: "toeplitz"}


def test_a_table_is_saved_where_it_is_asked_for(run: Run, comes: Comes, mixer: str, tuning_folder: Path) -> None:
    comes(tuned())
    result = run("tune", mixer, "--format", "onnx", "--save", "rules/mine.json")

    assert result.exit_code == 0, result.output
    assert "Kept in rules/mine.json\n" in result.stdout
    assert read(Path("rules/mine.json").read_bytes(), "") == TABLE
    assert not tuning_folder.exists()

    comes(tuned(table(only(PAIR, "dense"), cpu="Zen 4")))
    refused = run("tune", mixer, "--format", "onnx", "--save", "rules/mine.json")
    assert refused.exit_code == 2
    assert "rules/mine.json is the table of onnxruntime 1.31.1 on Zen 3" in refused.stderr
    assert read(Path("rules/mine.json").read_bytes(), "") == TABLE


def test_json_is_all_there_is_on_standard_output(run: Run, comes: Comes, mixer: str, tuning_folder: Path) -> None:
    comes(tuned())
    result = run("tune", mixer, "--format", "onnx", "--json")

    content = json.loads(result.stdout)
    assert content.keys() == {"schema_version", "tuned", "kept"}
    assert content["kept"] == [str(tuning_folder / TABLE.file_name)]
    (found,) = content["tuned"]
    assert found.keys() == {"runtime", "table", "places", "refused", "unmeasured", "variants"}
    assert found["table"]["entries"][0]["chosen"] == "toeplitz"
    assert found["refused"] == [{"group": str(PAIR), "form": "matmul", "reason": "wrong: 12.3 dB"}]
    assert [each["name"] for each in found["variants"]] == [AS_TRAINED, BEFORE, TUNED]


def test_a_network_without_large_kernels_keeps_nothing(run: Run, tuning_folder: Path) -> None:
    Path("small.py").write_text(
        "import torch\ndef build():\n    return torch.nn.Conv2d(3, 3, 3, groups=3).eval(), torch.zeros(1, 3, 8, 8)\n"
    )
    result = run("tune", "small.py:build", "--format", "onnx", "--json")
    assert (result.exit_code, json.loads(result.stdout)["tuned"]) == (0, [])
    assert not tuning_folder.exists()


# -- precision --------------------------------------------------------------------------------------------------------

CONV, HEAD = "convolution 8>8 at 4x4: 1x1", "linear 8>5"
LAYERS = replace(table(), layers=(layer_entry(CONV, 3.0, 1.0), layer_entry(HEAD, 2.0, 2.5)))


def whole(name: str, cost: float) -> WholePrecision:
    return WholePrecision(name=name, cost=cost, saved=10 - cost, predicted=1.5, layers=1, bytes=1 << 20, snr_db=41.5)


PRECISE = TunedPrecision(
    runtime="onnxruntime",
    recipe="mixed_wi8_ai8",
    table=LAYERS,
    places={CONV: 4, HEAD: 1},
    wrong=(WrongLayer(layer="linear 9>9", reason="By itself linear 9>9 is written otherwise."),),
    unmeasured=("linear 7>7",),
    variants=(whole(AS_FLOAT, 10.0), whole(MEASURED, 8.0)),
)


@pytest.fixture
def measured_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.tune.precision.tune_precision", lambda *_, **__: (PRECISE,))


@pytest.mark.usefixtures("measured_so")
def test_every_layer_is_shown_with_what_int8_saves(run: Run, mixer: str, tuning_folder: Path) -> None:
    result = run("tune", mixer, "--format", "onnx", "--int8")

    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "onnxruntime, mixed_wi8_ai8: onnxruntime 1.31.1 on Zen 3, 1 thread, 2026-11-21" in lines
    assert f"{CONV} 4 2.000 ms int8: faster" in lines
    assert f"{HEAD} 1 -0.500 ms fp32: slower" in lines
    assert "int8 as measured 1 8.000 ms 2.000 ms 1.500 ms 1.0 MiB 41.5 dB" in lines
    assert any(line.startswith("Not measured: linear 9>9. By itself linear 9>9 is") for line in lines)
    assert any(line.startswith("Not measured: linear 7>7. Allow more with --budget") for line in lines)
    assert own_tables() == (LAYERS,)
    assert (tuning_folder / LAYERS.file_name).is_file()


@pytest.mark.usefixtures("measured_so")
def test_precision_as_json(run: Run, mixer: str) -> None:
    (found,) = json.loads(run("tune", mixer, "--format", "onnx", "--int8", "--json").stdout)["tuned"]
    assert found["table"]["layers"][0]["precision"] == "int8"
    assert found["places"] == {CONV: 4, HEAD: 1}


# -- what is tuned ----------------------------------------------------------------------------------------------------


def test_a_bundle_stands_for_the_model_and_options_it_was_made_with(
    run: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(plan: object, *_: object, **__: object) -> tuple[Tuned, ...]:
        seen.append(plan)
        return ()

    monkeypatch.setattr("edgekit.tune.run.tune", look)
    assert run("tune", bundle, "--format", "onnx", "--json").exit_code == 0
    (plan,) = seen
    assert (plan.card.name, plan.request.target) == ("parcnetv2_xt", "host")  # type: ignore[attr-defined]
    assert plan.inputs[0].shape == (1, 3, 32, 32)  # type: ignore[attr-defined]


def test_options_of_a_model_do_not_apply_to_a_bundle(run: Run, bundle: Path) -> None:
    result = run("tune", bundle, "--input", "64")
    assert result.exit_code == 2
    assert f"{bundle} is a bundle, which --input does not apply to" in result.stderr


REFUSED = [
    (("--budget", "0s"), 2, "'0s' is no time. Write 90s, 5m or 1h"),
    (("--budget", "fast"), 2, "'fast' is no time"),
    (("--budget", "1.5h"), 2, "'1.5h' is no time"),
    (("--threads", "0"), 2, "0 is not in the range"),
    (("--device", "moon://base"), 2, "moon"),
    (("--format", "onx"), 2, "no format named 'onx'"),
    (("--format", "onnx", "--recipe", "int4"), 2, "There is no recipe 'int4'"),
    (("--format", "onnx", "--recipe", "wi8_weightonly"), 2, "computes in float, so there is nothing to measure"),
    (("--format", "onnx", "--recipe", "fp16"), 2, "computes in float, so there is nothing to measure"),
    (("--format", "mnn", "--int8"), 2, "mnn has no recipe 'int8' that computes in integers. Choose from other"),
    (("--format", "tflite", "--recipe", "mixed_wi8_ai8"), 2, "tflite has no recipe 'mixed_wi8_ai8'"),
    (("--format", "pt2"), 2, "pt2 keeps the kernels as trained. Choose from onnx"),
    (("--format", "onnx", "--format", "tflite", "--save", "x.json"), 2, "--save takes the table of one runtime"),
]


@pytest.mark.parametrize(("options", "code", "message"), REFUSED, ids=[" ".join(each[0]) for each in REFUSED])
def test_what_cannot_be_measured_is_refused_first(
    run: Run, mixer: str, options: tuple[str, ...], code: int, message: str
) -> None:
    result = run("tune", mixer, *options)
    assert result.exit_code == code, result.output
    assert message in result.stderr
    assert names(Path.cwd()) == []


def test_a_runtime_that_is_not_there_is_named(run: Run, mixer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.tune.measure.known", lambda _: frozenset({"onnxruntime", "torch"}))
    result = run("tune", mixer, "--format", "tflite")
    assert result.exit_code == 3
    assert "local has no runtime for tflite. It runs: onnx, pt2." in result.stderr

    monkeypatch.setattr("edgekit.tune.measure.known", lambda _: frozenset({"torch"}))
    assert "local has no runtime. It runs: pt2." in run("tune", mixer).stderr


def test_a_damaged_table_of_ones_own_is_named(run: Run, mixer: str, tuning_folder: Path) -> None:
    tuning_folder.mkdir()
    (tuning_folder / "x.json").write_text("{")
    result = run("tune", mixer, "--format", "onnx")
    assert (result.exit_code, "x.json is no tuning table" in result.stderr) == (2, True)


@pytest.mark.slow
def test_from_a_file_to_the_forms_of_an_export(
    run: Run, mixer: str, monkeypatch: pytest.MonkeyPatch, tuning_folder: Path
) -> None:
    monkeypatch.setattr("edgekit.tune.measure.crowding", lambda *_: None)
    result = run("tune", mixer, "--format", "onnx", "--budget", "2s", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["tuned"]
    (entry_here,) = found["table"]["entries"]
    assert found["places"] == {str(MIXED): 1}
    assert len(list(tuning_folder.iterdir())) == 1

    exported = run("export", mixer, "--target", "host", "--format", "onnx", "-o", "out", "--json")
    (choice,) = json.loads(exported.stdout)["manifest"]["members"][0]["kernels"]
    assert choice["form"] == entry_here["chosen"]
    assert choice["source"].startswith("measured here: onnxruntime ")
