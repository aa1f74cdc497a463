"""The data sheet of a network that is not edgekit's: what its author says about it, and what can be counted.

A callable says it with an attribute `edgekit_card`, a dictionary with any of these entries, on itself or on the network
it returns:

    {"input_shape": (1, 3, 192, 192), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_fraction": 0.9,
     "interpolation": "bicubic", "channel_order": "RGB", "classes": 10, "outputs": ["logits"], "summary": "...",
     "paper": "...", "weights_licence": "..."}
"""

import copy
from typing import Literal

import msgspec
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from edgekit.artifact import ModelCard, Preprocessing, Shape, SizeRule
from edgekit.errors import ModelError
from edgekit.intake.source import Built, check_inputs
from edgekit.models.cards import IMAGENET

DEFAULT_SHAPE: Shape = (1, 3, 224, 224)

Triple = tuple[float, float, float]


class Sheet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known about a network; None where nothing is."""

    input_shape: Shape | None = None
    mean: Triple | None = None
    std: Triple | None = None
    crop_fraction: float | None = None
    interpolation: Literal["bilinear", "bicubic"] | None = None
    channel_order: Literal["RGB", "BGR"] | None = None
    classes: int | None = None
    outputs: tuple[str, ...] = ()
    summary: str = ""
    paper: str = ""
    weights_licence: str = "not stated"


def read_sheet(*holders: object) -> Sheet:
    """The `edgekit_card` of the first object that has one; an empty sheet when none does.

    Raises:
        ModelError: It is no dictionary of the entries above.
    """
    for holder in holders:
        given = getattr(holder, "edgekit_card", None)
        if given is not None:
            try:
                return msgspec.convert(given, Sheet, str_keys=True)
            except msgspec.ValidationError as error:
                known = ", ".join(Sheet.__struct_fields__)
                raise ModelError(f"edgekit_card cannot be read: {error}. Its entries are {known}.") from error
    return Sheet()


def make_card(name: str, family: str, sheet: Sheet, built: Built, rule: SizeRule, notes: tuple[str, ...]) -> ModelCard:
    """The card of a built network; what the sheet leaves open is ImageNet's, and a note says so.

    Raises:
        ModelError: It takes something else than float32 tensors.
    """
    first = check_inputs(built)[0]
    assumed = [entry for entry in ("mean", "std", "crop_fraction", "interpolation") if getattr(sheet, entry) is None]
    if assumed:
        notes = (
            *notes,
            f"Preprocessing is not known, ImageNet's is assumed for {', '.join(assumed)}; an `edgekit_card` "
            "dictionary on the callable states it.",
        )
    return ModelCard(
        name=name,
        family=family,
        summary=sheet.summary,
        paper=sheet.paper,
        input_shape=first.shape,
        size_rule=rule,
        preprocessing=Preprocessing(
            interpolation=sheet.interpolation or IMAGENET.interpolation,
            crop_fraction=sheet.crop_fraction or IMAGENET.crop_fraction,
            channel_order=sheet.channel_order or IMAGENET.channel_order,
            mean=sheet.mean or IMAGENET.mean,
            std=sheet.std or IMAGENET.std,
        ),
        classes=sheet.classes if sheet.classes is not None else count_classes(built),
        parameters=sum(parameter.numel() for parameter in built.original.parameters()),
        macs=count_macs(built),
        weights_licence=sheet.weights_licence,
        notes=(*notes, *built.notes),
    )


def shapes_only(built: Built) -> tuple[torch.Tensor, ...]:
    """What the network returns, as tensors without values; nothing where its sizes depend on values."""
    model = copy.deepcopy(built.model)  # some networks keep what they computed, which here would have no values
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.no_grad():
        inputs = [mode.from_tensor(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype))) for spec in built.inputs]
        try:
            result = model(*inputs)
        except Exception:  # noqa: BLE001 - whatever it is, capture will say it with the user's line
            return ()
    return (result,) if isinstance(result, torch.Tensor) else tuple(result)


def count_classes(built: Built) -> int:
    """The second side of a matrix that is the only output, else 0."""
    returned = shapes_only(built)
    return int(returned[0].shape[1]) if len(returned) == 1 and returned[0].ndim == 2 else 0


def count_macs(built: Built) -> int:
    """MACs of one run; 0 where the network cannot be run without values."""
    with FlopCounterMode(display=False) as counter:
        returned = shapes_only(built)
    return int(counter.get_total_flops()) // 2 if returned else 0
