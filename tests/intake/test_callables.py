"""Networks from a user's own code, and what is said when that code fails."""

import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from edgekit.capture import capture
from edgekit.errors import MisuseError, ModelError
from edgekit.intake import resolve
from edgekit.intake.source import Source, check_inputs
from edgekit.program import run

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.conv(x)).mean((2, 3))

class Two(Net):
    def forward(self, image, mask):
        return super().forward(image * mask)

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids):
        return self.table(ids)

class Optional(Net):
    def forward(self, image, mask=None):
        return super().forward(image if mask is None else image * mask)

class Any(Net):
    def forward(self, *images):
        return super().forward(sum(images))

class Several(Net):
    def forward(self, image, code):
        scores = super().forward(image) * code
        return {"scores": scores, "more": (scores.exp(), [scores.tanh()]), "code": code * 2}

def build():
    return Net().eval()

def sized():
    return Net().eval(), torch.zeros(2, 3, 10, 12)

def pair():
    return Two().eval(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))

def optional_pair():
    return Optional().eval(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))

def any_pair():
    return Any().eval(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))

def tokens():
    return Tokens().eval(), torch.zeros(1, 7, dtype=torch.long)

def carded():
    return Net().eval()

carded.edgekit_card = {"input_shape": [1, 3, 16, 16], "mean": [0.5, 0.5, 0.5], "classes": 4, "outputs": ["scores"]}

def badly_carded():
    return Net()

badly_carded.edgekit_card = {"input_size": 3}

def failing():
    width = 3
    return nn.Conv2d(width, "four", 3)

def leaving():
    raise SystemExit(3)

def needs(width, depth=2):
    return Net()

def weights():
    return Net().state_dict()

def nothing():
    pass

instance = Net().eval()
number = 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "nets.py"
    path.write_text(NETS)
    return path


def of(name: str) -> Source:
    return resolve(f"nets.py:{name}")


def test_function_class_and_instance(nets: Path) -> None:
    for name in ("build", "Net", "instance"):
        built = of(name).build((1, 3, 8, 8))
        assert not built.model.training
        assert run(capture(built.model, (1, 3, 8, 8)), torch.zeros(1, 3, 8, 8))[0].shape == (1, 4)


def test_module_is_found_in_the_working_folder(nets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nets.parent / "local_pkg").mkdir()
    (nets.parent / "local_pkg" / "models.py").write_text(NETS)
    before = list(sys.path)
    source = resolve("local_pkg.models:build")
    assert source.build((1, 3, 8, 8)).outputs == ("output",)
    assert (source.name, source.weights, source.identity()) == ("models-build", "own", None)
    assert sys.path == before


