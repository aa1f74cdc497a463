"""Fitting a checkpoint to a model: strictly, or not at all."""

import argparse
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekit.errors import WeightsError
from edgekit.models.parcnetv2 import build
from edgekit.models.weights import load_weights, random_weights

OFFICIAL_KEYS = Path(__file__).parent.parent / "data" / "official_keys" / "parcnetv2_xt.txt"

Tensors = dict[str, Tensor]


def released_tensors() -> Tensors:
    """A checkpoint with the names and shapes of the authors' release, and random values."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for line in OFFICIAL_KEYS.read_text().splitlines():
        name, shape = line.split(" ", 1)
        sides = [int(side) for side in shape.strip("()").split(",") if side]
        tensors[name] = torch.randn(sides, generator=generator)
    return tensors


def timm_file(tensors: Tensors) -> dict[str, Any]:
    """What timm's saver writes, without an average."""
    return {
        "epoch": 299,
        "arch": "parcnetv2_xt",
        "state_dict": OrderedDict(tensors),
        "optimizer": {"state": {0: {"step": 5, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(model="parcnetv2_xt", lr=1e-3, mean=(0.485, 0.456), aa=None, amp=True),
        "metric": 79.4,
    }


def averaged_file(tensors: Tensors) -> dict[str, Any]:
    """The same with an average, the weights proper being something else."""
    return {**timm_file({name: tensor + 1 for name, tensor in tensors.items()}), "state_dict_ema": tensors}


def parallel(tensors: Tensors) -> Tensors:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def net(classes: int = 6) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def filled(seed: int = 0, classes: int = 6) -> Tensors:
    model = net(classes)
    random_weights(model, seed)
    return dict(model.state_dict())


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def holds(model: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    state = model.state_dict()
    return state.keys() == tensors.keys() and all(state[name].equal(tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("name", "wrap", "section", "ema"),
    [
        ("a.pth", dict, None, False),
        ("a.bin", parallel, None, False),
        ("a.pth.tar", timm_file, "state_dict", False),
        ("a.pth.tar", averaged_file, "state_dict_ema", True),
        ("a.ckpt", lambda tensors: {"model": tensors, "epoch": 3}, "model", False),
        ("A.PT", lambda tensors: {"model": {}, "model_ema": parallel(tensors)}, "model_ema", True),
    ],
    ids=["bare", "parallel", "timm", "timm-ema", "model", "model_ema-parallel"],
)
def test_the_release_loads_from_every_container(
    tmp_path: Path, name: str, wrap: Callable[[Tensors], Any], section: str | None, ema: bool
) -> None:
    tensors, model = released_tensors(), build("parcnetv2_xt")
    path = save(tmp_path / name, wrap(tensors))
    source = load_weights(model, path, ema=ema)
    assert holds(model, tensors)
    assert (source.kind, source.file_name, source.section, source.seed) == ("file", name, section, None)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_release_loads_from_safetensors(tmp_path: Path) -> None:
    tensors, model = released_tensors(), build("parcnetv2_xt")
    save_file(tensors, tmp_path / "a.safetensors")
    source = load_weights(model, tmp_path / "a.safetensors")
    assert holds(model, tensors)
    assert source.section is None
    assert source.sha256 == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()


def test_without_ema_the_average_is_not_taken(tmp_path: Path) -> None:
    model = net()
    load_weights(model, save(tmp_path / "a.pth", {"state_dict": filled(1), "state_dict_ema": filled(2)}))
    assert holds(model, filled(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_noted(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in released_tensors().items()}
    model = build("parcnetv2_xt")
    source = load_weights(model, save(tmp_path / "a.pth", tensors))
    assert holds(model, {name: tensor.float() for name, tensor in tensors.items()})
    assert source.notes == (f"225 tensors converted from {dtype} to torch.float32",)


def test_nothing_is_noted_when_nothing_is_converted(tmp_path: Path) -> None:
    assert load_weights(net(), save(tmp_path / "a.pth", filled())).notes == ()


def test_a_prefix_of_the_model_itself_stays(tmp_path: Path) -> None:
    model = nn.DataParallel(net())
    load_weights(model, save(tmp_path / "a.pth", parallel(filled())))
    assert holds(model, parallel(filled()))


def test_a_prefix_on_some_names_only_stays(tmp_path: Path) -> None:
    tensors = {**parallel(filled()), "extra": torch.ones(1)}
    with pytest.raises(
        WeightsError,
        match=r"8 missing: .*\n  10 unexpected: module\.0\.weight, .*\n0 of the model's 9 names .* another network",
    ):
        load_weights(net(), save(tmp_path / "a.pth", tensors))


def test_a_missing_counter_is_tolerated_and_nothing_else(tmp_path: Path) -> None:
    tensors, model = filled(), net()
    del tensors["1.num_batches_tracked"]
    load_weights(model, save(tmp_path / "a.pth", tensors))
    assert holds(model, filled())
    del tensors["1.running_var"]
    with pytest.raises(WeightsError, match=r"fit the model\.\n  1 missing: 1\.running_var\n"):
        load_weights(net(), save(tmp_path / "b.pth", tensors))


def change(tensors: Tensors, name: str, value: Tensor | None) -> Tensors:
    """The tensors with one added, replaced or taken away."""
    kept = {key: tensor for key, tensor in tensors.items() if key != name}
    return kept if value is None else {**kept, name: value}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("0.weight", None, r"  1 missing: 0\.weight\n8 of the model's 9 names .* but the layers differ"),
        ("0.extra", torch.ones(1), r"  1 unexpected: 0\.extra\n9 of the model's 9 names .* but the layers differ"),
        ("\x1b[2J", torch.ones(1), r"  1 unexpected: '\\x1b\[2J'\n"),
        ("0.bias", torch.ones(1), r"  1 wrongly shaped: 0\.bias \(1,\) instead of \(4,\)\n.* but the widths differ"),
        ("3.bias", torch.ones(1, 6), r"3\.bias \(1, 6\) instead of \(6,\)\n.* but the widths differ"),
        (
            "0.bias",
            torch.ones(4, dtype=torch.int8),
            r"0\.bias as torch\.int8 where the model has torch\.float32\. Give",
        ),
        ("1.num_batches_tracked", torch.tensor(0.0), r"tracked as torch\.float32 where the model has torch\.int64"),
        ("0.bias", torch.tensor([0, torch.nan, 0, 0]), r"NaN or infinite values in 1 tensors: 0\.bias\. Its training"),
        ("1.running_var", torch.tensor([1, 1, torch.inf, 1]), r"NaN or infinite values in 1 tensors: 1\.running_var"),
        ("0.bias", torch.full([4], 1e300, dtype=torch.float64), r"infinite values .* 0\.bias.* overflows the model's"),
    ],
    ids=["missing", "unexpected", "escape", "shape", "rank", "integer", "float", "nan", "inf", "overflow"],
)
def test_one_wrong_tensor_is_named_and_the_model_stays(
    tmp_path: Path, name: str, value: Tensor | None, message: str
) -> None:
    path = save(tmp_path / "a.pth", change(filled(1), name, value))
    model = net()
    random_weights(model, 0)
    with pytest.raises(WeightsError, match=message):
        load_weights(model, path)
    assert holds(model, filled(0))


def test_a_head_for_other_classes_is_told(tmp_path: Path) -> None:
    message = r"2 wrongly shaped: .*\nOnly 3 differs: the file was trained for 10 classes and the model is built for 6"
    with pytest.raises(WeightsError, match=message):
        load_weights(net(6), save(tmp_path / "a.pth", filled(classes=10)))


def test_a_larger_variant_is_told_and_the_lists_are_short(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = build("parcnetv2_t")
    tensors = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(build("parcnetv2_xt"), save(tmp_path / "a.pth", tensors))
    _, unexpected, shapes, hint = str(caught.value).splitlines()
    extra = len(tensors) - 225
    assert unexpected.startswith(f"  {extra} unexpected: stages.2.9.norm1.weight, ")
    assert unexpected.endswith(f", … and {extra - 8} more")
    assert "wrongly shaped: downsample_layers.0.conv.weight (64, 3, 7, 7) instead of (48, 3, 7, 7), " in shapes
    assert "225 of the model's 225 names are in the file, but the widths and the layers differ" in hint


def test_tied_tensors_need_one_value(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    one, other = torch.rand(3, 3), torch.rand(3, 3)
    biases = {"0.bias": torch.rand(3), "1.bias": torch.rand(3)}
    for number, weights in enumerate(({"0.weight": one}, {"1.weight": one}, {"0.weight": one, "1.weight": one})):
        random_weights(model, 0)
        load_weights(model, save(tmp_path / f"{number}.pth", {**biases, **weights}))
        assert holds(model, {"0.weight": one, "1.weight": one, **biases})
    path = save(tmp_path / "torn.pth", {**biases, "0.weight": one, "1.weight": other})
    with pytest.raises(WeightsError, match=r"value of its own for 0\.weight, which the model ties"):
        load_weights(model, path)
