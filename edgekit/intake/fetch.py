"""Fetching weights from an address the user gives, together with the SHA-256 that the file must have.

Only https, and file; plain http to this machine itself. A redirect stays within these. The file gets its name when its
hash is right, never before. This is the only place of edgekit that opens a connection.
"""

import hashlib
import re
import tempfile
from http.client import HTTPException, HTTPMessage
from ipaddress import ip_address
from pathlib import Path
from typing import IO
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from edgekit.errors import EnvironmentProblemError, MisuseError, WeightsError
from edgekit.files import output_errors, sha256

LIMIT_BYTES = 8 << 30
"""No larger file is fetched."""

TIMEOUT_SECONDS = 30
"""How long the server may keep silent."""

_CHUNK = 1 << 20


def is_url(text: str) -> bool:
    """Whether a --weights argument is an address and not a path."""
    return "://" in text


def fetch_weights(url: str, sha256_hex: str | None, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> Path:
    """Fetches a file into a folder, or finds it there.

    Args:
        url: Where it is.
        sha256_hex: The hash it must have, 64 hex digits.
        folder: Where it goes, as `<first digits of the hash>-<name>`.
        limit_bytes: Size at which fetching stops.

    Raises:
        MisuseError: The address is of a kind that is not fetched, or there is no hash.
        WeightsError: What came is too large or has another hash; nothing is kept.
        EnvironmentProblemError: The server cannot be reached, or says no.
    """
    check_address(url)
    wanted = check_hash(url, sha256_hex)
    target = folder / f"{wanted[:12]}-{file_name(url)}"
    with output_errors(folder):
        if target.is_file() and sha256(target) == wanted:
            return target
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".partial", delete=False) as partial:
            temporary = Path(partial.name)
        try:
            found = download(url, temporary, limit_bytes)
            if found != wanted:
                raise WeightsError(
                    f"{url} has SHA-256 {found}, not {wanted}. It is another file, or was changed on the way; nothing "
                    "was kept. Compare with what its publisher states."
                )
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return target


def check_address(url: str) -> None:
    """Refuses addresses that are not https, file, or http on this machine.

    Raises:
        MisuseError: It is one.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return
    if parts.scheme == "http" and is_this_machine(parts.hostname or ""):
        return
    raise MisuseError(f"{url} is not fetched: weights come by https:// or file:// only, or from a path.")


def is_this_machine(host: str) -> bool:
    """Whether a host is the loopback interface."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_hash(url: str, sha256_hex: str | None) -> str:
    """The hash in lower case.

    Raises:
        MisuseError: There is none, or it is not one.
    """
    if not sha256_hex:
        raise MisuseError(
            f"{url} is fetched only with the SHA-256 it must have. Take it from the publisher's page, or from a copy "
            "you trust with `sha256sum FILE`, and give it with --sha256."
        )
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256_hex):
        raise MisuseError(f"{sha256_hex!r} is no SHA-256: that is 64 hex digits, as `sha256sum FILE` prints.")
    return sha256_hex.lower()


def file_name(url: str) -> str:
    """A safe file name from the last part of an address."""
    last = unquote(urlsplit(url).path).replace("\\", "/").rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", last).lstrip(".")[-100:] or "weights"


class _SameKindOfAddress(request.HTTPRedirectHandler):
    """Follows a redirect only to an address that would have been fetched itself, and never from the net to a file."""

    def redirect_request(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> request.Request | None:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new != old:
            raise MisuseError(f"{req.full_url} redirects from {old} to {new}:// ({newurl}), which is not followed.")
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener() -> request.OpenerDirector:
    """What opens an address: proxies as in the environment, https, http and files, nothing else."""
    director = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.FileHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _SameKindOfAddress(),
    ):
        director.add_handler(handler)
    return director


def download(url: str, into: Path, limit_bytes: int) -> str:
    """Streams an address into a file and gives back the SHA-256 of what came.

    Raises:
        WeightsError: It is larger than the limit.
        EnvironmentProblemError: The server cannot be reached, says no, or breaks off.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with opener().open(url, timeout=TIMEOUT_SECONDS) as response, into.open("wb") as file:
            announced = int(response.headers.get("Content-Length") or 0)
            while size <= limit_bytes and announced <= limit_bytes and (chunk := response.read(_CHUNK)):
                digest.update(chunk)
                size += file.write(chunk)
    except HTTPError as error:
        raise EnvironmentProblemError(f"{url}: the server answers {error.code} {error.reason}.") from error
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise EnvironmentProblemError(
            f"{url} cannot be fetched: {reason}. Check the address and the network."
        ) from error
    if max(size, announced) > limit_bytes:
        raise WeightsError(f"{url} is larger than {limit_bytes} bytes, the most that is fetched. Nothing was kept.")
    if size < announced:
        raise EnvironmentProblemError(f"{url} broke off after {size} of {announced} bytes. Try again.")
    return digest.hexdigest()
