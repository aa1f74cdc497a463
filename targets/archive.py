"""The runner as one file that any Python runs: a zip of `edgekit.targets.shipped`, with the same bytes every time."""

import io
import zipfile
from functools import cache
from importlib import resources

PACKAGES = ("edgekit", "edgekit/targets")
"""Packages around the runner's, empty on the board."""

MAIN = "from edgekit.targets.shipped.main import main\n\nmain()\n"


@cache
def runner_archive() -> bytes:
    """The bytes of the zip."""
    modules = sorted(
        (file.name, file.read_bytes())
        for file in resources.files("edgekit.targets.shipped").iterdir()
        if file.name.endswith(".py")
    )
    content = [("__main__.py", MAIN.encode()), *((f"{package}/__init__.py", b"") for package in PACKAGES)]
    content += [(f"edgekit/targets/shipped/{name}", source) for name, source in modules]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in content:
            archive.writestr(zipfile.ZipInfo(name), source, zipfile.ZIP_DEFLATED)
    return file.getvalue()
