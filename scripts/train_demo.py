"""Trains one of the demo models from nothing and writes its weights: `python scripts/train_demo.py parnet_pico_digits`.

It computes on one thread, for some minutes. Everything is seeded, and images come from the embedded sets, prepared as
the model's card says, so the same processor and torch give the same file again; others round otherwise, and give
another network that is about as accurate. `-o` says where to; without it the package's own weights are replaced.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from edgekit.artifact import ModelCard
from edgekit.data.dataset import Dataset, Split
from edgekit.data.pattern_classes import CLASSES
from edgekit.data.patterns import Patterns
from edgekit.data.preprocess import resized
from edgekit.data.sources import open_dataset
from edgekit.models.build import build
from edgekit.models.cards import CARDS
from edgekit.models.parcnetv2 import L2Norm
from edgekit.models.parcnetv2_mixers import ChannelGate, SpatialGate
from edgekit.models.shipped import SHIPPED, weights_path

SEED = 0
WEIGHT_DECAY = 0.05
SMOOTHING = 0.1
EVALUATION_BATCH = 128
REPORT_STEPS = 50

Examples = tuple[Tensor, Tensor]
"""Images, uint8, N x 3 x H x W, and their labels."""


Augment = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""(images, labels, generator) -> the same, changed at random."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a demo model is trained.

    Attributes:
        epochs: Times that each image of the train split is seen, with another augmentation each time.
        learning_rate: The highest of the one cycle.
        batch: Images per step.
        images: How many of the train split; None takes all.
        warmup: Share of the steps in which the learning rate rises.
        easy: How many images of which hardness are seen first, once each.
        again: Epochs of a second cycle, from the weights that the first one would store.
    """

    augment: Augment
    epochs: int
    learning_rate: float
    batch: int = 64
    images: int | None = None
    warmup: float = 0.2
    easy: tuple[tuple[int, float], ...] = ()
    again: int = 0


