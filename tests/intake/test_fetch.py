"""Weights by address: the hash decides, and nothing is kept before it has. A local server stands for the net."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgekit.errors import EnvironmentProblemError, MisuseError, WeightsError
from edgekit.intake.fetch import fetch_weights, is_url

CONTENT = bytes(range(256)) * 9
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path.startswith("/missing"):
            self.send_error(404)
        else:
            self.send_response(200)
            if not self.path.startswith("/endless"):
                self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: 100 if self.path.startswith("/short") else None])

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the base class's name for it


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def address(server: ThreadingHTTPServer, path: str = "net.pth") -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{path}"


def test_file_is_fetched_once(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    path = fetch_weights(address(server, "a/net%20v1.pth?download=1"), SHA256.upper(), tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert path.name == f"{SHA256[:12]}-net_v1.pth"
    assert fetch_weights(address(server, "a/net%20v1.pth?download=1"), SHA256, tmp_path / "new") == path
    assert len(server.asked) == 1  # type: ignore[attr-defined]
    assert list((tmp_path / "new").iterdir()) == [path]


def test_damaged_copy_is_fetched_again(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    path = fetch_weights(address(server), SHA256, tmp_path)
    path.write_bytes(b"other")
    assert fetch_weights(address(server), SHA256, tmp_path).read_bytes() == CONTENT


def test_file_address_is_read(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(CONTENT)
    path = fetch_weights((tmp_path / "net.pth").as_uri(), SHA256, tmp_path / "kept")
    assert path.read_bytes() == CONTENT


def test_other_hash_leaves_nothing(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"has SHA-256 {SHA256}, not {'0' * 64}.+ nothing was kept"):
        fetch_weights(address(server), "0" * 64, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sha256", [None, ""])
def test_no_hash_says_how_to_get_one(server: ThreadingHTTPServer, tmp_path: Path, sha256: str | None) -> None:
    with pytest.raises(MisuseError, match=r"only with the SHA-256 it must have.+sha256sum FILE.+--sha256"):
        fetch_weights(address(server), sha256, tmp_path)
    assert server.asked == []  # type: ignore[attr-defined]


def test_hash_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match="'abc' is no SHA-256: that is 64 hex digits"):
        fetch_weights("https://example.org/net.pth", "abc", tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/net.pth",
        "ftp://example.org/net.pth",
        "data:text/plain,x",
        "file://host/net.pth",
        "https:///net.pth",
        "http://127.0.0.1.example.org/net.pth",
        "net.pth",
    ],
)
def test_other_kinds_of_address_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"is not fetched: weights come by https:// or file:// only"):
        fetch_weights(url, SHA256, tmp_path)


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://example.org/x", "https://127.0.0.1:1/x"])
def test_redirect_to_another_kind_is_not_followed(server: ThreadingHTTPServer, tmp_path: Path, target: str) -> None:
    with pytest.raises((MisuseError, EnvironmentProblemError), match=r"which is not followed|not allowed|302"):
        fetch_weights(address(server, f"to/{target}"), SHA256, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_redirect_to_a_host_that_would_be_refused(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"http://example.org/x is not fetched"):
        fetch_weights(address(server, "to/http://example.org/x"), SHA256, tmp_path)


def test_redirect_within_the_kind_is_followed(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    path = fetch_weights(address(server, f"to/{address(server)}"), SHA256, tmp_path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("path", ["net.pth", "endless"], ids=["announced", "not announced"])
def test_too_large_is_refused(server: ThreadingHTTPServer, tmp_path: Path, path: str) -> None:
    with pytest.raises(WeightsError, match="is larger than 1000 bytes"):
        fetch_weights(address(server, path), SHA256, tmp_path, limit_bytes=1000)
    assert list(tmp_path.iterdir()) == []


def test_broken_off_is_said(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"broke off after 100 of 2304 bytes|cannot be fetched"):
        fetch_weights(address(server, "short"), SHA256, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_server_that_says_no(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match="the server answers 404"):
        fetch_weights(address(server, "missing"), SHA256, tmp_path)


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblemError, match=r"cannot be fetched: .+ Check the address and the network"):
        fetch_weights("http://127.0.0.1:9/net.pth", SHA256, tmp_path)


def test_address_or_path() -> None:
    assert is_url("https://example.org/net.pth")
    assert not is_url("weights/net.pth")
