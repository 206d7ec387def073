"""What a service answers, right or spoilt, becomes a value that it really gave, or an error."""

from __future__ import annotations

import asyncio
import json
import math
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from tests.client.wire import Heard, Steps, TheKey, listening, talking
from tests.fuzz.kit import ODD, TEXT, VALUES, effort, is_sentence, mutated, spoilt, written
from uploaderd.client import Client, CreateSpec
from uploaderd.client.address import Paths, TargetAddress
from uploaderd.client.exchange import Reply
from uploaderd.client.replies import Reader, RemoteFile, RemoteUpload
from uploaderd.core.report import rfc3339
from uploaderd.core.retry import (
    RETRY_AFTER_CAP_S,
    Call,
    Classification,
    classify,
    parse_retry_after,
)
from uploaderd.errors import ServiceError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# What failed is shown all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

SECRET = "9f8e7d6c5b4a39281706f5SECRET"  # noqa: S105 - a key that has no shape of its own
UPLOAD_ID = "upload_0123456789abcdef"
FILE: dict[str, Any] = {
    "id": "file-0123456789abcdef",
    "object": "file",
    "bytes": 5,
    "created_at": 1_700_000_000,
    "expires_at": None,
    "filename": "a.txt",
    "purpose": "user_data",
    "status": "processed",
}
UPLOAD: dict[str, Any] = {
    "id": UPLOAD_ID,
    "object": "upload",
    "bytes": 5,
    "created_at": 1_700_000_000,
    "expires_at": 1_700_003_600,
    "filename": "a.txt",
    "purpose": "user_data",
    "status": "pending",
    "file": None,
}
DOCUMENTS: dict[Call, dict[str, Any]] = {
    Call.CREATE: UPLOAD,
    Call.PART: {
        "id": "part_1",
        "object": "upload.part",
        "created_at": 1_700_000_000,
        "upload_id": UPLOAD_ID,
    },
    Call.COMPLETE: {**UPLOAD, "status": "completed", "file": FILE},
    Call.CANCEL: {**UPLOAD, "status": "cancelled"},
    Call.LIST: {"object": "list", "data": [FILE, {**FILE, "id": "file-2"}], "has_more": False},
}
ERROR = {
    "error": {
        "message": f"Incorrect API key provided: {SECRET}. Upload is not pending.",
        "type": "invalid_request_error",
        "param": "bytes",
        "code": "invalid_api_key",
    }
}
CALLS = st.sampled_from(list(Call))
STATUSES = st.sampled_from([200, 201, 400, 404, 429, 500]) | st.integers(100, 999)
NAMES = st.sampled_from(
    [
        *("retry-after", "retry-after-ms", "x-should-retry", "date", "x-request-id", "server"),
        *("content-type", "location", "set-cookie", "x-ratelimit-reset-requests"),
    ]
)
HEADER_VALUES = st.sampled_from(
    [
        *("", "0", "1", "-5", "1e999", "nan", "inf", "9" * 400, "1_000", "１２", "true", "false"),  # noqa: RUF001 - float() reads them
        *("TRUE ", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Zzz 99999 99:99:99 +9999"),
        *(formatdate(2**31), "Mon, 1 Jan 0001 00:00:00 -0000", "1 a 1", ",", "; ;", SECRET),
        *("Fri, 31 Dec 9999 23:59:59 -2359", "text/html", "http://elsewhere/", "x" * 8000),
    ]
) | st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"))
HEADERS = st.dictionaries(NAMES, HEADER_VALUES, max_size=4)
BODIES = st.one_of(
    CALLS.flatmap(lambda call: mutated(DOCUMENTS[call])),
    mutated(ERROR),
    mutated({"error": ERROR["error"]["message"]}),
    mutated({"detail": [ERROR]}),
    VALUES.map(lambda value: written(value).encode()),
    ODD.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=64),
    spoilt(b"<html><h1>502 Bad Gateway</h1>" + SECRET.encode() + b"</html>"),
)


def ids_in(body: bytes) -> list[object]:
    """Every id of every object in a body."""
    said: list[object] = []

    def note(pairs: list[tuple[str, object]]) -> None:
        said.extend(value for name, value in pairs if name == "id")

    json.loads(body.decode("utf-8-sig", "replace"), object_pairs_hook=note, parse_int=float)
    return said


def good_id(value: str, body: bytes) -> None:
    """Assert that an id is one of the document's and can stand in a URL's path."""
    assert value in ids_in(body), "an id is never made up"
    url = Paths(TargetAddress(name="t", base_url="https://h/v1")).upload(value, "parts")
    middle = url.removeprefix("https://h/v1/uploads/").removesuffix("/parts")
    assert middle.isascii()
    assert middle not in {"", ".", ".."}
    assert not set(middle) & set("/?#\\ \n\r\0")


