"""The data sheets of the backbones, derived from those of the classifiers they are parts of."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import structs

from edgekit.artifact import ModelCard
from edgekit.errors import MisuseError
from edgekit.models.cards import card

SUFFIX = "_features"

SIZES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "parcnetv2_xt": (7_106_736, 1_553_129_088),
        "parcnetv2_t": (24_422_144, 4_268_748_288),
        "parcnetv2_s": (38_923_520, 7_780_114_944),
        "parcnetv2_b": (55_791_456, 12_491_293_248),
        "parcnetv2_xt_no_oc": (6_933_136, 1_408_935_808),
        "parcnetv2_xt_no_sbgu": (6_532_800, 1_434_713_728),
        "parcnetv2_xt_no_cbgu": (7_389_504, 1_612_336_768),
        "parcnetv2_xt_no_uniform": (6_927_056, 1_409_907_968),
        "parcnetv2_pico_digits": (369_688, 10_549_952),
        "parcnetv2_pico_patterns": (369_688, 10_549_952),
        "parnet_s": (11_649_088, 4_553_023_680),
        "parnet_s92": (11_604_624, 4_444_639_488),
        "parnet_m": (20_667_712, 7_989_895_360),
        "parnet_l": (32_254_528, 12_390_379_712),
        "parnet_xl": (50_349_568, 19_246_065_472),
        "parnet_m_streams1": (20_653_696, 4_216_659_648),
        "parnet_m_streams2": (19_943_744, 5_934_620_864),
        "parnet_m_streams4": (20_849_472, 10_045_120_704),
        "parnet_cifar_w32": (1_077_600, 147_881_056),
        "parnet_cifar_w112": (13_134_800, 1_802_940_496),
        "parnet_cifar_w168": (29_533_560, 4_054_035_384),
        "parnet_pico_digits": (206_100, 9_152_588),
        "parnet_pico_patterns": (206_100, 9_152_588),
    }
)
"""Name of the classifier to the parameters of its backbone and the MACs at the classifier's own input size."""

_NOTES = {
    "parcnetv2": "A norm stands behind each stage, as in the authors' detection and segmentation backbones. A "
    "classifier's checkpoint has none, so their scales are 1 there.",
    "parnet": "The outputs are those of the streams, before they are fused; no dense network was released.",
}


def features_card(name: str) -> ModelCard:
    """The card of a classifier's backbone, under a name of its own.

    Raises:
        UnknownNameError: There is no such classifier.
        MisuseError: It has no backbone that could be exported alone.
    """
    classifier = card(name)
    if name not in SIZES:
        raise MisuseError(f"{name} has no --features. These have: {', '.join(SIZES)}; and timm:NAME.")
    parameters, macs = SIZES[name]
    return structs.replace(
        classifier,
        name=f"{name}{SUFFIX}",
        summary=f"feature maps of {name}, one for each resolution",
        classes=0,
        parameters=parameters,
        macs=macs,
        notes=(*classifier.notes, _NOTES[classifier.family]),
    )
