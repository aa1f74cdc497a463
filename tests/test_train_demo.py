"""The training of the demo models, on a few images: that it is the same again, and what it writes loads."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from edgekit.data.pattern_classes import CLASSES
from edgekit.models.build import build
from edgekit.models.cards import CARDS
from edgekit.models.shipped import SHIPPED
from edgekit.models.weights import load_weights

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_demo.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("train_demo", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # its dataclass looks itself up there
    found.loader.exec_module(module)
    return module


def test_every_demo_model_has_a_schedule(script: ModuleType) -> None:
    assert set(script.SCHEDULES) == set(SHIPPED)


@pytest.mark.parametrize("name", ["parnet_pico_digits", "parcnetv2_pico_digits"])
def test_a_training_is_the_same_again_and_what_it_writes_loads(script: ModuleType, name: str, tmp_path: Path) -> None:
    of, schedule = CARDS[name], script.Schedule(script.warped, epochs=1, learning_rate=2e-3, batch=16)
    images, labels = script.load(script.open_set("digits", "train", 64), of)
    models, before = [], dict[str, torch.Tensor]()
    for _ in range(2):
        torch.manual_seed(script.SEED)
        models.append(script.new_model(name))
        before = {key: value.clone() for key, value in models[-1].state_dict().items()}
        script.train(models[-1], of, schedule, [(images, labels)] * 2)

    first, second = (model.state_dict() for model in models)
    assert all(value.equal(second[key]) for key, value in first.items())
    assert not any(value.equal(first[key]) for key, value in before.items())

    path = tmp_path / "made.safetensors"
    stored = script.rounded(models[0])
    script.save_file(stored, path)
    fresh = build(name, None)
    load_weights(fresh, path)
    inputs = script.normalised(images[:2], of)
    with torch.no_grad():
        torch.testing.assert_close(fresh(inputs), models[0](inputs))


def test_a_mirror_turns_one_slant_into_the_other(script: ModuleType) -> None:
    slants = CLASSES.index("stripes_45"), CLASSES.index("stripes_135")
    labels = torch.tensor([*slants, CLASSES.index("disc")] * 40)
    images = torch.rand(len(labels), 3, 8, 8)

    seen, wanted = script.mirrored(images, labels, torch.Generator().manual_seed(1))

    changed = wanted != labels
    assert seen.shape == images.shape
    assert 20 < int(changed.sum()) < 60
    assert set(wanted[changed].tolist()) == set(slants)
    torch.testing.assert_close(seen.mean((1, 2, 3)), images.mean((1, 2, 3)))


def test_augmented_digits_stay_where_they_are_roughly(script: ModuleType) -> None:
    images = torch.zeros(32, 3, 64, 64)
    images[:, :, 24:40, 24:40] = 1
    seen, labels = script.warped(images, torch.arange(32), torch.Generator().manual_seed(0))
    assert labels.equal(torch.arange(32))
    assert seen.shape == images.shape
    assert not seen.equal(images)
    assert 0.5 < float(seen.mean() / images.mean()) < 1.5


def test_the_command_names_the_models(script: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["train_demo.py", "resnet50"])
    with pytest.raises(SystemExit):
        script.main()
    said = capsys.readouterr().err
    assert all(name in said for name in SHIPPED)