def warped(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turns, scales and moves each image a little, as handwriting does; N x 3 x H x W."""
    count = len(images)
    angle = (torch.rand(count, generator=generator) - 0.5) * 0.4
    scale = 1 + (torch.rand(count, generator=generator) - 0.5) * 0.3
    shift = (torch.rand(count, 2, generator=generator) - 0.5) * 0.3
    rows = (
        scale * angle.cos(),
        -scale * angle.sin(),
        shift[:, 0],
        scale * angle.sin(),
        scale * angle.cos(),
        shift[:, 1],
    )
    grid = functional.affine_grid(torch.stack(rows, 1).view(count, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False), labels


def mirrored(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirrors, moves by whole pixels, and swaps colours, which leaves the grain as it is; N x 3 x H x W.

    A mirror turns the slanted stripes of one class into those of the other.
    """
    slants = CLASSES.index("stripes_45"), CLASSES.index("stripes_135")
    flip = torch.rand(len(images), generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    swapped = torch.where(labels == slants[0], slants[1], torch.where(labels == slants[1], slants[0], labels))
    labels = torch.where(flip, swapped, labels)
    down, right = torch.randint(-6, 7, (2,), generator=generator).tolist()
    images = images.roll((down, right), (2, 3))[:, torch.randperm(3, generator=generator)]
    return images, labels


SCHEDULES = {
    "parnet_pico_digits": Schedule(warped, epochs=24, learning_rate=4e-3),
    "parnet_pico_patterns": Schedule(mirrored, epochs=6, learning_rate=4e-3, images=16_000),
    "parcnetv2_pico_digits": Schedule(warped, epochs=24, learning_rate=2e-3, batch=32),
    # Norms and gates that see one pixel at a time find nothing in hard images at first.
    "parcnetv2_pico_patterns": Schedule(
        mirrored,
        epochs=3,
        learning_rate=2e-3,
        batch=32,
        images=16_000,
        warmup=0.08,
        easy=((6_000, 0.0), (12_000, 0.5)),
        again=3,
    ),
}
"""Model to how it is trained."""


def load(dataset: Dataset, of: ModelCard) -> Examples:
    """A whole set at the card's size: N x 3 x H x W, uint8, in its channel order, and the labels."""
    size = of.input_shape[2:]
    made = [
        np.asarray(resized(dataset.image(index), of.preprocessing, (size[0], size[1]))) for index in range(len(dataset))
    ]
    labels = [dataset.label(index) for index in range(len(dataset))]
    assert of.preprocessing.channel_order == "RGB", "the demo models' order"  # noqa: S101
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2), torch.tensor(labels)


def normalised(images: Tensor, of: ModelCard) -> Tensor:
    """uint8 to the network's input, float32, channels last in memory, where CPUs convolve fastest."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (of.preprocessing.mean, of.preprocessing.std))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def new_model(name: str) -> nn.Module:
    """The network with its first weights: torch's own for ParNet.

    In ParCNetV2 every layer keeps the size of what goes through it, the norms by length give size 1, and the gates are
    open: closed ones, around 0 with either sign, would hide what the other half finds.
    """
    model = build(name, None)
    if not any(isinstance(module, SpatialGate) for module in model.modules()):
        return model
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, L2Norm):
            nn.init.constant_(module.weight, module.weight_scale)
    for module in model.modules():
        gated = {SpatialGate: "pwconv1", ChannelGate: "fc1"}.get(type(module))
        if gated:
            bias = module.get_submodule(gated).bias
            nn.init.ones_(bias.detach()[: len(bias) // 2])
    return model


def batches(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled indices, in whole batches; what is left over is left out."""
    order = torch.randperm(count, generator=generator)
    yield from order[: count // size * size].split(size)


def groups(model: nn.Module) -> list[dict[str, object]]:
    """Parameters with weight decay, matrices and kernels, and those without."""
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]


def train(model: nn.Module, of: ModelCard, schedule: Schedule, epochs: list[Examples], seed: int = SEED) -> None:
    """Trains a network in place, through one cycle of the learning rate; leaves it in evaluation mode.

    Args:
        model: The network.
        of: Its card, for the preprocessing.
        schedule: The learning rate, the batch and the augmentation.
        epochs: What is seen, in order, each shuffled anew.
        seed: Of the order and the augmentation.
    """
    generator = torch.Generator().manual_seed(seed)
    model.to(memory_format=torch.channels_last).train()
    total = sum(len(labels) // schedule.batch for _, labels in epochs)
    optimizer = torch.optim.AdamW(groups(model))
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, total_steps=total, pct_start=schedule.warmup
    )
    losses, started = list[float](), time.perf_counter()
    for images, labels in epochs:
        for chosen in batches(len(images), schedule.batch, generator):
            seen, wanted = schedule.augment(normalised(images[chosen], of), labels[chosen], generator)
            loss = functional.cross_entropy(model(seen), wanted, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            cycle.step()
            losses.append(loss.item())
            if len(losses) % REPORT_STEPS == 0:
                mean, seconds = np.mean(losses[-REPORT_STEPS:]), time.perf_counter() - started
                print(f"step {len(losses)} of {total}  loss {mean:.3f}  {seconds:.0f} s", flush=True)
    model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, of: ModelCard) -> float:
    """Share of images whose class is the first answer."""
    with torch.no_grad():
        answers = [model(normalised(part, of)).argmax(1) for part in images.split(EVALUATION_BATCH)]
    return float((torch.cat(answers) == labels).double().mean())


def rounded(model: nn.Module) -> dict[str, Tensor]:
    """The weights as they are stored, and the model with exactly these: kernels in float16, the rest in float32."""
    stored = {}
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            stored[name] = tensor.half().contiguous() if tensor.ndim > 1 else tensor.contiguous()
    model.load_state_dict({name: tensor.float() for name, tensor in stored.items()}, strict=False)
    return stored


def main() -> None:
    parser = argparse.ArgumentParser(description="Train one of the demo models.")
    parser.add_argument("name", choices=SHIPPED)
    parser.add_argument("-o", "--out", type=Path, help="file to write; default: the package's own")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)
    name, data = arguments.name, arguments.name.rpartition("_")[2]
    of, schedule = CARDS[name], SCHEDULES[name]
    images, labels = load(open_set(data, "train", schedule.images), of)
    epochs = [(images, labels)] * schedule.epochs
    easier = [load(Patterns("train", count, hardness), of) for count, hardness in schedule.easy]
    model = new_model(name)
    train(model, of, schedule, [*easier, *epochs])
    stored = rounded(model)
    if schedule.again:
        train(model, of, schedule, [(images, labels)] * schedule.again, SEED + 1)
        stored = rounded(model)
    test = load(open_set(data, "test", None), of)
    found = accuracy(model, *test, of)
    seen = accuracy(model, images[:2000], labels[:2000], of)
    print(f"{name}: {found:.2%} of {len(test[1])} test images, {seen:.2%} of those it was trained on")
    metadata = {"data": data, "test_images": str(len(test[1])), "top1": f"{found:.4f}", "seed": str(SEED)}
    out = arguments.out or weights_path(name)
    save_file(stored, out, metadata)
    print(f"{out}: {out.stat().st_size:,} bytes")


def open_set(data: str, split: Split, count: int | None) -> Dataset:
    """The first images of an embedded set."""
    return open_dataset(data if count is None else f"{data}:{count}", split)


if __name__ == "__main__":
    main()
