"""UperNet against the published sizes, mmsegmentation's key names, and a second implementation written out by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from edgekit.capture import capture
from edgekit.errors import UnknownNameError
from edgekit.models.features import ParCNetV2Features
from edgekit.models.parcnetv2 import ParCNetV2Config
from edgekit.models.upernet import UperNet, UperNetConfig, build
from edgekit.models.weights import random_weights
from edgekit.models.window_pool import WindowPool, uniform, windows
from edgekit.program import operator_counts, run

PARTS = ("backbone", "decode_head", "auxiliary_head")

PARAMETERS = [  # name; backbone, decode head, auxiliary head; the paper's millions for all of them
    ("upernet_parcnetv2_t", (24_422_144, 29_711_510, 776_342), 55),
    ("upernet_parcnetv2_s", (38_923_520, 29_711_510, 776_342), 69),
    ("upernet_parcnetv2_b", (55_791_456, 30_219_414, 923_798), 87),
]

MACS = [  # name, policy; backbone, decode head, auxiliary head at 512 x 2048; the paper's billions for the first two
    ("upernet_parcnetv2_t", "keep", (89_208_127_488, 842_430_676_992, 3_177_185_280), 932),
    ("upernet_parcnetv2_s", "keep", (162_588_524_544, 842_430_676_992, 3_177_185_280), 1005),
    ("upernet_parcnetv2_b", "keep", (261_042_536_448, 844_479_135_744, 3_781_165_056), 1105),
    ("upernet_parcnetv2_t", "interpolate", (110_177_550_336, 842_430_676_992, 3_177_185_280), None),
    ("upernet_parcnetv2_s", "interpolate", (194_354_085_888, 842_430_676_992, 3_177_185_280), None),
    ("upernet_parcnetv2_b", "interpolate", (306_121_605_120, 844_479_135_744, 3_781_165_056), None),
]

COUNTED = [row if row[0] == "upernet_parcnetv2_t" else pytest.param(*row, marks=pytest.mark.slow) for row in MACS]

DEPLOYED = [  # name, policy, MACs of the whole at 512 x 512
    ("upernet_parcnetv2_t", None, 234_349_264_896),
    ("upernet_parcnetv2_s", None, 253_430_464_512),
    ("upernet_parcnetv2_b", None, 279_465_050_112),
    ("upernet_parcnetv2_t", "keep", 232_919_531_520),
]

TINY = UperNetConfig(
    ParCNetV2Config(widths=(8, 12, 16, 24), depths=(1, 1, 1, 1)), channels=10, num_classes=5, auxiliary_channels=6
)


def on_meta(name: str, policy: str | None = None) -> UperNet:
    """A model without storage, for counting."""
    with torch.device("meta"):
        return build(name, policy).eval()


def count_macs(module: nn.Module, inputs: Tensor | tuple[Tensor, ...]) -> int:
    with FlopCounterMode(display=False) as counter:
        module(inputs)
    flops: int = counter.get_total_flops()
    return flops // 2


def randomised(config: UperNetConfig) -> UperNet:
    """Seeded weights, in float64."""
    model = UperNet(config)
    random_weights(model, 0)
    return model.double().eval()


def image(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(("name", "parts", "millions"), PARAMETERS, ids=[row[0] for row in PARAMETERS])
def test_parameters_are_the_papers_with_the_auxiliary_head(name: str, parts: tuple[int, ...], millions: int) -> None:
    model = on_meta(name)
    found = [sum(each.numel() for each in model.get_submodule(part).parameters()) for part in PARTS]
    assert tuple(found) == parts
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(parts)
    assert round(sum(parts) / 1e6) == millions


@pytest.mark.parametrize(("name", "policy", "parts", "billions"), COUNTED, ids=[f"{row[0]}-{row[1]}" for row in MACS])
def test_macs_are_the_papers_without_the_auxiliary_head_and_with_kept_kernels(
    name: str, policy: str, parts: tuple[int, ...], billions: int | None
) -> None:
    model, x = on_meta(name, policy), torch.empty(1, 3, 512, 2048, device="meta")
    with FlopCounterMode(display=False) as counter:
        maps = model.backbone(x)
    found = [
        counter.get_total_flops() // 2,
        count_macs(model.decode_head, maps),
        count_macs(model.get_submodule("auxiliary_head"), maps[2]),
    ]
    assert tuple(found) == parts
    paper_off = None if billions is None else sum(parts[:2]) / (billions * 1e9) - 1
    assert paper_off is None or abs(paper_off) < 0.001


@pytest.mark.slow
@pytest.mark.parametrize(("name", "policy", "macs"), DEPLOYED, ids=[f"{row[0]}-{row[1]}" for row in DEPLOYED])
def test_macs_of_the_deployed_path_at_512(name: str, policy: str | None, macs: int) -> None:
    assert count_macs(on_meta(name, policy), torch.empty(1, 3, 512, 512, device="meta")) == macs


def test_keys_are_those_of_mmsegmentation() -> None:
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]

    def layer(path: str) -> list[str]:
        return [f"{path}.conv.weight", *(f"{path}.bn.{leaf}" for leaf in norm)]

    decode = [f"psp_modules.{index}.1" for index in range(4)] + ["bottleneck", "fpn_bottleneck"]
    decode += [f"{convs}.{index}" for convs in ("lateral_convs", "fpn_convs") for index in range(3)]
    expected = {key for path in decode for key in layer(f"decode_head.{path}")} | set(layer("auxiliary_head.convs.0"))
    expected |= {f"{head}.conv_seg.{leaf}" for head in ("decode_head", "auxiliary_head") for leaf in ("weight", "bias")}
    expected |= {f"backbone.{key}" for key in ParCNetV2Features(TINY.backbone).state_dict()}
    assert set(UperNet(TINY).state_dict()) == expected


class ByHand:
    """The decode head of UperNet from its tensors, with torch's own adaptive pooling."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = {name.removeprefix("decode_head."): tensor for name, tensor in tensors.items()}

    def layer(self, x: Tensor, key: str) -> Tensor:
        kernel = self.tensors[f"{key}.conv.weight"]
        mean, var, weight, bias = (
            self.tensors[f"{key}.bn.{leaf}"].view(-1, 1, 1)
            for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        x = functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
        return ((x - mean) / torch.sqrt(var + 1e-5) * weight + bias).clamp_min(0)

    def __call__(self, maps: tuple[Tensor, ...]) -> Tensor:
        def to(x: Tensor, like: Tensor) -> Tensor:
            return functional.interpolate(x, like.shape[2:], mode="bilinear")

        c1, c2, c3, c4 = maps
        pyramid = [c4]
        for index, size in enumerate((1, 2, 3, 6)):
            pyramid.append(to(self.layer(functional.adaptive_avg_pool2d(c4, size), f"psp_modules.{index}.1"), c4))
        p4 = self.layer(torch.cat(pyramid, 1), "bottleneck")
        p3 = self.layer(c3, "lateral_convs.2") + to(p4, c3)
        p2 = self.layer(c2, "lateral_convs.1") + to(p3, c2)
        p1 = self.layer(c1, "lateral_convs.0") + to(p2, c1)
        smoothed = [self.layer(p, f"fpn_convs.{index}") for index, p in enumerate((p1, p2, p3))]
        joined = self.layer(torch.cat([to(p, c1) for p in (*smoothed, p4)], 1), "fpn_bottleneck")
        weight, bias = self.tensors["conv_seg.weight"], self.tensors["conv_seg.bias"]
        return functional.conv2d(joined, weight, bias)


@pytest.mark.parametrize(("height", "width"), [(128, 512), (96, 64), (65, 130)])
def test_network_equals_the_one_written_by_hand(height: int, width: int) -> None:
    model, x = randomised(replace(TINY, resize_logits=False)), image(height, width)
    with torch.no_grad():
        expected, found = ByHand(model.state_dict())(model.backbone(x)), model(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    assert found.std() > 1e-2


def test_logits_are_resized_to_the_image() -> None:
    x = image(64, 96)
    with torch.no_grad():
        quarter, full = (randomised(replace(TINY, resize_logits=flag))(x) for flag in (False, True))
    assert quarter.shape == (1, 5, 16, 24)
    assert full.shape == (1, 5, 64, 96)
    centred = functional.grid_sample(quarter, pixel_centres(64, 96), padding_mode="border", align_corners=False)
    torch.testing.assert_close(full, centred, rtol=1e-9, atol=1e-9)


def pixel_centres(height: int, width: int) -> Tensor:
    """(1, H, W, 2) places of an image's pixels, its edges being at -1 and 1."""
    rows, columns = ((torch.arange(side, dtype=torch.float64) + 0.5) / side * 2 - 1 for side in (height, width))
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]


def test_capture_leaves_no_adaptive_pooling_and_no_use_of_the_auxiliary_head() -> None:
    model = UperNet(TINY).eval()
    random_weights(model, 0)
    x = image(128, 512).float()
    program = capture(model, (1, 3, 128, 512))
    counts = operator_counts(program)
    assert not [name for name in counts if "adaptive" in name or "dropout" in name]
    used = {str(node.target) for node in program.graph.nodes if node.op == "get_attr" and node.users}
    assert used
    assert not [name for name in used if "auxiliary" in name]
    with torch.no_grad():
        torch.testing.assert_close(run(program, x)[0], model(x), rtol=1e-5, atol=1e-5)


def test_auxiliary_head_can_be_left_out() -> None:
    model = UperNet(replace(TINY, auxiliary_channels=None))
    tensors = {name: tensor for name, tensor in UperNet(TINY).state_dict().items() if "auxiliary" not in name}
    model.load_state_dict(tensors, strict=True)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(("height", "width"), [(16, 64), (16, 16), (7, 7), (18, 12), (5, 3), (1, 1)])
def test_window_pool_equals_adaptive_pooling(size: int, height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = functional.adaptive_avg_pool2d(x, size)
    torch.testing.assert_close(WindowPool(size)(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("length", "count", "found"),
    [(16, 2, (8, 8)), (16, 3, (6, 5)), (64, 3, (22, 21)), (18, 6, (3, 3)), (16, 6, None), (1, 2, None), (9, 1, None)],
)
def test_windows_of_one_length_and_step(length: int, count: int, found: tuple[int, int] | None) -> None:
    assert uniform(windows(length, count)) == found


@pytest.mark.parametrize(("size", "operators"), [(1, {"mean": 1}), (3, {"avg_pool2d": 1}), (6, {"narrow": 12})])
def test_window_pool_is_written_with_plain_operators(size: int, operators: dict[str, int]) -> None:
    counts = operator_counts(capture(nn.Sequential(WindowPool(size)).eval(), (1, 3, 16, 64)))
    assert {name: counts[name] for name in operators} == operators
    assert set(counts) <= {"mean", "avg_pool2d", "narrow", "cat"}


def test_unknown_name_lists_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean .*upernet_parcnetv2_"):
        build("upernet_parcnetv2")
