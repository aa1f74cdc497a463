"""A small depthwise-separable network, on which a careless int8 loses points as it does on MobileNets.

    python scripts/depthwise.py                             trains it on `patterns` and writes its weights, some minutes
    python benchmarks/ablation.py scripts/depthwise.py:depthwise

Inverted residuals (Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2", CVPR 2018) with ReLU, for 64 x 64 images.

The channels between two layers differ in size by some powers of two, as they do in the published MobileNetV2 (Nagel et
al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, figure 2). Minutes of training
do not bring that about, so training begins with them apart: the scales of depthwise batch norms are drawn from
2^N(0, 2), and the layers behind them make up for it.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parents[1] / "tests" / "quant" / "depthwise.safetensors"

BLOCKS = ((16, 24, 2), (24, 24, 1), (24, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1))
"""Channels before, channels after, stride."""

EXPANSION = 4
CLASSES = 20

DEVIATION = 2.0
IMAGES, EPOCHS = 16_000, 6


class Residual(nn.Module):
    """1 x 1 convolution to more channels, 3 x 3 depthwise, 1 x 1 back to few; added to its input where that fits."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * c_in
        self.body = nn.Sequential(
            *(nn.Conv2d(c_in, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()),
            *(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU()),
            *(nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out)),
        )
        self.skip = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.skip else y


def network() -> nn.Sequential:
    """The network with torch's own first weights: 1 x 3 x 64 x 64 to 20 classes."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(Residual(*block) for block in BLOCKS),
        *(nn.Conv2d(48, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, CLASSES)),
    )


def depthwise() -> tuple[nn.Module, Tensor]:
    """The trained network, and an example of its input."""
    model = network()
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}, strict=False)
    return model.eval(), torch.zeros(1, 3, 64, 64)


def unequal(model: nn.Module, deviation: float, generator: torch.Generator) -> None:
    """Moves the channels behind depthwise layers apart by 2^N(0, deviation), in place; what is computed stays."""
    for module in model.modules():
        if isinstance(module, Residual):
            norm, projection = module.body[4], module.body[6]
            scale = torch.exp2(deviation * torch.randn(len(norm.weight), generator=generator))
            norm.weight.data.mul_(scale)
            norm.bias.data.mul_(scale)
            projection.weight.data.div_(scale[None, :, None, None])


def main() -> None:
    import train_demo as demo

    torch.set_num_threads(1)
    torch.manual_seed(demo.SEED)
    of = demo.CARDS["parnet_pico_patterns"]
    seen = demo.load(demo.open_set("patterns", "train", IMAGES), of)
    model = network()
    unequal(model, DEVIATION, torch.Generator().manual_seed(demo.SEED + 1))
    schedule = demo.Schedule(demo.mirrored, epochs=EPOCHS, learning_rate=4e-3)
    demo.train(model, of, schedule, [seen] * schedule.epochs)
    stored = demo.rounded(model)
    found = demo.accuracy(model, *demo.load(demo.open_set("patterns", "test", 2000), of), of)
    save_file(stored, WEIGHTS)
    print(f"{found:.2%} of 2,000 test images; {WEIGHTS}: {WEIGHTS.stat().st_size:,} bytes")


depthwise.edgekit_card = {  # type: ignore[attr-defined]
    "input_shape": (1, 3, 64, 64),
    "interpolation": "bilinear",
    "crop_fraction": 1.0,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.25, 0.25, 0.25),
    "classes": CLASSES,
    "summary": "inverted residuals, trained on patterns",
}


if __name__ == "__main__":
    main()
