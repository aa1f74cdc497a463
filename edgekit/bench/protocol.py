"""What the measuring process is asked and answers: one JSON object a line, requests in, answers out."""

import msgspec
from msgspec import Struct

from edgekit.artifact import CaseParity


class Prepare(Struct, frozen=True, kw_only=True, tag=True):
    """Go to these processors, read the inputs, and import the runtime, but leave the artifact alone."""

    runtime: str
    path: str
    reference: str
    affinity: tuple[int, ...] | None = None


class Load(Struct, frozen=True, kw_only=True, tag=True):
    """Load the artifact for so many threads."""

    threads: int


class Infer(Struct, frozen=True, kw_only=True, tag=True):
    """Run `settle` inferences, then `runs` that are timed one by one."""

    runs: int
    settle: int = 0


class Verify(Struct, frozen=True, kw_only=True, tag=True):
    """Compare the outputs on every case of the reference with the original model's."""


class Prepared(Struct, frozen=True, kw_only=True, tag=True):
    """The runtime is there: its version, which build it is, and how long importing it took."""

    import_ms: float
    version: str
    build: str


class Timed(Struct, frozen=True, kw_only=True, tag=True):
    """Milliseconds of each timed step."""

    samples_ms: tuple[float, ...]


class Verified(Struct, frozen=True, kw_only=True, tag=True):
    """Every output on every case."""

    parity: tuple[CaseParity, ...]


class Failed(Struct, frozen=True, kw_only=True, tag=True):
    """An error of edgekit's own: its class and its message."""

    kind: str
    message: str


Request = Prepare | Load | Infer | Verify
Answer = Prepared | Timed | Verified | Failed


def encode(message: Request | Answer) -> bytes:
    """One line."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """A line as a request.

    Raises:
        msgspec.DecodeError: It is none.
    """
    request: Request = msgspec.json.decode(line, type=Request)
    return request


def decode_answer(line: bytes) -> Answer:
    """A line as an answer.

    Raises:
        msgspec.DecodeError: It is none.
    """
    answer: Answer = msgspec.json.decode(line, type=Answer)
    return answer
