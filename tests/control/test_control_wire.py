"""HTTP's chunks and server-sent events, however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uploaderd.control.wire import EVENT_BYTES, HEAD_BYTES, Answer, Event, Parser

STREAM = (
    "\ufeffretry: 2500\n\nevent: status\ndata: {}\n\n: a comment\n\n"
    "event: file\nid: e-1\ndata: one\ndata:two\n\n"
    "id: e-2\ndata\n\nevent: nothing\n\n"
    "event: file\r\nid: e-3\r\ndata: 日本\r\nfuture: x\r\n\r\n"
    "retry: soon\rdata: last\r\rdata: half"
).encode()
EVENTS = [
    Event(kind="status", data="{}", id=""),
    Event(kind="file", data="one\ntwo", id="e-1"),
    Event(kind="message", data="", id="e-2"),
    Event(kind="file", data="日本", id="e-3"),
    Event(kind="message", data="last", id="e-3"),
]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    """Cut bytes at some places."""
    edges = sorted({0, len(whole), *(place % (len(whole) + 1) for place in places)})
    return [whole[a:b] for a, b in pairwise(edges)]


def chunked(pieces: list[bytes]) -> bytes:
    """Write pieces as chunks, with an end."""
    found = b"".join(b"%x;odd=1\r\n%b\r\n" % (len(one), one) for one in pieces if one)
    return CHUNKED + found + b"0\r\n\r\n"


CUTS = st.lists(st.integers(0, 2000), max_size=30)


@settings(max_examples=100, deadline=None)
@given(CUTS)
def test_the_events_are_the_same_however_they_are_cut(places: list[int]) -> None:
    """In the middle of a letter, between CR and LF, within a field's name."""
    parser = Parser()
    assert [event for some in cut(STREAM, places) for event in parser.feed(some)] == EVENTS
    assert (parser.retry_s, parser.last_id) == (2.5, "e-3")


def test_each_byte_alone_makes_the_same_events() -> None:
    """The smallest pieces that there are."""
    parser = Parser()
    found = [event for byte in STREAM for event in parser.feed(bytes([byte]))]
    assert found == EVENTS


def test_after_a_break_the_half_event_is_forgotten_and_the_id_is_not() -> None:
    """A new connection begins with nothing of the old one but where to go on."""
    parser = Parser()
    parser.feed(b"id: e-1\ndata: x\n\nevent: file\ndata: half")
    parser.broken()
    assert parser.last_id == "e-1"
    assert parser.feed(b"data: y\n\n") == [Event(kind="message", data="y", id="e-1")]


def test_an_event_without_an_end_is_refused() -> None:
    """Neither one line nor many may grow for ever."""
    with pytest.raises(ValueError, match="does not come to an end"):
        Parser().feed(b"data: " + bytes(EVENT_BYTES))
    parser = Parser()
    many = (b"data: " + b"x" * (EVENT_BYTES // 16) + b"\n") * 20
    with pytest.raises(ValueError, match="does not come to an end"):
        list(map(parser.feed, cut(many, list(range(0, len(many), 1 << 16)))))


@settings(max_examples=100, deadline=None)
@given(CUTS, CUTS)
def test_a_chunked_body_is_whole_however_it_is_cut(chunks: list[int], pieces: list[int]) -> None:
    """The chunks of the sender and the pieces that arrive have nothing to do with each other."""
    answer = Answer()
    body = b"".join(answer.feed(some) for some in cut(chunked(cut(STREAM, chunks)), pieces))
    assert body == STREAM
    assert (answer.status, answer.ended, answer.endless) == (200, True, False)


def test_a_body_of_known_length_ends_there() -> None:
    """What comes behind it is not its own."""
    answer = Answer()
    assert answer.feed(HEAD + b"Content-Length: 3\r\n\r\nabcdef") == b"abc"
    assert answer.ended


def test_a_body_of_unknown_length_ends_with_the_connection() -> None:
    """Only the reader knows that."""
    answer = Answer()
    assert answer.feed(HEAD + b"\r\nabc") == b"abc"
    assert (answer.ended, answer.endless) == (False, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"x" * (HEAD_BYTES + 1),
        CHUNKED + b"zz\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"fffffffffffffffff\r\n",
        CHUNKED + b"1\r\nab\r\n",
        CHUNKED + b"1" * 2000,
    ],
)
def test_what_is_no_http_is_refused(raw: bytes) -> None:
    """With a sentence."""
    with pytest.raises(ValueError, match=r"^(what answers|the answer|a chunk)"):
        Answer().feed(raw)
