"""The models edgekit ships."""

from edgekit.artifact import ModelCard, TensorSpec
from edgekit.errors import MisuseError
from edgekit.intake.source import Asked, Built, WeightsPolicy, one_shape
from edgekit.models.cards import card

INPUT_NAME = "input"
OUTPUT_NAMES = ("logits",)


class ZooSource:
    """A model by the name of its card."""

    weights: WeightsPolicy = "seeded"

    def __init__(self, name: str) -> None:
        self.text = self.name = name

    def card(self, asked: Asked = None) -> ModelCard:
        if asked is not None and not isinstance(asked, tuple):
            one_shape(asked, INPUT_NAME)
        return card(self.name)

    def identity(self) -> dict[str, str]:
        return {"model": self.name}

    def build(self, asked: Asked = None, kernel_policy: str | None = None) -> Built:
        from edgekit.models.build import build

        own = card(self.name)
        if kernel_policy is None and own.kernel_policies:
            kernel_policy = own.kernel_policies[0]
        shape = one_shape(asked, INPUT_NAME) or own.input_shape
        model = build(self.name, kernel_policy)
        return Built(model, model, (TensorSpec(name=INPUT_NAME, shape=shape, layout="NCHW"),), OUTPUT_NAMES)


def no_kernel_policy(name: str, policy: str | None) -> None:
    """Refuses a kernel policy for a network that is not edgekit's own.

    Raises:
        MisuseError: One was given.
    """
    if policy is not None:
        raise MisuseError(
            f"--kernel is for edgekit's own models with oversized kernels; {name} has none. Leave it out."
        )
