"""edgekit puts a trained image model on a small ARM board and proves it is still the same model."""

from edgekit.version import __version__

__all__ = ["__version__"]
