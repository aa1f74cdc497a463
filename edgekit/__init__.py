"""edgekit: puts a trained image model on a small ARM board and proves that it is still the same model."""

import os
import sys

from edgekit.version import __version__

__all__ = ["__version__"]

# ONNX Runtime (since 1.29) and OpenVINO send usage reports, names of models among them, unless they are told not to
# before they are imported. OpenVINO has no switch but a file in the user's home; it does without where the package
# cannot be imported. What the user has set stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
