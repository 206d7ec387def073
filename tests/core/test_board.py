"""The book of parts on the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uploaderd.core.board import Board, Finding
from uploaderd.core.model import Part, PartState
from uploaderd.core.values import replace


def planned(count: int, length: int = 10) -> list[Part]:
    """Parts that are still to be sent."""
    return [Part(upload="u", number=n + 1, offset=n * length, length=length) for n in range(count)]


def stored(part: Part, digest: bytes = b"d" * 16) -> Part:
    """The same part, stored."""
    return replace(part, state=PartState.STORED, digest=digest, part_id=f"part_{part.number}")


def land(board: Board, part: Part, digest: bytes = b"d" * 16) -> Finding:
    """Store a flying part."""
    board.update(stored(part, digest))
    return board.landed(part.number)


def test_parts_are_taken_in_order_and_each_once() -> None:
    """Until none is waiting."""
    board = Board(planned(3))
    assert [board.take().number for _ in range(3)] == [1, 2, 3]
    assert not board.waiting
    with pytest.raises(IndexError):
        board.take()


def test_a_part_that_was_not_stored_is_the_next_to_be_sent() -> None:
    """It goes to the front, so that the ordered pass does not run away from it."""
    board = Board(planned(3))
    first = board.take()
    board.update(replace(first, state=PartState.AMBIGUOUS))
    assert board.landed(first.number) is Finding.OPEN
    assert board.take().number == 1


def test_it_is_complete_when_every_part_is_stored_and_proved() -> None:
    """Neither alone is enough."""
    board = Board(planned(2))
    for part in (board.take(), board.take()):
        land(board, part)
    assert not board.complete
    assert board.seen(1, b"d" * 16) is Finding.SAME
    assert not board.complete
    assert board.seen(2, b"d" * 16) is Finding.SAME
    assert board.complete


def test_it_is_untouched_until_a_request_left() -> None:
    """Of this run or of an earlier one."""
    first, second = planned(2)
    assert Board([first, second]).untouched
    assert not Board([replace(first, state=PartState.AMBIGUOUS, sends=1), second]).untouched
    board = Board([first, second])
    board.update(replace(board.take(), state=PartState.IN_FLIGHT, sends=1))
    assert not board.untouched


def test_a_part_that_differs_is_not_complete_while_the_journal_forgets_it() -> None:
    """Nothing may end in between, or complete would name the part that was disproved."""
    board = Board([stored(part) for part in planned(2)])
    board.seen(1, b"d" * 16)
    assert board.seen(2, b"x" * 16) is Finding.RESEND
    assert not board.complete


def test_ids_come_in_the_order_of_the_file_not_of_arrival() -> None:
    """Only the order of part ids counts for the service."""
    board = Board(planned(3))
    parts = [board.take() for _ in range(3)]
    for part in reversed(parts):
        land(board, part)
    assert board.part_ids == ["part_1", "part_2", "part_3"]


def test_a_part_of_an_earlier_run_that_differs_from_the_disk_is_sent_again() -> None:
    """The journal's digest proves the stored part, not the part the disk."""
    board = Board([stored(part) for part in planned(2)])
    assert board.seen(1, b"x" * 16) is Finding.RESEND
    board.disproved(replace(planned(2)[0]))
    assert board.waiting
    assert land(board, board.take(), b"x" * 16) is Finding.SAME
    assert board.seen(2, b"d" * 16) is Finding.SAME
    assert board.complete


@pytest.mark.parametrize("seen_first", [True, False])
def test_a_part_of_this_run_that_differs_means_that_the_file_changed(seen_first: bool) -> None:
    """Whether the pass or the sender read it first."""
    board = Board(planned(1))
    part = board.take()
    if seen_first:
        board.seen(1, b"x" * 16)
        assert land(board, part) is Finding.CHANGED
    else:
        land(board, part)
        assert board.seen(1, b"x" * 16) is Finding.CHANGED


def test_progress_counts_stored_bytes_and_flying_parts() -> None:
    """Bytes in flight are not stored."""
    board = Board(planned(3))
    land(board, board.take())
    board.take()
    assert (board.progress.stored, board.progress.in_flight) == (1, 1)
    assert board.progress.bytes_stored == 10
    assert board.front == 20


def test_an_id_that_was_given_before_is_known() -> None:
    """A service that repeats one is not believed."""
    first, second = planned(2)
    stored = replace(first, state=PartState.STORED, part_id="part_1", digest=bytes(16))
    board = Board([stored, second])
    assert not board.claim("part_1")
    assert board.claim("part_2")
    assert not board.claim("part_2")


@given(st.data())
def test_any_order_of_sending_failing_and_proving_ends_complete(data: st.DataObject) -> None:
    """No part is lost, none is sent while it is stored, and the end is reached."""
    count = data.draw(st.integers(1, 8))
    earlier = data.draw(st.sets(st.integers(1, count)))
    board = Board([stored(p) if p.number in earlier else p for p in planned(count)])
    flying: list[Part] = []
    unproved = list(range(1, count + 1))
    for _ in range(200):
        moves = [
            m for m, on in (("take", board.waiting), ("land", flying), ("see", unproved)) if on
        ]
        if not moves:
            break
        match data.draw(st.sampled_from(moves)):
            case "take":
                part = board.take()
                assert part.number not in earlier
                assert part.number not in {p.number for p in flying}
                flying.append(part)
            case "land":
                part = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
                if data.draw(st.booleans()):
                    land(board, part)
                else:
                    board.landed(part.number)
            case _:
                board.seen(unproved.pop(0), b"d" * 16)
    while board.waiting or flying:
        land(board, flying.pop() if flying else board.take())
    for number in unproved:
        board.seen(number, b"d" * 16)
    assert board.complete
    assert board.part_ids == [f"part_{n}" for n in range(1, count + 1)]
