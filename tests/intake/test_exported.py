"""Saved torch.export programs: read without running anything in them, at their size or another."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from edgekit.capture import capture
from edgekit.errors import MisuseError, ModelError
from edgekit.intake import resolve
from edgekit.intake.exported import ExportedSource
from edgekit.program import run

SHAPE = (1, 3, 8, 8)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def saved(path: Path, model: nn.Module, *inputs: Tensor, **options: Any) -> Path:
    torch.export.save(torch.export.export(model, inputs, **options), path)
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return saved(tmp_path / "plain.pt2", net().eval(), torch.zeros(SHAPE))


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    sides = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}
    return saved(tmp_path / "dynamic.pt2", net().eval(), torch.zeros(2, 3, 8, 9), dynamic_shapes=(sides,))


def test_program_is_captured_with_its_weights(plain: Path) -> None:
    built = resolve(str(plain)).build()
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    program = capture(built.model, built.inputs[0].shape)
    torch.testing.assert_close(run(program, image)[0], net().eval()(image))
    torch.testing.assert_close(built.model.double()(image.double()).float(), net().eval()(image))


def test_card_says_what_is_known(plain: Path) -> None:
    card = resolve(str(plain)).card()
    assert (card.name, card.input_shape, card.classes) == ("plain", SHAPE, 4)
    assert card.parameters == 4 * 27 + 4 + 8
    assert card.macs == 4 * 36 * 27


def test_dynamic_sides_take_what_is_asked(dynamic: Path) -> None:
    source = resolve(str(dynamic))
    assert source.build().inputs[0].shape == (1, 3, 224, 224)
    built = source.build((1, 3, 12, 10))
    image = torch.randn(1, 3, 12, 10)
    torch.testing.assert_close(run(capture(built.model, (1, 3, 12, 10)), image)[0], net().eval()(image))


def test_fixed_side_is_refused_at_another(plain: Path, dynamic: Path) -> None:
    with pytest.raises(MisuseError, match=r"was exported for input 1x3x8x8 and cannot take 1x3x9x9. Leave --input out"):
        resolve(str(plain)).build((1, 3, 9, 9))
    with pytest.raises(MisuseError, match=r"was exported for input \?x3x\?x\? and cannot take 1x4x9x9"):
        resolve(str(dynamic)).build((1, 4, 9, 9))


class Two(nn.Module):
    """An image and a code in, a nested result out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(8, 4)

    def forward(self, image: Tensor, code: Tensor) -> dict[str, object]:
        scores = self.linear(code)
        return {"map": self.conv(image), "parts": (scores, [scores.tanh()])}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    sides: dict[int, Any] = {2: Dim.AUTO, 3: Dim.AUTO}
    inputs = (torch.zeros(1, 3, 8, 9), torch.zeros(1, 8))
    return saved(tmp_path / "two.pt2", Two().eval(), *inputs, dynamic_shapes=(sides, None))


def test_several_inputs_and_outputs_have_the_names_they_were_exported_with(two: Path) -> None:
    built = resolve(str(two)).build({"image": (1, 3, 6, 7)})
    assert [(spec.name, spec.shape) for spec in built.inputs] == [("image", (1, 3, 6, 7)), ("code", (1, 8))]
    assert built.outputs == ("map", "parts_0", "parts_1_0")
    program = capture(built.model, *(spec.shape for spec in built.inputs))
    image, code = torch.rand(1, 3, 6, 7), torch.rand(1, 8)
    model = Two().eval()
    for found, expected in zip(
        run(program, image, code), (model.conv(image), y := model.linear(code), y.tanh()), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_sizes_of_several_inputs_are_given_by_name(two: Path) -> None:
    with pytest.raises(
        MisuseError, match=r"two\.pt2 takes 2 inputs\. Give their sizes: --input image=1x3x224x224 --inp"
    ):
        resolve(str(two)).build((1, 3, 8, 8))
    with pytest.raises(MisuseError, match=r"two\.pt2 has no input 'typo'; it has image, code\."):
        resolve(str(two)).build({"typo": (1, 3, 8, 8)})
    with pytest.raises(MisuseError, match=r"was exported for input 1x8 and cannot take 1x9\."):
        resolve(str(two)).build({"code": (1, 9)})


def test_training_mode_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "train.pt2", net().train(), torch.zeros(2, 3, 8, 8))
    with pytest.raises(
        ModelError, match=r"was exported in training mode: batch_norm.default is active. Call model.eval"
    ):
        resolve(str(path)).build()


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"], ids=["empty", "text", "cut"])
def test_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pt2"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"is no torch.export program, or is damaged"):
        resolve(str(path)).build()


