"""Backbones for dense prediction: the networks of both families without their classifier, one map per resolution.

Papers: Xu et al., "ParCNetV2: Oversized Kernel with Enhanced Attention", ICCV 2023, and Goyal et al., "Non-deep
Networks", NeurIPS 2022, both in section 4.

Shapes below: N batch, C channels, H x W the image, all outputs channels-first.

ParCNetV2 gives what its four stages leave, each behind a norm of its own, as the authors' detection and segmentation
backbones do. The names `norm0` to `norm3` are theirs.

ParNet gives what its three streams leave. That is our own choice, for no dense network of theirs was released: the
fused maps come twice at 1/16 and never at 1/4, and they are functions of these three.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from edgekit.errors import UnknownNameError
from edgekit.models import parcnetv2, parnet
from edgekit.models.parcnetv2 import L2Norm, ParCNetV2Config
from edgekit.models.parnet import ParNetConfig, check_sides


class ParCNetV2Features(parcnetv2.Trunk):
    """The stages of ParCNetV2, a norm behind each."""

    CLASSIFIER_ONLY: ClassVar = ("norm.", "head.")
    FEATURES_ONLY: ClassVar = ("norm0.", "norm1.", "norm2.", "norm3.")

    def __init__(self, config: ParCNetV2Config) -> None:
        super().__init__(config)
        self.widths: tuple[int, ...] = config.widths
        self.strides: tuple[int, ...] = (4, 8, 16, 32)
        for stage, width in enumerate(config.widths):
            self.add_module(f"norm{stage}", L2Norm(width))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) normalised image -> (N, C, H/s, W/s) for each of `strides`, rounded up from stage to stage."""
        outputs = self.stage_outputs(x)
        normed = [self.get_submodule(f"norm{stage}")(tokens) for stage, tokens in enumerate(outputs)]
        return tuple(tokens.permute(0, 3, 1, 2) for tokens in normed)


class ParNetFeatures(parnet.Trunk):
    """The streams of ParNet. Sides of the image are multiples of the last of `strides`."""

    CLASSIFIER_ONLY: ClassVar = ("downsamples_2.", "combine.", "head.")
    FEATURES_ONLY: ClassVar = ()

    def __init__(self, config: ParNetConfig) -> None:
        super().__init__(config)
        self.widths = config.stream_widths
        self.strides = config.feature_strides

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) normalised image -> (N, C, H/s, W/s) for each of `strides`."""
        check_sides(x, self.strides[-1])
        return tuple(self.stream_outputs(x))


Features = ParCNetV2Features | ParNetFeatures


def build(name: str, kernel_policy: str | None = None) -> Features:
    """The backbone of a classification network of either family, freshly initialised, under the network's name."""
    if name in parcnetv2.CONFIGS:
        return ParCNetV2Features(parcnetv2.configure(name, kernel_policy))
    if name in parnet.CONFIGS:
        return ParNetFeatures(parnet.CONFIGS[name])
    raise UnknownNameError("backbone", name, (*parcnetv2.CONFIGS, *parnet.CONFIGS), "edgekit models")


def output_names(backbone: Features) -> tuple[str, ...]:
    """Names of a backbone's outputs, such as `stride8`."""
    return tuple(f"stride{stride}" for stride in backbone.strides)


def from_classifier(backbone: Features, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint as the backbone can load it strictly, whether it is the backbone's own or the classifier's.

    Of a classifier's checkpoint, the tensors that only a classifier has are left out, and the norms that it lacks are
    those the backbone has: all ones when fresh. Any other difference stays for strict loading to find; so does a
    checkpoint with some of the norms and not the others.
    """
    own = backbone.state_dict()
    if any(name.startswith(backbone.FEATURES_ONLY) for name in tensors):
        return dict(tensors)
    shared = {name: tensor for name, tensor in tensors.items() if not name.startswith(backbone.CLASSIFIER_ONLY)}
    return shared | {name: tensor for name, tensor in own.items() if name.startswith(backbone.FEATURES_ONLY)}
