"""Pins what the emulated boards are made of: writes `targets/userlands/*.toml` anew.

Debian's packages are those that its main archive has today for the names in PACKAGES, with all they depend on; wheels
are of the versions in WHEELS. Needs a Debian or a derivative with apt. Nothing is installed, and the host's own apt is
left alone: a private one is configured in a temporary folder.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

from edgekit.targets.userland import USERLANDS, Userland, pip_platforms
from edgekit.targets.userland_build import debian_mirror

SUITE = "bookworm"
"""Debian 12, because its Python is the newest one that tflite-runtime has 32-bit wheels for."""

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = ("python3-minimal", "python3-numpy", "libstdc++6", "libgomp1", "libatomic1")
WHEELS = {
    "armv7": ("tflite-runtime==2.14.0", "ncnn==1.0.20261020"),
    "aarch64": (
        *("ai-edge-litert==2.3.0", "onnxruntime==1.31.1", "openvino==2026.4.1"),
        *("tflite-runtime==2.14.0", "ncnn==1.0.20261020", "MNN==3.6.1"),
    ),
}
FOLDER = Path(__file__).parents[1] / "targets" / "userlands"

CONFIGURATION = """\
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::Etc "{folder}/etc";
Dir::Etc::SourceList "{folder}/etc/sources.list";
Dir::Etc::SourceParts "{folder}/etc/empty";
Dir::Etc::Parts "{folder}/etc/empty";
Dir::State "{folder}";
Dir::State::Status "{folder}/status";
Dir::Cache "{folder}/cache";
"""


def output(*command: str, configuration: Path | None = None) -> str:
    """What a command prints; its messages go to this program's own standard error."""
    environment = {**os.environ, **({"APT_CONFIG": str(configuration)} if configuration else {})}
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def private_apt(folder: Path, architecture: str) -> Path:
    """An apt of its own in a folder; of the host's configuration only the proxy settings are kept."""
    for name in ("etc/empty", "etc/preferences.d", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "etc/sources.list").write_text(f"deb [signed-by={KEYRING}] {debian_mirror()} {SUITE} main\n")
    proxies = output("apt-config", "dump", "--format", '%F "%v";%n', "Acquire::http", "Acquire::https")
    configuration = folder / "apt.conf"
    configuration.write_text(CONFIGURATION.format(architecture=architecture, folder=folder) + proxies)
    return configuration


def debian_pins(userland: Userland) -> Iterator[tuple[str, str]]:
    """Path in the archive and SHA-256 of every package."""
    with tempfile.TemporaryDirectory() as folder:
        configuration = private_apt(Path(folder), userland.debian)
        output("apt-get", "-qq", "update", configuration=configuration)
        plan = output("apt-get", "-qq", "--yes", "--print-uris", "install", *PACKAGES, configuration=configuration)
        # The second word is the file's name in apt's own cache, which keeps the epoch that the archive's name drops.
        files = [unquote(line.split()[1]).split("_") for line in plan.splitlines() if line.startswith("'")]
        versions = [f"{name}={version}" for name, version, _ in files]
        records = output("apt-cache", "show", "--no-all-versions", *versions, configuration=configuration)
    for record in sorted(set(records.strip().split("\n\n"))):
        path = re.search(r"^Filename: (.+)$", record, re.MULTILINE)
        digest = re.search(r"^SHA256: (.+)$", record, re.MULTILINE)
        if path and digest:
            yield path[1], digest[1]


def wheel_pins(name: str, userland: Userland) -> Iterator[tuple[str, str]]:
    """Requirement and SHA-256 of every wheel."""
    for requirement in WHEELS[name]:
        with tempfile.TemporaryDirectory() as folder:
            output(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"),
                *("--python-version", userland.python, "--implementation", "cp", *pip_platforms(userland)),
                *("--dest", folder, requirement),
            )
            (wheel,) = Path(folder).iterdir()
            yield requirement, sha256(wheel.read_bytes()).hexdigest()


def pinned(name: str) -> str:
    """The TOML text of one userland's pins."""
    userland = USERLANDS[name]
    parts = {"packages": debian_pins(userland), "wheels": wheel_pins(name, userland)}
    lines = [
        "# Written by scripts/pin_userlands.py: SHA-256 of every Debian package, by its path in the archive, and wheel."
    ]
    for part, pins in parts.items():
        lines += ["", f"[{part}]", *(f'"{path}" = "{digest}"' for path, digest in pins)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=[*USERLANDS], help="userlands to pin; all if none is named")
    for name in parser.parse_args().names:
        (FOLDER / f"{name}.toml").write_text(pinned(name))
        print(f"{name}: pinned")


if __name__ == "__main__":
    main()