def test_checkpoint_under_this_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt2"
    torch.save(net().state_dict(), path)
    with pytest.raises(ModelError, match=r"was not read, because torch.export.load could run code"):
        resolve(str(path)).build()


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


Edit = Callable[[dict[str, Any], Path], object]


def rewritten(source: Path, into: Path, ending: str, edit: Callable[[bytes], bytes]) -> Path:
    """A copy of an archive with one entry changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(into, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry.filename, edit(content) if entry.filename.endswith(ending) else content)
    return into


def pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def edit_json(change: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def edit(content: bytes) -> bytes:
        parsed = json.loads(content)
        change(parsed)
        return json.dumps(parsed).encode()

    return edit


def call_other(program: Any) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.hub.load"


def pickle_weight(config: Any) -> None:
    next(iter(config["config"].values()))["use_pickle"] = True


def evil_size(program: Any) -> None:
    values = program["graph_module"]["graph"]["tensor_values"]
    values["input"]["sizes"][0] = {"as_expr": {"expr_str": "__import__('os').getpid()", "hint": {"as_int": 1}}}


def evil_tree(program: Any) -> None:
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    spec = json.loads(signature["out_spec"])
    spec[1] = {"type": "os.path", "context": None, "children_spec": []}
    signature["out_spec"] = json.dumps(spec)


@pytest.mark.parametrize(
    ("ending", "edit", "reason"),
    [
        ("models/model.json", edit_json(call_other), "it calls 'torch.hub.load', which is no ATen operator"),
        ("weights_config.json", edit_json(pickle_weight), "'0.weight' is stored as a pickle"),
        ("models/model.json", edit_json(evil_size), "it has a size that is no plain expression"),
        ("models/model.json", edit_json(evil_tree), "its outputs are put together by a class"),
    ],
    ids=["operator", "pickled weight", "size", "tree"],
)
def test_what_could_run_code_is_not_read(
    plain: Path, tmp_path: Path, ending: str, edit: Callable[[bytes], bytes], reason: str
) -> None:
    path = rewritten(plain, tmp_path / "evil.pt2", ending, edit)
    with pytest.raises(ModelError, match=rf"was not read, because .+ could run code in it: {reason}.+ --trust"):
        ExportedSource(path).build()


def test_pickle_of_sample_inputs_is_not_run_unless_trusted(plain: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = rewritten(plain, tmp_path / "evil.pt2", "sample_inputs/model.pt", lambda _: pickled(Bomb(mark)))
    with pytest.raises(ModelError, match=r"model.pt is a pickle of more than tensors"):
        ExportedSource(path).build()
    assert not mark.exists()
    with pytest.raises(ModelError):
        ExportedSource(path, trust=True).build()
    assert mark.exists(), "the file is no bomb, so the test above proves nothing"


def test_two_entries_of_one_name_are_refused(plain: Path) -> None:
    with zipfile.ZipFile(plain, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"other")
    with pytest.raises(ModelError, match="two entries of one name"):
        ExportedSource(plain).build()


def test_identity_is_the_hash_of_the_file(plain: Path, dynamic: Path) -> None:
    assert resolve(str(plain)).identity() != resolve(str(dynamic)).identity()
    assert set(resolve(str(plain)).identity() or {}) == {"pt2"}
