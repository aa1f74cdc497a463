"""Architectures of timm, built without its weights: `timm:NAME`.

timm's `pretrained_cfg` is the data sheet. Nothing is downloaded: weights are random from a seed or come with
--weights.
"""

import functools
import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from edgekit.artifact import ModelCard, Shape, SizeRule, TensorSpec
from edgekit.errors import MissingExtraError, MisuseError, ModelError
from edgekit.intake.adapt import adapt
from edgekit.intake.sheet import Sheet, make_card
from edgekit.intake.source import Asked, Built, WeightsPolicy, one_shape
from edgekit.intake.zoo import INPUT_NAME, no_kernel_policy
from edgekit.models.feature_cards import SUFFIX
from edgekit.user_code import described

CLASSIFIER = ("logits",)


def timm_name(text: str) -> str:
    """NAME of `timm:NAME`.

    Raises:
        MisuseError: It asks for weights that would have to be downloaded.
    """
    name, question, _ = text.partition("?")
    if question or name.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        raise MisuseError(
            f"timm:{text} asks for weights from the network, which edgekit does not fetch by itself. Write timm:NAME "
            "and give the file, or its URL and SHA-256, with --weights."
        )
    return name


class TimmSource:
    """An architecture of timm."""

    weights: WeightsPolicy = "seeded"

    def __init__(self, name: str, *, features: bool = False) -> None:
        self.text = f"timm:{name}"
        self.name = f"{name}{SUFFIX}" if features else name
        self._timm_name = name
        self._features = features
        self._built: dict[Shape, Built] = {}

    def inputs(self, asked: Asked = None) -> tuple[TensorSpec, ...]:
        return self.build(asked).inputs

    def identity(self) -> dict[str, str]:
        self._config()
        return {"timm": version("timm"), "name": self.name}

    def card(self, asked: Asked = None) -> ModelCard:
        config = self._config()
        sheet, notes = sheet_of(config if not self._features else {**config, "num_classes": 0})
        return make_card(self.name, "timm", sheet, self.build(asked), self._size_rule(config), notes)

    def build(self, asked: Asked = None, kernel_policy: str | None = None) -> Built:
        no_kernel_policy(self.text, kernel_policy)
        config = self._config()
        shape = one_shape(asked, INPUT_NAME) or (1, *config["input_size"])
        if shape not in self._built:
            model = self._create(config, shape)
            names = self._output_names(model)
            spec = TensorSpec(name=INPUT_NAME, shape=shape, layout="NCHW")
            self._built[shape] = adapt(model, (spec,), names, doing=self.text)
        return self._built[shape]

    @functools.cache  # noqa: B019 - one source lives as long as one command
    def _config(self) -> dict[str, Any]:
        """The architecture's data sheet.

        Raises:
            MissingExtraError: timm is not installed.
            MisuseError: It has no such architecture.
        """
        timm = import_timm()
        if not timm.is_model(self._timm_name):
            close = get_close_matches(self._timm_name.lower(), timm.list_models(), n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(close)}?" if close else "timm.list_models() lists all of them."
            raise MisuseError(f"timm {version('timm')} has no architecture named {self._timm_name!r}. {hint}")
        config = timm.get_pretrained_cfg(self._timm_name)
        return config.to_dict() if config is not None else {"input_size": (3, 224, 224)}

    def _output_names(self, model: Any) -> tuple[str, ...]:
        """Names of what the network returns, where they are known."""
        if self._features:
            return tuple(f"stride{stride}" for stride in model.feature_info.reduction())
        return CLASSIFIER if getattr(model, "num_classes", 0) else ()

    def _size_rule(self, config: dict[str, Any]) -> SizeRule:
        minimum = config.get("min_input_size") or (1, 1, 1)
        return SizeRule(minimum=max(minimum[1:]))

    def _create(self, config: dict[str, Any], shape: Shape) -> nn.Module:
        """The network with its seed-less weights, made for a size where it is made for one."""
        fixed = config.get("fixed_input_size") and shape[2:] != tuple(config["input_size"][1:])
        options: dict[str, Any] = {"img_size": shape[2:]} if fixed else {}
        channels = len(shape) == 4 and shape[1] != config["input_size"][0]
        options |= {"in_chans": shape[1]} if channels else {}
        options |= {"features_only": True} if self._features else {}
        timm = import_timm()
        try:
            with torch.random.fork_rng(devices=[]):
                model = timm.create_model(self._timm_name, pretrained=False, exportable=True, **options)
        except Exception as error:
            own = "x".join(map(str, (1, *config["input_size"])))
            asked = "x".join(map(str, shape))
            raise ModelError(
                f"timm cannot build {self.name} for {asked} ({described(error)}). Its own input is {own}."
            ) from error
        assert isinstance(model, nn.Module)  # noqa: S101 - what create_model is for
        return model.eval()


def import_timm() -> Any:
    """The module timm.

    Raises:
        MissingExtraError: It is not installed.
        ModelError: It is, but does not import, for example for want of a matching torchvision.
    """
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name in {"timm", "torchvision", "huggingface_hub"}:
            raise MissingExtraError(error.name, "timm", "timm:NAME") from error
        raise
    except Exception as error:
        raise ModelError(
            f"timm is installed but does not import: {described(error)}. Reinstall timm and torchvision."
        ) from error


def sheet_of(config: Mapping[str, Any]) -> tuple[Sheet, tuple[str, ...]]:
    """What timm's `pretrained_cfg` says, and notes on what edgekit says differently."""
    resize = config.get("interpolation") or "bicubic"
    notes = []
    if resize not in {"bilinear", "bicubic"}:
        notes.append(f"timm resizes with {resize!r} interpolation; edgekit uses bicubic.")
    if config.get("crop_mode") not in {None, "center"}:
        notes.append(f"timm crops in mode {config['crop_mode']!r}; edgekit crops the centre.")
    mean, std = (tuple(config.get(entry) or ()) for entry in ("mean", "std"))
    sheet = Sheet(
        mean=mean if len(mean) == 3 else None,
        std=std if len(std) == 3 else None,
        crop_fraction=config.get("crop_pct"),
        interpolation="bilinear" if resize == "bilinear" else "bicubic",
        channel_order="RGB",
        classes=config.get("num_classes"),
        summary=f"{config.get('architecture') or 'an architecture'} of timm",
        paper=config.get("paper_name") or "",
        weights_licence=config.get("license") or "not stated",
    )
    return sheet, tuple(notes)
