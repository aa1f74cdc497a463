"""Importing timm, for tests and scripts.

timm imports torchvision, for loading data and for two small layers. torchvision's wheels hold compiled operators that
load only beside the torch they were built with; beside a CPU build of the same version its import stops, because
`torchvision::nms` and `torchvision::qnms` do not exist. No network calls them, so declaring them is enough.
"""

import functools
import importlib
import sys
from typing import Any

import torch

_MISSING = "operator torchvision::nms does not exist"


@functools.cache
def import_timm() -> Any:
    """The module timm, imported beside whatever build of torchvision there is."""
    _declare_missing_operators()
    return importlib.import_module("timm")


@functools.cache
def _declare_missing_operators() -> object:
    """Makes torchvision importable where it is not; gives back what has to stay alive, which the cache sees to."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    else:
        return None
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return library
