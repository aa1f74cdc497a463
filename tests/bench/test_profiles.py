"""Profiles by name, and changed ones that say so."""

import pytest

from edgekit.bench.profiles import DEFAULT_PROFILE, PROFILES, choose_profile
from edgekit.bench.statistics import median_interval, supported
from edgekit.errors import UnknownNameError


def test_every_profile_is_long_enough_for_an_interval() -> None:
    for profile in PROFILES.values():
        assert median_interval([1.0] * profile.rounds) is not None
        assert profile.runs >= profile.rounds or profile.alone
        assert profile.limit_seconds > profile.seconds
    assert DEFAULT_PROFILE in PROFILES


def test_the_least_of_mlperf_mobile() -> None:
    mlperf = PROFILES["mlperf"]

    assert (mlperf.seconds, mlperf.runs, mlperf.limit_seconds) == (60.0, 1024, 600.0)
    assert supported(0.9, mlperf.runs)


def test_a_profile_as_it_is() -> None:
    assert choose_profile("normal") is PROFILES["normal"]


def test_a_changed_profile_has_another_name() -> None:
    changed = choose_profile("quick", seconds=200.0, runs=7)

    assert changed.name == "quick, changed"
    assert (changed.seconds, changed.runs, changed.rounds) == (200.0, 7, 7)
    assert changed.limit_seconds == 600
    assert changed.summary == "200 s and 7 runs of each artifact"
    assert choose_profile("quick", runs=1000).rounds == PROFILES["quick"].rounds


def test_a_profile_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"no profile named 'quik'\. Did you mean quick\?"):
        choose_profile("quik")