def good_file(found: RemoteFile, body: bytes) -> None:
    """Assert that a file is what the body says, and that it can be kept and written again."""
    good_id(found.id, body)
    assert found.bytes is None or 0 <= found.bytes < 2**63
    stamp(found.created_at)
    kept = msgspec.json.encode(found.document)
    assert msgspec.json.decode(kept)["id"] == found.id
    json.dumps(found.document, ensure_ascii=False).encode("utf-8")
    (found.filename + found.purpose).encode("utf-8")


def good_upload(found: RemoteUpload, body: bytes) -> None:
    """The same of an upload."""
    good_id(found.id, body)
    stamp(found.created_at)
    stamp(found.expires_at)


def stamp(value: float | None) -> None:
    """Assert that a time is none, or one that can be written down."""
    assert value is None or (math.isfinite(value) and value > 0 and rfc3339(value))


def good_error(error: ServiceError) -> None:
    """Assert that an error is one bounded sentence without the key."""
    assert is_sentence(str(error), limit=600), str(error)
    assert error.hint == "" or is_sentence(error.hint, limit=300)
    assert len(error.request_id) <= 80
    assert error.request_id.isprintable()
    assert error.status is None or isinstance(error.status, int)
    for text in (str(error), repr(error), error.hint, error.code, error.request_id):
        assert SECRET not in text
    if isinstance(error, TransientError) and error.retry_after_s is not None:
        assert 0 <= error.retry_after_s <= RETRY_AFTER_CAP_S


def read(call: Call, reply: Reply) -> None:
    """Do with a reply what the client does."""
    reader = Reader(SECRET)
    body = reply.body
    if reply.status not in {200, 201}:
        good_error(reader.refuse(call, reply))
        return
    code = "bad_reply"
    try:
        match call:
            case Call.PART:
                good_id(reader.part(reply, upload_id=UPLOAD_ID), body)
            case Call.CREATE:
                good_upload(reader.upload(call, reply, expected=None), body)
            case Call.CANCEL:
                found = reader.upload(call, reply, expected=UPLOAD_ID)
                assert found.id == UPLOAD_ID
            case Call.COMPLETE:
                document = reader.document(call, reply)
                good_upload(reader.upload_in(call, reply, document, expected=UPLOAD_ID), body)
                good_file(reader.file(call, reply, document.get("file")), body)
            case Call.LIST:
                data = reader.document(call, reply).get("data")
                for each in data if isinstance(data, list) else []:
                    good_file(reader.file(call, reply, each), body)
    except TransientError as error:
        event("refused")
        good_error(error)
        code = error.code
    else:
        event("read")
    assert code == "bad_reply", "a success that is not believed is nothing else"


@pytest.mark.parametrize("depth", [*range(1, 80), 500, 900, 990, 999, 5000])
def test_a_nested_document_is_written_again_from_anywhere_or_is_refused(depth: int) -> None:
    """What could be read near the stack's bottom must not break a writer near its top."""
    body = b'{"id": "f", "more": ' + b"[" * depth + b"]" * depth + b"}"
    reply = reply_of(200, {}, body)
    reader = Reader(SECRET)
    try:
        found = reader.file(Call.COMPLETE, reply, reader.document(Call.COMPLETE, reply))
    except TransientError:
        assert depth > 60
        return
    assert depth < 64
    further_up(600, lambda: msgspec.json.encode(found.document))


def further_up(frames: int, act: Callable[[], object]) -> object:
    """Do something with so many frames more on the stack."""
    return act() if frames == 0 else further_up(frames - 1, act)


def reply_of(status: int, headers: Mapping[str, str], body: bytes, cut: str = "") -> Reply:
    """A reply that was read whole, unless told otherwise."""
    return Reply(status=status, headers=headers, body=body, cut=cut, unasked=False)


def right_call() -> st.SearchStrategy[tuple[Call, bytes]]:
    """A call and a spoilt document of its own kind."""
    return CALLS.flatmap(lambda call: st.tuples(st.just(call), mutated(DOCUMENTS[call])))


@given(right_call(), st.sampled_from([200, 201]), HEADERS)
@example((Call.PART, b'{"id": "p", "upload_id": []}'), 200, {})
@example((Call.PART, b'{"id": "p", "upload_id": {}}'), 200, {})
@example((Call.PART, rb'{"id": "part_\ud800"}'), 200, {})
@example((Call.PART, b'{"id": "part_\xed\xa0\x80"}'), 200, {})
@example(
    (Call.COMPLETE, b'{"id": "%s", "file": {"id": "f", "x": "\xed\xa0\x80"}}' % UPLOAD_ID.encode()),
    200,
    {},
)
@example((Call.CREATE, b'{"id": "u", "created_at": 1e300}'), 200, {})
@example((Call.CREATE, b'{"id": "u", "created_at": 253402300800}'), 200, {})
@example((Call.LIST, json.dumps({"data": [FILE]}).encode("utf-16")), 200, {})
@effort(600)
def test_a_success_is_what_it_says_or_is_not_believed(
    told: tuple[Call, bytes], status: int, headers: dict[str, str]
) -> None:
    """Ids are the service's own and fit into a path; what is not understood is an open outcome."""
    read(told[0], reply_of(status, headers, told[1]))


