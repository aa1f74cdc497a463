"""A name becomes a network: the one place that knows which family builds what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from edgekit.models import convnext_oversized, features, parc_convnext, parc_net, parcnetv2, parnet, upernet
from edgekit.models.cards import card
from edgekit.models.shipped import SHIPPED


@dataclass(frozen=True, slots=True)
class Family:
    """How the networks of a family come to be.

    Attributes:
        build: (name, kernel policy) to a network in training mode.
        settle: Settles what only a checkpoint can tell, in place, and says so in a sentence.
    """

    build: Callable[[str, str | None], nn.Module]
    settle: Callable[[nn.Module], str] | None = None


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "parcnetv2": Family(parcnetv2.build),
        "convnext_oversized": Family(convnext_oversized.build),
        "parnet": Family(parnet.build, settle=parnet.adapt_activation),
        "parc_convnext": Family(parc_convnext.build),
        "parc_net": Family(parc_net.build),
        "upernet": Family(upernet.build),
    }
)
"""The family on a card to how its networks are built."""


def build(name: str, kernel_policy: str | None) -> nn.Module:
    """The network of a card in evaluation mode, its weights not yet set.

    Raises:
        UnknownNameError: There is no such model.
    """
    return FAMILIES[card(name).family].build(name, kernel_policy).eval()


def fit_backbone(model: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """A classifier's checkpoint, or a backbone's own, as a backbone can load it strictly."""
    if isinstance(model, (features.ParCNetV2Features, features.ParNetFeatures)):
        return features.from_classifier(model, tensors)
    own = model.state_dict()
    # timm flattens the first part of a name, or puts the whole network inside another.
    spelled = {name.replace(".", "_", 1): tensor for name, tensor in tensors.items()}
    spelled |= {f"model.{name}": tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in (spelled | dict(tensors)).items() if name in own}


def settle(name: str, model: nn.Module) -> tuple[str, ...]:
    """Settles what a loaded checkpoint decides about a network; what was settled comes back in words.

    Of edgekit's own demo models nothing is open: they are trained as their configurations say.
    """
    if name in SHIPPED:
        return ()
    decide = FAMILIES[card(name).family].settle
    return (decide(model),) if decide else ()
