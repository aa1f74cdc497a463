"""A 32-bit ARM board as a whole machine: Debian's kernel for ARMv7 under qemu, with sshd, on loopback.

It is built from Debian's packages, runs without root, and has what a test may want to break: a home that is full at
once, a user without Python, and clocks with a governor.
"""

import importlib.util
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest

from edgekit.targets.place import cache_folder
from edgekit.targets.userland import USERLANDS

SCRIPT = Path(__file__).parents[2] / "scripts" / "pin_userlands.py"
TOOLS = {"qemu-system-arm": "qemu-system-arm", "cpio": "cpio", "ssh": "openssh-client", "dpkg-deb": "dpkg"}
PACKAGES = (
    *("base-passwd", "busybox-static", "coreutils", "dash", "linux-image-armmp", "openssh-server", "procps"),
    *("python3-minimal", "python3-numpy", "libstdc++6", "libgomp1", "libatomic1"),
)
MODULES = ("virtio", "virtio_ring", "virtio_mmio", "failover", "net_failover", "virtio_net")
BOOT_SECONDS = 180
MEMORY_MB = 768

INIT = f"""\
#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /dev/pts /run/sshd /tight
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs -o mode=1777 tmpfs /tmp
busybox mount -t tmpfs -o size=6m,mode=700,uid=1001 tmpfs /tight
busybox mount -t tmpfs tmpfs /sys/devices/system/cpu/cpu0
busybox mkdir -p /sys/devices/system/cpu/cpu0/cpufreq
for value in scaling_governor=ondemand scaling_cur_freq=600000 scaling_max_freq=1608000 cpuinfo_max_freq=1608000; do
    echo "${{value#*=}}" >"/sys/devices/system/cpu/cpu0/cpufreq/${{value%%=*}}"
done
for module in {" ".join(MODULES)}; do
    if [ -f "/modules/$module.ko" ]; then busybox insmod "/modules/$module.ko"; fi
done
busybox hostname board
busybox ip link set lo up
busybox ip link set eth0 up
busybox ip addr add 10.0.2.15/24 dev eth0
/usr/sbin/sshd
echo board-is-up
exec busybox sh -c 'while :; do busybox sleep 1000; done'
"""

SSHD = """\
HostKey /etc/ssh/host_key
AuthorizedKeysFile /etc/ssh/keys
StrictModes no
PermitRootLogin prohibit-password
UsePAM no
PidFile none
Match User bare
    SetEnv PATH=/bin
"""

USERS = """\
root:x:0:0:root:/root:/bin/sh
tight:x:1001:1001:a home that is full at once:/tight:/bin/sh
bare:x:1002:1002:no Python on the PATH:/tmp:/bin/sh
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
"""


