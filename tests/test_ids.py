"""Ids: unique whoever asks, and in the order of their times."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from uploaderd.app import _new_id

COUNT = 5000  # some pages of chance


def test_an_id_is_a_uuid_that_begins_with_its_time() -> None:
    """Version 7 of RFC 9562, in lower case without dashes, and its first 48 bits are the time."""
    before_ms = time.time_ns() // 1_000_000
    made = [_new_id() for _ in range(COUNT)]
    after_ms = time.time_ns() // 1_000_000
    for each in made:
        found = uuid.UUID(hex=each)
        assert (found.version, found.variant, found.hex) == (7, uuid.RFC_4122, each)
        assert before_ms <= int(each[:12], 16) <= after_ms
    assert [each[:12] for each in made] == sorted(each[:12] for each in made)


def test_no_two_ids_share_their_chance_whichever_thread_asks() -> None:
    """What is drawn at once is given out once: 74 bits that no other id has."""

    def some(_: int) -> list[str]:
        return [_new_id() for _ in range(COUNT)]

    with ThreadPoolExecutor(8) as threads:
        made = [each for many in threads.map(some, range(8)) for each in many]
    assert len({each[12:] for each in made}) == 8 * COUNT
    bits = [0] * 80
    for each in made:
        chance = int(each[12:], 16)
        for place in range(80):
            bits[place] += chance >> place & 1
    fixed = {place for place, count in enumerate(bits) if count in {0, len(made)}}
    assert fixed == {62, 63, 76, 77, 78, 79}
