"""What edgekit's exporters write into files whose format has no place for names, shapes and settings."""

from __future__ import annotations

import json
from typing import Any


def read_description(text: str) -> dict[str, Any]:
    """Inputs, outputs and settings by these names; all of them empty for a file that is not from edgekit."""
    try:
        found = json.loads(text)
        return {part: found[part] for part in ("inputs", "outputs", "settings")}
    except (ValueError, KeyError, TypeError):
        return {"inputs": [], "outputs": [], "settings": {}}
