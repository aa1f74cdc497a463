"""How long to measure, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import structs

from edgekit.bench.record import Profile
from edgekit.errors import UnknownNameError

DEFAULT_PROFILE = "quick"

LIMIT_SHARE = 3.0
"""An artifact may take this many times the counted time that was asked for before it is given up."""

_TABLE = (
    Profile(
        name="quick",
        summary="10 s and 20 runs of each artifact: to look, and for a gate on every change",
        seconds=10.0,
        runs=20,
        rounds=20,
        limit_seconds=120.0,
    ),
    Profile(
        name="normal",
        summary="60 s and 100 runs: for figures that are passed on",
        seconds=60.0,
        runs=100,
        rounds=50,
        limit_seconds=300.0,
    ),
    # mlcommons/mobile_app_open, flutter/assets/tasks.pbtxt: min_query_count 1024, min_duration 60, max_duration 600;
    # its figure is the 90th percentile.
    Profile(
        name="mlperf",
        summary="60 s and 1024 runs, the least of MLPerf Mobile's single stream; its figure is p90",
        seconds=60.0,
        runs=1024,
        rounds=64,
        limit_seconds=600.0,
    ),
    Profile(
        name="sustained",
        summary="10 minutes of each artifact alone, minute by minute: what is left when the board is hot",
        seconds=600.0,
        runs=100,
        rounds=600,
        limit_seconds=660.0,
        alone=True,
    ),
)

PROFILES: Mapping[str, Profile] = MappingProxyType({profile.name: profile for profile in _TABLE})
"""Profile by name."""


def choose_profile(name: str, seconds: float | None = None, runs: int | None = None) -> Profile:
    """A profile by name, with another time or number of runs where they are given.

    Raises:
        UnknownNameError: There is no such profile.
    """
    if name not in PROFILES:
        raise UnknownNameError("profile", name, PROFILES, "edgekit bench --help")
    profile = PROFILES[name]
    if seconds is None and runs is None:
        return profile
    seconds, runs = seconds or profile.seconds, runs or profile.runs
    return structs.replace(
        profile,
        name=f"{name}, changed",
        summary=f"{seconds:g} s and {runs} runs of each artifact",
        seconds=seconds,
        runs=runs,
        rounds=min(profile.rounds, runs),
        limit_seconds=max(profile.limit_seconds, LIMIT_SHARE * seconds),
    )
