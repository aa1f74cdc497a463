"""The models edgekit ships."""

from edgekit.artifact import ModelCard, TensorSpec
from edgekit.errors import MisuseError
from edgekit.intake.source import Asked, Built, WeightsPolicy, one_shape
from edgekit.models.cards import card
from edgekit.models.feature_cards import features_card
from edgekit.models.shipped import SHIPPED

INPUT_NAME = "input"
OUTPUT_NAMES = ("logits",)


class ZooSource:
    """A model by the name of its card."""

    weights: WeightsPolicy

    def __init__(self, name: str, *, features: bool = False) -> None:
        self.text = name
        self._features = features
        self._card = features_card(name) if features else card(name)
        self.name = self._card.name
        self.weights = "shipped" if name in SHIPPED else "seeded"

    def card(self, asked: Asked = None) -> ModelCard:  # noqa: ARG002 - its figures hold for its own size
        return self._card

    def inputs(self, asked: Asked = None) -> tuple[TensorSpec, ...]:
        shape = one_shape(asked, INPUT_NAME) or self._card.input_shape
        return (TensorSpec(name=INPUT_NAME, shape=shape, layout="NCHW"),)

    def identity(self) -> dict[str, str]:
        return {"model": self.name}

    def build(self, asked: Asked = None, kernel_policy: str | None = None) -> Built:
        from edgekit.models import build, features

        policies = self._card.kernel_policies
        policy = kernel_policy or (policies[0] if policies else None)
        if not self._features:
            model = build.build(self.text, policy)
            return Built(model, model, self.inputs(asked), OUTPUT_NAMES)
        backbone = features.build(self.text, policy).eval()
        return Built(backbone, backbone, self.inputs(asked), features.output_names(backbone))


def no_kernel_policy(name: str, policy: str | None) -> None:
    """Refuses a kernel policy for a network that is not edgekit's own.

    Raises:
        MisuseError: One was given.
    """
    if policy is not None:
        raise MisuseError(
            f"--kernel is for edgekit's own models with oversized kernels; {name} has none. Leave it out."
        )
