"""Loads an ncnn network and runs it once: `python -P ncnn_trial.py PARAM BIN DESCRIPTION`.

A program of its own, because ncnn crashes on networks whose layers do not fit each other. The exit status tells whether
every output came out, and the last line printed why not.
"""

import json
import sys
from typing import Any

import ncnn
import numpy as np

_ncnn: Any = ncnn  # compiled, and says nothing of its types


def problem(param: str, weights: str, description: str) -> str | None:
    """What keeps the network from running, in ncnn's terms; None when nothing does."""
    ports = json.loads(description)
    net = _ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = 1
    if net.load_param(param) or net.load_model(weights):
        return "it does not load"
    extractor = net.create_extractor()
    images = [np.zeros(port["shape"][1:], np.float32) for port in ports["inputs"]]
    for port, image in zip(ports["inputs"], images, strict=True):
        if extractor.input(port["name"], _ncnn.Mat(image)):
            return f"it has no input {port['name']}"
    for port in ports["outputs"]:
        status, found = extractor.extract(port["name"])
        if status:
            return f"its output {port['name']} cannot be computed"
        if np.array(found).size != np.prod(port["shape"]):
            return f"its output {port['name']} is of shape {np.array(found).shape} for {tuple(port['shape'])}"
    return None


if __name__ == "__main__":
    found = problem(*sys.argv[1:])
    print(found or "")  # noqa: T201 - a program's answer
    sys.exit(1 if found else 0)
