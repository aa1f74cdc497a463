"""Where artifacts for a target will run, and what was measured there."""

from edgekit.cache import tool_versions
from edgekit.targets.board import HOST, Board, load_board
from edgekit.tuning.nearest import Place
from edgekit.tuning.precision import PrecisionChooser
from edgekit.tuning.tables import Tuning

DEFAULT_TARGET = "arm"


def precisions(target: str, runtime: str, format_: str, tuning: Tuning, *, smallest: bool = False) -> PrecisionChooser:
    """What decides between int8 and float in an artifact for a target.

    Raises:
        UnknownNameError: There is no such target.
    """
    return PrecisionChooser(runtime, place(load_board(target), format_), tuning.own, tuning.rules, smallest)


def place(board: Board, format_: str) -> Place:
    """Where artifacts of a format will run."""
    able = [support for support in board.runtimes if support.format == format_]
    packages = {f"{support.runtime} {support.version}" for support in able}
    if board.name == HOST:
        installed = tool_versions(tuple(support.runtime for support in able))
        packages = {f"{package} {version}" for package, version in installed.items()}
    known = dict.fromkeys(architecture for support in able for architecture in support.architectures)
    return Place(tuple(known) or board.architectures, board.clusters[0].core, frozenset(packages), board.dot_products)
