#!/bin/sh
# Makes a folder that runs ARM programs on any Linux machine, without a board, a container or root.
set -eu

usage() {
    cat <<'TEXT'
Usage: arm_userland.sh [--install-qemu] ARCH DEST
       arm_userland.sh --install-qemu

Unpacks Debian 12's Python 3.11 and numpy for ARCH (armv7l or aarch64) and the pinned inference runtimes into DEST.
Afterwards `DEST/python` is an ARM Python under qemu's user-mode emulation. A second call with an unchanged script
returns at once; an interrupted call leaves nothing under DEST.

  --install-qemu          first install the distribution's qemu-user package (needs root)
  EDGEKIT_DEBIAN_MIRROR   URL of a Debian mirror; default: the one in this machine's apt sources
  PYTHON                  a Python that has pip, to fetch the wheels; default: python3
TEXT
}

die() {
    echo "arm_userland.sh: $*" >&2
    exit 1
}

# Debian 12, because its Python is the newest one that tflite-runtime has 32-bit wheels for.
SUITE=bookworm
PYTHON_VERSION=3.11
GLIBC_MINOR=36
PACKAGES="python3-minimal python3-numpy libstdc++6 libgomp1 libatomic1"
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# What differs between the two architectures. The CPUs are fixed because qemu's default, `max`, offers instructions
# that no board of this class has; qemu knows no Cortex-A17, and the A15 has the same instruction set.
select_arch() {
    case $1 in
        armv7l)
            DEBIAN_ARCH=armhf QEMU=qemu-arm QEMU_CPU=cortex-a15
            WHEELS="tflite-runtime==2.14.0"
            ;;
        aarch64)
            DEBIAN_ARCH=arm64 QEMU=qemu-aarch64 QEMU_CPU=cortex-a72
            WHEELS="ai-edge-litert==2.3.0 onnxruntime==1.31.1 openvino==2026.4.1 tflite-runtime==2.14.0"
            ;;
        *) die "ARCH is armv7l or aarch64, not '$1'" ;;
    esac
    ARCH=$1
}

need() {
    command -v "$1" >/dev/null || die "$1 is missing. Run: $2"
}

check_tools() {
    need "$QEMU" "apt-get install qemu-user (as root), or this script with --install-qemu"
    need apt-get "this script on Debian or a derivative, whose packages it unpacks"
    need dpkg-deb "apt-get install dpkg (as root)"
    need gpgv "apt-get install gpgv (as root)"
    "$PYTHON" -m pip --version >/dev/null 2>&1 || die "$PYTHON has no pip. Run: apt-get install python3-pip (as root), or set PYTHON"
    [ -r "$KEYRING" ] || die "$KEYRING is missing. Run: apt-get install debian-archive-keyring (as root)"
}

install_qemu() {
    [ "$(id -u)" -eq 0 ] || die "--install-qemu needs root. Run: sudo apt-get install qemu-user"
    apt-get -qq update
    apt-get -qq install --yes --no-install-recommends qemu-user >/dev/null
}

# The mirror this machine already uses, so that a local mirror is respected. Security archives hold no full suite.
debian_mirror() {
    if [ -n "${EDGEKIT_DEBIAN_MIRROR:-}" ]; then
        echo "$EDGEKIT_DEBIAN_MIRROR"
        return
    fi
    # shellcheck disable=SC2016  # $(...) is apt's own format syntax
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Origin: Debian' 'Component: main' \
        'Created-By: Packages' | awk '$1 !~ /-/ { print $2; exit }')
    [ -n "$mirror" ] || die "apt knows no Debian mirror. Run: apt-get update (as root), or set EDGEKIT_DEBIAN_MIRROR"
    echo "$mirror"
}

# A private apt: its own sources, lists and cache, and no `dpkg --add-architecture`, so the host's stay untouched.
# Of the host's configuration only the proxy settings are kept; its hooks would run on the host's own lists.
write_apt_config() {
    mkdir -p "$APT/etc/empty" "$APT/etc/preferences.d" "$APT/lists/partial" "$APT/cache/archives/partial"
    : >"$APT/status"
    echo "deb [signed-by=$KEYRING] $MIRROR $SUITE main" >"$APT/etc/sources.list"
    cat >"$APT/apt.conf" <<CONF
APT::Architecture "$DEBIAN_ARCH";
APT::Architectures { "$DEBIAN_ARCH"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "true";
Dir::Etc "$APT/etc";
Dir::Etc::SourceList "$APT/etc/sources.list";
Dir::Etc::SourceParts "$APT/etc/empty";
Dir::Etc::Parts "$APT/etc/empty";
Dir::State "$APT";
Dir::State::Status "$APT/status";
Dir::Cache "$APT/cache";
CONF
    apt-config dump --format '%F "%v";%n' Acquire::http Acquire::https >>"$APT/apt.conf"
}

unpack_packages() {
    write_apt_config
    export APT_CONFIG="$APT/apt.conf"
    apt-get -qq update || die "cannot read the package lists of $MIRROR; EDGEKIT_DEBIAN_MIRROR names another mirror"
    # shellcheck disable=SC2086  # PACKAGES is a list
    apt-get -qq --yes --download-only install $PACKAGES >/dev/null
    unset APT_CONFIG
    for package in "$APT"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$SYSROOT"
    done
    rm -rf "$APT"
}

# Unpacking runs no maintainer script, so the two links that numpy needs from update-alternatives are made here.
link_libraries() {
    for library in "$SYSROOT"/usr/lib/*/blas/libblas.so.3 "$SYSROOT"/usr/lib/*/lapack/liblapack.so.3; do
        folder=$(dirname "$library")
        ln -s "$(basename "$folder")/$(basename "$library")" "$folder/.."
    done
}

cpu_description() {
    case $ARCH in
        armv7l)
            cat <<'TEXT'
model name	: ARMv7 Processor rev 1 (v7l)
BogoMIPS	: 48.00
Features	: half thumb fastmult vfp edsp thumbee neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
CPU implementer	: 0x41
CPU architecture: 7
CPU variant	: 0x0
CPU part	: 0xc0d
CPU revision	: 1
TEXT
            ;;
        aarch64)
            cat <<'TEXT'
