"""A name becomes a network: the one place that knows which family builds what."""

from torch import nn

from edgekit.models import parcnetv2
from edgekit.models.cards import card

FAMILIES = {
    "parcnetv2": parcnetv2.build,
}
"""Family to the function that builds its models: (name, kernel policy) to a network in training mode."""


def build(name: str, kernel_policy: str | None) -> nn.Module:
    """The network of a card in evaluation mode, its weights not yet set.

    Raises:
        UnknownNameError: There is no such model.
    """
    return FAMILIES[card(name).family](name, kernel_policy).eval()
