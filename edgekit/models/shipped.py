"""The trained weights that come with edgekit, those of the demo models: accuracy can be measured out of the box.

`scripts/train_demo.py NAME` makes each anew.
"""

from pathlib import Path

SHIPPED = ("parcnetv2_pico_digits", "parcnetv2_pico_patterns", "parnet_pico_digits", "parnet_pico_patterns")
"""Models whose weights are in the package."""

FOLDER = Path(__file__).parent / "trained"


def weights_path(name: str) -> Path:
    """The weights file of one of `SHIPPED`."""
    return FOLDER / f"{name}.safetensors"