BogoMIPS	: 48.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3
TEXT
            ;;
    esac
}

# qemu shows the guest the host's /proc and /sys except where the sysroot has the file. The runtimes choose kernels from
# these: on an x86 description some crash, and without the core lists TFLite silently leaves XNNPACK out.
write_cpu_files() {
    cores=$SYSROOT/sys/devices/system/cpu
    mkdir -p "$SYSROOT/proc" "$cores"
    for list in possible present online; do
        echo 0-3 >"$cores/$list"
    done
    for core in 0 1 2 3; do
        printf 'processor\t: %s\n' "$core"
        cpu_description
        echo
        mkdir -p "$cores/cpu$core/topology"
        echo 0 >"$cores/cpu$core/topology/physical_package_id"
        echo f >"$cores/cpu$core/topology/core_siblings"
        echo "$core" >"$cores/cpu$core/topology/core_id"
        printf '%x\n' $((1 << core)) >"$cores/cpu$core/topology/thread_siblings"
    done >"$SYSROOT/proc/cpuinfo"
}

install_wheels() {
    set -- --platform "manylinux2014_$ARCH"
    minor=17
    while [ "$minor" -le "$GLIBC_MINOR" ]; do # pip does not add the older tags itself
        set -- "$@" --platform "manylinux_2_${minor}_$ARCH"
        minor=$((minor + 1))
    done
    # shellcheck disable=SC2086  # WHEELS is a list
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$PARTIAL/wheels" \
        --python-version "$PYTHON_VERSION" --implementation cp --only-binary=:all: --no-deps --no-compile "$@" $WHEELS
}

# `env -i`, so that a PYTHONPATH or LD_LIBRARY_PATH of the host never reaches the guest.
write_launcher() {
    cat >"$PARTIAL/python" <<LAUNCHER
#!/bin/sh
# Python $PYTHON_VERSION for $ARCH under user-mode emulation.
here=\$(CDPATH='' cd -- "\$(dirname -- "\$0")" && pwd)
exec env -i PATH="\$PATH" LC_ALL=C.UTF-8 PYTHONPATH="\$here/wheels" PYTHONHASHSEED=0 OMP_NUM_THREADS=1 \\
    $QEMU -cpu $QEMU_CPU -L "\$here/sysroot" "\$here/sysroot/usr/bin/python$PYTHON_VERSION" "\$@"
LAUNCHER
    chmod 755 "$PARTIAL/python"
}

build() {
    PARTIAL=$DEST.partial SYSROOT=$DEST.partial/sysroot APT=$DEST.partial/apt
    rm -rf "$PARTIAL"
    mkdir -p "$SYSROOT"
    trap 'rm -rf "$PARTIAL"' EXIT
    trap 'exit 130' INT TERM HUP
    unpack_packages
    link_libraries
    write_cpu_files
    install_wheels
    write_launcher
    "$PARTIAL/python" -c 'import numpy' || die "the new $ARCH Python cannot import numpy"
    echo "$STAMP" >"$PARTIAL/stamp"
    rm -rf "$DEST"
    mv "$PARTIAL" "$DEST"
}

main() {
    if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
        usage
        exit
    fi
    if [ "${1:-}" = --install-qemu ]; then
        install_qemu
        shift
        [ $# -gt 0 ] || exit 0
    fi
    if [ $# -ne 2 ]; then
        usage >&2
        exit 2
    fi
    PYTHON=${PYTHON:-python3}
    select_arch "$1"
    need sha256sum "apt-get install coreutils (as root)"
    need flock "apt-get install util-linux (as root)"
    mkdir -p "$(dirname -- "$2")"
    DEST=$(CDPATH='' cd -- "$(dirname -- "$2")" && pwd)/$(basename -- "$2")
    STAMP="$ARCH $(sha256sum <"$0" | cut -d ' ' -f 1)"
    exec 9>"$DEST.lock"
    flock 9 # two test runs may share the folder
    [ "$(cat "$DEST/stamp" 2>/dev/null)" != "$STAMP" ] || exit 0
    [ ! -e "$DEST" ] || [ -e "$DEST/stamp" ] || die "$DEST exists and is no userland of this script; choose another folder"
    check_tools
    MIRROR=$(debian_mirror)
    build
}

main "$@"