def test_file_imports_what_lies_beside_it(nets: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("WIDTH = 4")
    nets.write_text(NETS + "\nfrom beside_it import WIDTH\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resolve(f"{nets}:build").build((1, 3, 8, 8)).outputs == ("output",)


def test_what_the_code_prints_is_not_output(nets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nets.write_text(NETS + "\nprint('loading')\n")
    of("build").build((1, 3, 8, 8))
    assert capsys.readouterr() == ("", "loading\n")


def test_untrained_weights_are_the_same_every_time(nets: Path) -> None:
    torch.manual_seed(1)
    first = of("build").build().model.state_dict()
    drawn = torch.rand(3)
    torch.manual_seed(2)
    second = of("build").build().model.state_dict()
    assert all(first[name].equal(second[name]) for name in first)
    torch.manual_seed(1)
    assert torch.rand(3).equal(drawn)


def test_input_size_is_asked_then_example_then_card_then_usual(nets: Path) -> None:
    assert of("sized").build((1, 3, 9, 9)).inputs[0].shape == (1, 3, 9, 9)
    assert of("sized").build().inputs[0].shape == (2, 3, 10, 12)
    assert of("carded").build().inputs[0].shape == (1, 3, 16, 16)
    assert of("build").build().inputs[0].shape == (1, 3, 224, 224)


def test_card_says_what_is_assumed(nets: Path) -> None:
    card = of("build").card((1, 3, 8, 8))
    assert (card.classes, card.parameters, card.macs) == (4, 4 * 27 + 4 + 8, 36 * 4 * 27)
    assert any("ImageNet's is assumed for mean, std, crop_fraction, interpolation" in note for note in card.notes)
    assert any("1x3x224x224 is assumed" in note for note in of("build").card().notes)


def test_card_of_the_callable_is_read(nets: Path) -> None:
    card = of("carded").card()
    assert (card.preprocessing.mean, card.classes) == ((0.5, 0.5, 0.5), 4)
    assert of("carded").build().outputs == ("scores",)


def test_training_mode_is_left_and_noted(nets: Path) -> None:
    built = of("Net").build((1, 3, 8, 8))
    assert built.notes == (
        "The model came in training mode and is exported in evaluation mode, which matters to norm.",
    )


IMAGE, MASK = (1, 3, 6, 6), (1, 1, 6, 6)


def test_several_inputs_by_example_or_by_name(nets: Path) -> None:
    built = of("pair").build()
    assert [(spec.name, spec.shape, spec.layout) for spec in built.inputs] == [
        ("image", (1, 3, 8, 8), "NCHW"),
        ("mask", (1, 1, 8, 8), "NCHW"),
    ]
    built = of("Two").build({"image": IMAGE, "mask": MASK})
    assert built.model(torch.ones(IMAGE), torch.ones(MASK)).shape == (1, 4)
    program = capture(built.model, IMAGE, MASK)
    assert run(program, torch.ones(IMAGE), torch.ones(MASK))[0].shape == (1, 4)
    assert check_inputs(built) == built.inputs == of("Two").inputs({"image": IMAGE, "mask": MASK})


def test_inputs_come_in_the_order_of_the_function_however_they_are_asked_for(nets: Path) -> None:
    built = of("Two").build({"mask": MASK, "image": IMAGE})
    assert [spec.name for spec in built.inputs] == ["image", "mask"]
    image, mask = torch.rand(IMAGE), torch.rand(MASK)
    with torch.no_grad():
        assert built.model(image, mask).equal(built.original(image=image, mask=mask))


def test_a_size_asked_for_replaces_that_of_one_example(nets: Path) -> None:
    shapes = [spec.shape for spec in of("pair").inputs({"mask": (1, 3, 8, 8)})]
    assert shapes == [(1, 3, 8, 8), (1, 3, 8, 8)]


@pytest.mark.parametrize(
    ("name", "names"), [("optional_pair", ["image", "mask"]), ("any_pair", ["input_0", "input_1"])]
)
def test_every_example_is_an_input(nets: Path, name: str, names: list[str]) -> None:
    """Also of a parameter that could be left out: the examples say how the network is called."""
    built = of(name).build()
    assert [spec.name for spec in built.inputs] == names
    first, second = torch.rand(1, 3, 8, 8), torch.rand(built.inputs[1].shape)
    with torch.no_grad():
        assert built.model(first, second).equal(built.original(first, second))
        assert not built.model(first, second).equal(built.model(first, 2 * second))


def test_an_input_that_can_be_left_out_is_one_when_its_size_is_asked_for(nets: Path) -> None:
    assert [spec.name for spec in of("Optional").inputs(IMAGE)] == ["input"]
    assert [spec.name for spec in of("Optional").inputs({"image": IMAGE, "mask": MASK})] == ["image", "mask"]


def test_the_card_of_several_inputs_is_about_the_first(nets: Path) -> None:
    card = of("pair").card()
    assert (card.input_shape, card.classes) == ((1, 3, 8, 8), 4)
    assert not any("is assumed. Give another with --input" in note for note in card.notes)


def test_outputs_are_named_by_where_they_were_found(nets: Path) -> None:
    built = of("Several").build({"image": IMAGE, "code": (1, 4)})
    assert built.outputs == ("scores", "more_0", "more_1_0", "code_2")  # code is the name of an input
    with torch.no_grad():
        scores, exponential, tangent, _ = built.model(torch.rand(IMAGE), torch.rand(1, 4))
    assert exponential.equal(scores.exp())
    assert tangent.equal(scores.tanh())
    assert of("Several").card({"image": IMAGE, "code": (1, 4)}).classes == 0


def test_several_inputs_without_sizes_say_how_to_give_them(nets: Path) -> None:
    message = r"takes 2 inputs\. Give the sizes of image, mask: --input image=1x3x224x224 --input mask="
    with pytest.raises(ModelError, match=message):
        of("Two").build()
    with pytest.raises(ModelError, match=r"Give the sizes of mask: --input mask=1x3x224x224"):
        of("Two").build({"image": IMAGE})


@pytest.mark.parametrize("name", ["Two", "pair"])
def test_one_size_for_several_inputs_is_no_answer(nets: Path, name: str) -> None:
    with pytest.raises(
        MisuseError, match=r"takes 2 inputs\. Give their sizes: --input image=1x3x224x224 --input mask="
    ):
        of(name).build(IMAGE)


@pytest.mark.parametrize("name", ["Two", "pair"])
def test_a_size_for_an_input_it_does_not_have_is_refused(nets: Path, name: str) -> None:
    with pytest.raises(MisuseError, match=rf"nets\.py:{name} has no input 'typo'; it has image, mask\."):
        of(name).build({"image": IMAGE, "mask": MASK, "typo": (1,)})
    with pytest.raises(MisuseError, match=r"has no input 'typo'; it has input\."):
        of("build").build({"typo": IMAGE})


def test_one_input_may_be_called_by_its_own_name(nets: Path) -> None:
    assert [spec.name for spec in of("build").inputs({"x": IMAGE})] == ["x"]
    assert [spec.name for spec in of("build").inputs({"input": IMAGE})] == ["input"]


def test_tokens_cannot_be_fed(nets: Path) -> None:
    built = of("tokens").build()
    assert built.inputs[0].dtype == "int64"
    message = r"^Input 'input' is int64; edgekit exports networks that take float32 tensors\. Give a callable that"
    with pytest.raises(ModelError, match=message):
        check_inputs(built)
    with pytest.raises(ModelError, match=message):
        of("tokens").card()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "failing",
            r"^nets.py:failing failed at nets.py:\d+, in failing \(`return nn.Conv2d\(width, \"four\", 3\)`\): Type",
        ),
        ("leaving", r"failed at nets.py:\d+, in leaving .+: it left Python with exit status 3"),
        ("needs", r"needs arguments: width. It is called without any, so write .+: return needs\(...\)"),
        ("weights", r"returned a dictionary, perhaps weights alone. Return an nn.Module"),
        ("nothing", r"returned NoneType. Return an nn.Module, or \(module, example inputs"),
        ("number", r"nets.py:number is int. Give a function or class"),
        ("biuld", r"there is no 'biuld' in it. Did you mean build"),
        ("qqqqqq", r"there is no 'qqqqqq' in it. It has: .*Net, "),
        ("badly_carded", r"edgekit_card cannot be read: .+input_size.+ Its entries are input_shape, mean"),
    ],
)
def test_trouble_is_one_message(nets: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        of(name).build()
    assert "\n" not in str(caught.value)


def test_failure_in_forward_names_the_line(nets: Path) -> None:
    message = r"nets.py:build, run on an input of 1x5x8x8, failed at nets.py:\d+, in forward \(`return self.norm"
    with pytest.raises(ModelError, match=message):
        of("build").build((1, 5, 8, 8))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import torch\nx = (", r"Loading nets.py failed at nets.py:2: SyntaxError: '\(' was never closed"),
        (
            "\nraise ValueError('no')",
            r"failed at nets.py:2, in <module> \(`raise ValueError\('no'\)`\): ValueError: no",
        ),
        ("import no_such_thing", r"nets.py imports 'no_such_thing' at nets.py:1.+ is not installed and not in: "),
    ],
    ids=["syntax", "raise", "import"],
)
def test_file_that_does_not_load(nets: Path, code: str, message: str) -> None:
    nets.write_text(code)
    with pytest.raises(ModelError, match=message):
        of("build").build()
    assert "edgekit_model_nets" not in sys.modules


def test_missing_module_says_where_it_was_looked_for(nets: Path) -> None:
    with pytest.raises(ModelError, match=rf"no module 'no_pkg'. It was looked for in: .*{re.escape(str(nets.parent))}"):
        resolve("no_pkg.models:build").build()
    (nets.parent / "outer.py").write_text(dedent("import no_such_thing\n"))
    with pytest.raises(ModelError, match=r"outer imports 'no_such_thing' at outer.py:1"):
        resolve("outer:build").build()
