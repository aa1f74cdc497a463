"""A name for the weights that a network came with."""

import hashlib

import torch
from torch import Tensor, nn


def hash_state(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of everything a checkpoint of the model would hold."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