@given(CALLS, STATUSES, HEADERS, BODIES)
@effort(500)
def test_any_answer_is_a_value_or_an_error_in_one_sentence(
    call: Call, status: int, headers: dict[str, str], body: bytes
) -> None:
    """Whatever the status, the headers and the body are, and wherever the key is echoed."""
    read(call, reply_of(status, headers, body))


ANY_HEADERS = st.dictionaries(NAMES, HEADER_VALUES | TEXT, max_size=5)
ANY_ERRORS = st.none() | st.dictionaries(
    st.sampled_from(["message", "code", "type", "param", "detail"]) | TEXT, VALUES, max_size=5
)


@given(CALLS, st.integers() | STATUSES, ANY_HEADERS, ANY_ERRORS, st.none() | st.floats())
@example(Call.LIST, 429, {"retry-after": "Mon, 1 Jan 0001 00:00:00 -0000"}, None, None)
@effort(500)
def test_classify_is_total(
    call: Call,
    status: int,
    headers: dict[str, str],
    error: dict[str, Any] | None,
    wall_s: float | None,
) -> None:
    """Every status with every header and error document means something."""
    found = classify(call, status, headers, error, wall_s=wall_s)
    assert isinstance(found, Classification)
    wait_s = parse_retry_after(headers, wall_s)
    assert wait_s is None or 0 <= wait_s <= RETRY_AFTER_CAP_S
    assert found.retry_after_s is None or 0 <= found.retry_after_s <= RETRY_AFTER_CAP_S


# --- the same over a wire -------------------------------------------------------------------------


@st.composite
def raw_replies(draw: st.DrawFn) -> bytes:
    """Bytes that a server may send: as a rule HTTP, whole or cut, in one of three framings."""
    status = draw(STATUSES)
    body = draw(BODIES | right_call().map(lambda told: told[1]))
    words = [f"HTTP/1.1 {status} Words", *(f"{k}: {v}" for k, v in draw(HEADERS).items())]
    framing = draw(st.sampled_from(["length", "length", "length", "chunked", "close", "wrong"]))
    if framing == "length":
        words.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        words.append("Transfer-Encoding: chunked")
        body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    elif framing == "wrong":
        words.append(f"Content-Length: {draw(ODD | st.just(str(len(body) + 9)))[:4000]}")
    words += draw(st.sampled_from([[], [], ["Content-Encoding: gzip"], ["Connection: upgrade"]]))
    raw = "\r\n".join(words).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body
    return draw(spoilt(raw)) if draw(st.integers(0, 3)) == 0 else raw


CASES: dict[Call, Callable[[Client], Any]] = {
    Call.CREATE: lambda client: client.create(
        CreateSpec(
            filename="a", purpose="user_data", size=5, mime_type="text/plain", expires_after_s=None
        ),
        request_id="r",
    ),
    Call.PART: lambda client: client.add_part(UPLOAD_ID, Steps([b"hello"]), request_id="r"),
    Call.COMPLETE: lambda client: client.complete(UPLOAD_ID, ["p"], "0" * 32, request_id="r"),
    Call.CANCEL: lambda client: client.cancel(UPLOAD_ID, request_id="r"),
    Call.LIST: lambda client: client.list_files("user_data", created_after=None, request_id="r"),
}


async def told(call: Call, raw: bytes) -> None:
    """Let a real client ask a server that says these bytes and closes."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(raw)

    async with listening(script) as wire, talking(wire.base_url, key=TheKey(SECRET)) as client:
        try:
            found = await CASES[call](client)
        except ServiceError as error:
            event(type(error).__name__)
            good_error(error)
            return
    event("read")
    match found:
        case str():
            good_id(found, _body_of(raw))
        case RemoteUpload():
            good_upload(found, _body_of(raw))
        case RemoteFile():
            good_file(found, _body_of(raw))
        case _:
            pass


def _body_of(raw: bytes) -> bytes:
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"chunked" in head:
        return body.partition(b"\r\n")[2].removesuffix(b"\r\n0\r\n\r\n")
    return body


def test_any_bytes_from_a_server_are_a_value_or_an_error() -> None:
    """The real client on a real socket, whatever comes back."""
    with asyncio.Runner() as runner:

        @given(CALLS, raw_replies() | st.binary(max_size=40))
        @effort(100)
        def case(call: Call, raw: bytes) -> None:
            runner.run(told(call, raw))

        case()