def pin_script() -> ModuleType:
    """The script that pins userlands, for its private apt."""
    found = importlib.util.spec_from_file_location("pin_userlands", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def call(*command: str | Path, **options: object) -> None:
    """Runs a command; what it wrote is the message when it fails."""
    process = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if process.returncode:
        pytest.fail(f"{shlex.join(map(str, command))} failed:\n{process.stderr}{process.stdout}", pytrace=False)


def missing_tool() -> str:
    """What has to be installed before a board can run, in words; "" when nothing is missing."""
    packages = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    return f"as root: apt-get install {' '.join(packages)}" if packages else ""


def build_board() -> Path:
    """The folder with the kernel, the file system and the keys of the board, made unless it is there."""
    key = sha256("".join((INIT, SSHD, USERS, repr(PACKAGES), repr(MODULES))).encode()).hexdigest()[:12]
    folder = cache_folder("boards") / f"armv7-{key}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".board-", dir=folder.parent))
        try:
            unpack(partial)
            write_settings(partial)
            pack(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def unpack(folder: Path) -> None:
    """Unpacks the packages, the kernel beside the rest."""
    script = pin_script()
    with tempfile.TemporaryDirectory() as apt:
        configuration = script.private_apt(Path(apt), USERLANDS["armv7"].debian)
        script.output("apt-get", "-qq", "update", configuration=configuration)
        script.output("apt-get", "-qq", "--yes", "--download-only", "install", *PACKAGES, configuration=configuration)
        for archive in Path(apt, "cache/archives").glob("*.deb"):
            kernel = archive.name.startswith("linux-image")
            call("dpkg-deb", "--extract", archive, folder / ("kernel" if kernel else "root"))
    for library in [*folder.glob("root/usr/lib/*/*/libblas.so.3"), *folder.glob("root/usr/lib/*/*/liblapack.so.3")]:
        (library.parents[1] / library.name).symlink_to(Path(library.parent.name, library.name))


def write_settings(folder: Path) -> None:
    """Writes what the packages' own scripts would have set up, and this board's users and keys."""
    root = folder / "root"
    for name in ("host_key", "key", "other_key"):
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
    for name in ("dev", "proc", "sys", "root", "run", "tmp", "modules", "etc/ssh"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/ssh/sshd_config").write_text(SSHD)
    shutil.copy(folder / "host_key", root / "etc/ssh/host_key")
    shutil.copy(folder / "key.pub", root / "etc/ssh/keys")
    (root / "etc/passwd").write_text(USERS)
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/shadow").write_text("".join(f"{line.split(':')[0]}:*:19000::::::\n" for line in USERS.splitlines()))
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    (root / "etc/ssh/host_key").chmod(0o600)
    for name in MODULES:
        for module in folder.glob(f"kernel/**/{name}.ko"):
            shutil.copy(module, root / "modules")


def pack(folder: Path) -> None:
    """Packs the file system, which the machine keeps in its memory, and removes what it was made from."""
    for name in ("doc", "man", "locale", "info"):
        shutil.rmtree(folder / "root/usr/share" / name, ignore_errors=True)
    names = "\n".join(str(path.relative_to(folder / "root")) for path in sorted((folder / "root").rglob("*")))
    with (folder / "initrd").open("wb") as archive:
        command = ["cpio", "--create", "--format=newc", "--owner=0:0", "--quiet"]
        subprocess.run(command, cwd=folder / "root", input=names.encode(), stdout=archive, check=True)
    (kernel,) = folder.glob("kernel/boot/vmlinuz-*")
    kernel.rename(folder / "vmlinuz")
    shutil.rmtree(folder / "kernel")
    shutil.rmtree(folder / "root")


@dataclass(frozen=True)
class Board:
    """A board that runs: where its ssh listens, its folder of keys, and qemu's monitor."""

    port: int
    folder: Path
    monitor: Path
    settings: Path

    def address(self, user: str = "root") -> str:
        return f"ssh://{user}@127.0.0.1:{self.port}"

    def client(self, known: str = "known_hosts") -> str:
        """An ssh command that knows this board, for $EDGEKIT_SSH."""
        options = f"-F none -o UserKnownHostsFile={self.settings / known} -o IdentitiesOnly=yes"
        return f"ssh {options} -i {self.settings / 'key'}"

    def sh(self, script: str) -> str:
        """What a script prints that root runs on the board."""
        command = [*shlex.split(self.client()), "-p", str(self.port), "root@127.0.0.1", script]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout

    def tell_qemu(self, command: str) -> None:
        """Gives qemu's monitor a command, such as `set_link n off`."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(30)
            monitor.connect(str(self.monitor))
            read_prompt(monitor)
            monitor.sendall(command.encode() + b"\n")
            read_prompt(monitor)


def read_prompt(monitor: socket.socket) -> None:
    """Reads until qemu's monitor is ready for a command."""
    said = b""
    while not said.endswith(b"(qemu) "):
        said += monitor.recv(1 << 16)


def write_keys(board: Path, settings: Path, port: int) -> None:
    """Copies the key, which ssh wants to be private, and writes files of known hosts: right, wrong and empty."""
    shutil.copy(board / "key", settings / "key")
    (settings / "key").chmod(0o600)
    for name, key in (("known_hosts", "host_key"), ("wrong_hosts", "other_key")):
        words = (board / f"{key}.pub").read_text().split()
        (settings / name).write_text(f"[127.0.0.1]:{port} {words[0]} {words[1]}\n")
    (settings / "no_hosts").write_text("")


@contextmanager
def running_board(settings: Path) -> Iterator[Board]:
    """Starts the board and waits until it can be reached; the folder takes its console and ssh's files."""
    folder = build_board()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    console, monitor = settings / "console", settings / "monitor"
    write_keys(folder, settings, port)
    process = subprocess.Popen(
        [
            *("qemu-system-arm", "-M", "virt", "-cpu", "cortex-a15", "-m", str(MEMORY_MB), "-display", "none"),
            *("-no-reboot", "-kernel", folder / "vmlinuz", "-initrd", folder / "initrd"),
            *("-append", "console=ttyAMA0 quiet panic=1 rdinit=/init"),
            *("-netdev", f"user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
            *("-device", "virtio-net-device,netdev=n,id=link"),
            *("-serial", f"file:{console}", "-monitor", f"unix:{monitor},server=on,wait=off"),
        ],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "QEMU_AUDIO_DRV": "none"},
    )
    try:
        wait_for(console, process)
        yield Board(port, folder, monitor, settings)
    finally:
        process.kill()
        process.wait()


def wait_for(console: Path, process: "subprocess.Popen[bytes]") -> None:
    """Waits until the board says that it is up."""
    deadline = time.monotonic() + BOOT_SECONDS
    while not (console.exists() and "board-is-up" in console.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            said = console.read_text(errors="replace")[-2000:] if console.exists() else ""
            pytest.fail(f"the emulated board did not start:\n{said}", pytrace=False)
        time.sleep(0.2)
