"""Deadlines, gates, fitness, names, rates: the small rules of the core."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.fitness import BATCH_MAX_BYTES, GIB, purpose_of, unfit
from uploaderd.core.gate import OUTAGE_AFTER, OUTAGE_PROBE_S, PROBE_S, Gate, GateState
from uploaderd.core.meter import Meter
from uploaderd.core.model import Now, Upload, UploadState
from uploaderd.core.naming import content_type, remote_name
from uploaderd.core.schedule import (
    EXPIRY_MARGIN_S,
    Candidate,
    expired,
    life_s,
    pick,
    remaining_s,
)

UPLOAD = Upload(
    key="u",
    file="f",
    target="t",
    state=UploadState.OPEN,
    filename="x",
    purpose="user_data",
    size=1,
    part_bytes=1,
    created_s=1_000.0,
    created_boot_s=100.0,
    boot_id="a",
    life_s=3_600.0,
)


def at(wall_s: float, boot_s: float, boot_id: str = "a") -> Now:
    """Read both clocks."""
    return Now(wall_s=wall_s, boot_s=boot_s, boot_id=boot_id)


@pytest.mark.parametrize("wall_s", [1_600.0, 0.0, 9e9])
def test_the_hour_counts_on_the_boot_clock_whatever_the_wall_clock_says(wall_s: float) -> None:
    """A wall clock that jumps neither ends nor prolongs a session."""
    assert remaining_s(UPLOAD, at(wall_s, 700.0)) == 3_000.0


def test_after_a_reboot_the_wall_clock_is_all_there_is() -> None:
    """The boot clock of another boot does not compare."""
    assert remaining_s(UPLOAD, at(1_600.0, 3.0, "b")) == 3_000.0


def test_a_creation_in_the_future_of_another_boot_counts_as_over() -> None:
    """The wall clock was set back: nothing is known of the time that passed."""
    assert expired(UPLOAD, at(500.0, 3.0, "b"))


def test_a_session_is_over_a_little_before_its_time() -> None:
    """A request that leaves in the last seconds would meet nobody."""
    end = 100.0 + 3_600.0 - EXPIRY_MARGIN_S
    assert not expired(UPLOAD, at(0.0, end - 0.1))
    assert expired(UPLOAD, at(0.0, end))


@pytest.mark.parametrize(
    ("created_at", "expires_at", "life"),
    [
        (100.0, 7_300.0, 7_200.0),
        (100.0, 50.0, 3_600.0),
        (100.0, 9e9, 3_600.0),
        (None, 5.0, 3_600.0),
    ],
)
def test_a_nonsensical_end_counts_as_the_usual_life(
    created_at: float | None, expires_at: float, life: float
) -> None:
    """An end before the beginning, or years away, is not believed."""
    assert life_s(created_at, expires_at, 3_600.0) == life


def test_the_session_that_ends_first_sends_first() -> None:
    """Earliest deadline; then who has the fewest parts in flight; then the id."""
    near = Candidate(file="z", deadline_s=10.0, in_flight=3)
    far = Candidate(file="a", deadline_s=20.0, in_flight=0)
    assert pick([far, near]) == "z"
    assert pick([replace(far, file="b"), far]) == "a"
    assert pick([replace(far, in_flight=1), replace(far, file="b")]) == "b"
    assert pick([]) is None


def test_a_hopeless_session_gets_the_places_that_the_others_leave() -> None:
    """It is not given up, since the measure may be wrong, but it costs no other its hour."""
    lost = Candidate(file="a", deadline_s=1.0, in_flight=0, hopeless=True)
    late = Candidate(file="b", deadline_s=9.0, in_flight=3)
    assert pick([lost, late]) == "b"
    assert pick([lost]) == "a"


def test_a_shut_gate_admits_nobody_until_it_probes() -> None:
    """The key was refused: one probe after a while, then all or nothing."""
    gate = Gate().shut("auth", "The key is wrong.", 100.0)
    assert not gate.admits(100.0 + 10 * PROBE_S)
    assert gate.until_s == 100.0 + PROBE_S
    assert gate.probing().admits(0.0)
    assert gate.probing().succeeded(0.0) == Gate()


def test_each_probe_that_fails_makes_the_next_one_wait_longer() -> None:
    """Up to a quarter of an hour; other refusals meanwhile do not count, a success forgets all."""
    gate, waits = Gate().shut("auth", "No.", 0.0), []
    for _ in range(7):
        waits.append(gate.until_s)
        gate = gate.shut("auth", "No.", 0.0).probing().shut("auth", "No.", 0.0)
    assert waits == [60.0, 120.0, 240.0, 480.0, 900.0, 900.0, 900.0]
    assert gate.succeeded(0.0).shut("auth", "No.", 0.0).until_s == 60.0


def test_a_rate_limit_closes_the_gate_until_its_time() -> None:
    """The latest time that was asked for counts, and no success of before opens it early."""
    gate = Gate().limited(150.0).limited(140.0)
    assert not gate.admits(149.0)
    assert gate.succeeded(149.0) == gate
    assert gate.admits(150.0)
    assert gate.succeeded(150.0) == Gate()


def test_many_failures_in_a_row_are_an_outage() -> None:
    """One success in between begins the count anew; the probes grow rarer, up to a limit."""
    gate = Gate()
    for _ in range(OUTAGE_AFTER - 1):
        gate = gate.failed("No route.", 0.0, 900.0)
    assert gate.succeeded(0.0) == Gate()
    assert gate.admits(0.0)
    gate, waits = gate.failed("No route.", 0.0, 900.0), []
    for _ in range(6):
        assert (gate.state, gate.code) == (GateState.SHUT, "outage")
        assert gate.failed("No route.", 0.0, 900.0) == gate  # what left before it was shut
        waits.append(gate.until_s)
        gate = gate.probing().failed("No route.", 0.0, 900.0)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert gate.probing().failed("No route.", 0.0, 0.5).until_s == 0.5
    assert waits[0] == OUTAGE_PROBE_S


def test_an_outage_does_not_hide_a_wrong_key() -> None:
    """What a person must mend stays what the target is shut for."""
    gate = Gate().shut("auth", "No.", 0.0)
    for _ in range(OUTAGE_AFTER):
        gate = gate.failed("No route.", 1.0, 900.0)
    assert gate.code == "auth"


def test_a_probe_that_is_asked_to_wait_has_an_answer() -> None:
    """Nobody else is sent to be told the same; the outage is over."""
    gate = Gate(state=GateState.PROBING, code="outage", probes=3).limited(60.0)
    assert not gate.admits(59.0)
    assert (gate.code, gate.probes) == ("", 0)


def test_a_rate_limit_does_not_open_a_shut_gate() -> None:
    """The graver trouble stays."""
    gate = Gate().shut("quota", "Spent.", 0.0)
    assert gate.limited(1.0).state is GateState.SHUT


@pytest.mark.parametrize(
    ("path", "size", "purpose", "flavour", "code"),
    [
        (b"x", 0, "user_data", "openai", "failed.empty"),
        (b"x", 8 * GIB, "user_data", "openai", None),
        (b"x", 8 * GIB + 1, "user_data", "openai", "failed.too_large"),
        (b"x", 9 * GIB, "user_data", "azure", None),
        (b"x", 9 * GIB + 1, "user_data", "azure", "failed.too_large"),
        (b"x.txt", 1, "batch", "openai", "failed.purpose_rule"),
        (b"x.JSONL", 1, "batch", "openai", None),
        (b"x.jsonl", BATCH_MAX_BYTES + 1, "batch", "openai", "failed.purpose_rule"),
        (b"x.jsonl", BATCH_MAX_BYTES + 1, "fine-tune", "openai", None),
        (b"x.csv", 1, "fine-tune", "openai", "failed.purpose_rule"),
        (b"x.png", 1, "vision", "openai", None),
        (b"x.pdf", 1, "vision", "openai", "failed.purpose_rule"),
        (b"x.anything", 1, "evals", "openai", None),
    ],
)
def test_only_what_is_certain_is_refused_beforehand(
    path: bytes, size: int, purpose: str, flavour: str, code: str | None
) -> None:
    """By the documented rules of each purpose."""
    why = unfit(path, size, purpose, flavour)
    assert (None if why is None else why.code) == code


@pytest.mark.parametrize(
    ("path", "purpose"),
    [
        (b"batch/x.jsonl", "batch"),
        (b"fine-tune/deep/x.jsonl", "fine-tune"),
        (b"2026/x", "user_data"),
        (b"batch", "user_data"),
        (b"deep/batch/x", "user_data"),
        (b"\xff/x", "user_data"),
    ],
)
def test_the_first_folder_names_the_purpose_where_it_is_one(path: bytes, purpose: str) -> None:
    """A file that is called like a purpose has none of it."""
    assert purpose_of(path, "user_data", by_folder=True) == purpose
    assert purpose_of(path, "user_data", by_folder=False) == "user_data"


def test_a_name_goes_to_the_service_as_text() -> None:
    """The last component; what is no UTF-8 is escaped and not dropped."""
    assert remote_name(b"a/b/caf\xc3\xa9.txt") == "caf\u00e9.txt"
    assert remote_name(b"a/caf\xe9.txt") == r"caf\udce9.txt"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.jsonl", "application/jsonl"),
        ("X.PDF", "application/pdf"),
        ("x.tar.gz", "application/octet-stream"),
        ("x", "application/octet-stream"),
        ("x.nobody-knows", "application/octet-stream"),
        ("x.png", "image/png"),
    ],
)
def test_a_type_is_guessed_from_the_name(name: str, kind: str) -> None:
    """The same on every machine."""
    assert content_type(name) == kind


@given(st.text())
def test_any_name_has_a_type(name: str) -> None:
    """Whatever stands in it, the answer fits into a header."""
    assert content_type(name).isascii()


def test_a_rate_is_that_of_the_last_seconds() -> None:
    """A hundred bytes a second, then silence."""
    meter = Meter()
    for tenth in range(100):
        meter.add(10, tenth / 10)
    assert meter.rate_bps(9.9) == pytest.approx(100, rel=0.1)
    assert meter.rate_bps(60.0) == 0.0


def test_a_gate_waits_no_longer_than_any_wait_may_come_to() -> None:
    """A pause that was reckoned while the wall clock ran a day ahead ends all the same."""
    ahead = Gate().limited(90_000.0)
    assert ahead.no_later(3_600.0) == Gate().limited(3_600.0)
    assert ahead.no_later(90_000.0) is ahead
    assert Gate().no_later(0.0) == Gate()
