"""When is a dropped file whole: tables of cases, and properties over all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.model import Arrival, Identity, Now
from uploaderd.core.settle import Busy, Marks, Quiet, Ready, Verdict, Writers, judge
from uploaderd.core.values import replace

T = 1_000_000.0
FILE = Identity(dev=1, inode=2, size=3, mtime_ns=0, ctime_ns=int((T - 100) * 1e9))


def now(wall_s: float = T) -> Now:
    """One reading of the clocks."""
    return Now(wall_s=wall_s, boot_s=wall_s / 2, boot_id="boot")


def at(ctime_s: float, **changes: int) -> Identity:
    """The file as it is after a change at that time."""
    return replace(FILE, ctime_ns=int(ctime_s * 1e9), **changes)


def verdict(
    *,
    identity: Identity = FILE,
    before: Identity | None = None,
    arrival: Arrival = Arrival.WRITTEN,
    writers: Writers = Writers.NONE,
    first_seen_s: float = T,
    changed_s: float = T,
    settle_s: float = 2.0,
    held_open_s: float = 0.0,
    now_s: float = T,
) -> Verdict:
    """Judge a file that was written just now, but for what the test says."""
    return judge(
        identity=identity,
        before=before,
        arrival=arrival,
        writers=writers,
        marks=Marks(first_seen_s=first_seen_s, changed_s=changed_s, held_open_s=held_open_s),
        settle_s=settle_s,
        now=now(now_s),
    )


@pytest.mark.parametrize("arrival", list(Arrival))
@pytest.mark.parametrize("settle_s", [0.0, 2.0, 3600.0])
def test_busy_while_written(arrival: Arrival, settle_s: float) -> None:
    """A file that someone has open for writing is never ready, however it came and how old."""
    found = verdict(
        arrival=arrival, writers=Writers.OPEN, settle_s=settle_s, first_seen_s=0, changed_s=0
    )
    assert isinstance(found, Busy)
    assert 1 <= found.look_again_s <= 10


@pytest.mark.parametrize("writers", [Writers.NONE, Writers.UNKNOWN])
def test_renamed_at_once(writers: Writers) -> None:
    """A file renamed into place is ready at once, even where nobody knows who writes."""
    assert verdict(arrival=Arrival.RENAMED, writers=writers, identity=at(T)) == Ready()


def test_renamed_over_another() -> None:
    """A file renamed over one that was known is another inode, and ready at once."""
    old = replace(FILE, inode=77, size=1)
    assert verdict(arrival=Arrival.RENAMED, before=old, identity=at(T)) == Ready()


def test_another_inode_where_nobody_knows_who_writes() -> None:
    """It may have been made there and be half written: it has to be quiet, until a rename is seen.

    The simulator's seed 8780.
    """
    old, new = at(T, inode=9), at(T)
    found = verdict(
        arrival=Arrival.RENAMED, before=old, identity=new, writers=Writers.UNKNOWN, now_s=T
    )
    assert isinstance(found, Quiet)


def test_a_ctime_alone_where_nobody_knows_who_writes() -> None:
    """A write whose mtime was put back looks like this, so the rename vouches for nothing.

    The simulator's seed 27929.
    """
    before, after = at(T - 1), at(T)
    for writers, ready in ((Writers.UNKNOWN, False), (Writers.NONE, True)):
        found = verdict(
            arrival=Arrival.RENAMED, before=before, identity=after, writers=writers, now_s=T
        )
        assert isinstance(found, Ready) == ready


def test_renamed_then_rewritten() -> None:
    """A renamed file that is later changed in place has to be quiet like any written one."""
    before, after = at(T - 10), at(T, size=9)
    assert verdict(arrival=Arrival.RENAMED, before=before, identity=after) == Quiet(
        until_wall_s=T + 2
    )


@pytest.mark.parametrize(
    ("ctime_s", "changed_s", "until"),
    [
        (T - 1, T - 5, T + 1),  # the kernel knows of a later change than we saw
        (T - 5, T - 1, T + 1),  # an event came later than the change
        (T + 500, T - 1, T + 1),  # a ctime in the future is somebody else's clock
        (T - 2, T - 2, None),  # the border belongs to ready
        (T - 100, T - 100, None),
    ],
)
@pytest.mark.parametrize("writers", [Writers.NONE, Writers.UNKNOWN])
def test_written_waits_for_quiet(
    ctime_s: float, changed_s: float, until: float | None, writers: Writers
) -> None:
    """A file written in place is ready when it was quiet since the later of ctime and event."""
    found = verdict(identity=at(ctime_s), changed_s=changed_s, writers=writers)
    assert found == (Ready() if until is None else Quiet(until_wall_s=until))


def test_found_counts_from_ctime() -> None:
    """An old file that a scan finds is ready at once: its ctime says how long it has lain there."""
    assert verdict(arrival=Arrival.FOUND, identity=at(T - 3)) == Ready()


def test_preserved_mtime_is_no_age() -> None:
    """A copy that kept an old mtime is as young as its ctime."""
    young = at(T - 0.5, mtime_ns=0)
    assert verdict(arrival=Arrival.FOUND, identity=young) == Quiet(until_wall_s=T + 1.5)


def test_found_with_future_ctime() -> None:
    """A ctime in the future counts from first sight."""
    future = at(T + 1000)
    kept = {"arrival": Arrival.FOUND, "identity": future, "before": future}
    assert verdict(**kept, first_seen_s=T - 1) == Quiet(until_wall_s=T + 1)  # type: ignore[arg-type]
    assert verdict(**kept, first_seen_s=T - 2) == Ready()  # type: ignore[arg-type]


def test_found_with_unknown_writers() -> None:
    """Where nobody knows who writes, an old ctime does not help: our own watching counts."""
    old = at(T - 5000)
    kept = {"arrival": Arrival.FOUND, "writers": Writers.UNKNOWN, "identity": old, "before": old}
    assert verdict(**kept) == Quiet(until_wall_s=T + 2)  # type: ignore[arg-type]
    assert verdict(**kept, first_seen_s=T - 9, changed_s=T - 1) == Quiet(  # type: ignore[arg-type]
        until_wall_s=T + 1
    )
    assert verdict(**kept, first_seen_s=T - 9, changed_s=T - 2) == Ready()  # type: ignore[arg-type]


@pytest.mark.parametrize("arrival", [Arrival.WRITTEN, Arrival.FOUND])
def test_change_restarts_quiet(arrival: Arrival) -> None:
    """A file that is not what it was at the last look begins its quiet time anew."""
    found = verdict(
        arrival=arrival, before=replace(FILE, size=2), changed_s=T - 50, first_seen_s=T - 50
    )
    assert found == Quiet(until_wall_s=T + 2)


@pytest.mark.parametrize("writers", [Writers.NONE, Writers.UNKNOWN])
@pytest.mark.parametrize("arrival", list(Arrival))
def test_no_settle_trusts_the_kernel(writers: Writers, arrival: Arrival) -> None:
    """With settle = 0 only an open writer keeps a file back."""
    assert verdict(arrival=arrival, writers=writers, settle_s=0, identity=at(T)) == Ready()


def test_clock_set_back() -> None:
    """After the clock was set back a file waits one quiet time, not until the clock catches up."""
    later = at(T + 9000)
    marks = {"identity": later, "first_seen_s": T + 9000, "changed_s": T + 9000}
    assert verdict(**marks) == Quiet(until_wall_s=T + 2)  # type: ignore[arg-type]
    assert verdict(**marks, before=later) == Ready()  # type: ignore[arg-type]


def test_growing_file_is_never_given_up() -> None:
    """A file that grows at each look stays quiet for ever, and is ready once it stops."""
    before: Identity | None = None
    identity = at(T)
    moment, changed = T, T
    for size in range(1000):
        identity = at(moment, size=size)
        found = verdict(
            identity=identity,
            before=before,
            writers=Writers.UNKNOWN,
            changed_s=changed,
            now_s=moment,
        )
        assert isinstance(found, Quiet)
        before, changed, moment = identity, moment, found.until_wall_s
    found = verdict(
        identity=identity, before=before, writers=Writers.UNKNOWN, changed_s=changed, now_s=moment
    )
    assert found == Ready()


times = st.floats(min_value=T - 1e5, max_value=T + 1e5)
identities = st.builds(
    Identity,
    dev=st.just(1),
    inode=st.integers(1, 2),
    size=st.integers(0, 2),
    mtime_ns=st.integers(0, 1),
    ctime_ns=st.integers(int((T - 1e5) * 1e9), int((T + 1e5) * 1e9)),
)


@given(
    identity=identities,
    before=st.none() | identities,
    arrival=st.sampled_from(Arrival),
    writers=st.sampled_from(Writers),
    first_seen_s=times,
    changed_s=times,
    settle_s=st.just(0.0) | st.floats(min_value=1e-3, max_value=1e4),
    now_s=times,
)
def test_every_case_ends(
    identity: Identity,
    before: Identity | None,
    arrival: Arrival,
    writers: Writers,
    first_seen_s: float,
    changed_s: float,
    settle_s: float,
    now_s: float,
) -> None:
    """Whatever the clocks say, a file that stays as it is and unwritten is ready at its time."""
    marks = {
        "identity": identity,
        "arrival": arrival,
        "first_seen_s": first_seen_s,
        "changed_s": changed_s,
        "settle_s": settle_s,
    }
    found = verdict(**marks, before=before, writers=writers, now_s=now_s)  # type: ignore[arg-type]
    assert isinstance(found, Busy) == (writers is Writers.OPEN)
    if isinstance(found, Quiet):
        assert now_s < found.until_wall_s <= now_s + settle_s + 1e-3
        if before is not None and before != identity:
            marks["changed_s"] = now_s  # the engine notes the change that it saw
        again = verdict(
            **marks,  # type: ignore[arg-type]
            before=identity,
            writers=writers,
            now_s=found.until_wall_s,
        )
        if isinstance(again, Quiet):  # a mark that lay in the future has passed meanwhile
            last = verdict(
                **marks,  # type: ignore[arg-type]
                before=identity,
                writers=writers,
                now_s=again.until_wall_s,
            )
            assert last == Ready()


@pytest.mark.parametrize(
    ("held_open_s", "writers", "ready"),
    [
        (1.9, Writers.NONE, False),
        (2.0, Writers.NONE, True),
        (6.0, Writers.NONE, True),
        (6.0, Writers.UNKNOWN, False),
    ],
)
def test_a_long_writer_is_taken_at_its_word(
    held_open_s: float, writers: Writers, *, ready: bool
) -> None:
    """Whoever held it open for longer than the quiet time is done when the kernel says so."""
    found = verdict(identity=at(T), held_open_s=held_open_s, writers=writers)
    assert isinstance(found, Ready) == ready
