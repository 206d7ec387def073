"""What the calls make of answers: lists, completions and who may be believed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from tests.client.wire import Heard, against, reply, talking
from uploaderd.client import Client, CreateSpec, TargetAddress, open_session
from uploaderd.errors import (
    ChecksumError,
    ConfigError,
    RejectedError,
    ServiceError,
    SessionLostError,
    TransientError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.wire import Script

SPEC = CreateSpec(
    filename="a.jsonl", purpose="batch", size=5, mime_type="application/jsonl", expires_after_s=7200
)


def a_file(number: int, created_at: object, **more: object) -> dict[str, Any]:
    """A file object."""
    return {
        "id": f"file-{number}",
        "object": "file",
        "bytes": 5,
        "created_at": created_at,
        "filename": "a.txt",
        "purpose": "batch",
        **more,
    }


def answers(*documents: object) -> tuple[Script, list[dict[str, list[str]]]]:
    """Answer one request after the other; the queries that came are kept."""
    left = list(documents)
    queries: list[dict[str, list[str]]] = []

    async def script(heard: Heard) -> None:
        while True:
            await heard.read_all()
            heard.body.clear()
            queries.append(parse_qs(urlsplit(heard.line.split()[1]).query))
            await heard.say(reply("200 OK", json.dumps(left.pop(0))))

    return script, queries


async def test_a_list_is_paged_to_its_end_through_after() -> None:
    """Each page begins after the last file of the one before."""
    script, queries = answers(
        {"data": [a_file(4, 40), a_file(3, 30)], "has_more": True},
        {"data": [a_file(2, 20)], "has_more": True},
        {"data": [a_file(1, 10)], "has_more": False},
    )
    async with against(script) as (client, _):
        found = await client.list_files("batch", created_after=None, request_id="r")
    assert [each.id for each in found] == ["file-4", "file-3", "file-2", "file-1"]
    assert [query.get("after") for query in queries] == [None, ["file-3"], ["file-2"]]
    assert {query["purpose"][0] for query in queries} == {"batch"}
    assert {query["order"][0] for query in queries} == {"desc"}
    assert found[0].document == a_file(4, 40)


async def test_a_list_ends_at_files_older_than_what_is_looked_for() -> None:
    """No further page is asked for, and older files are left out."""
    script, queries = answers(
        {"data": [a_file(4, 40), a_file(3, 30), a_file(2, 5)], "has_more": True}
    )
    async with against(script) as (client, _):
        found = await client.list_files("batch", created_after=30, request_id="r")
    assert [each.id for each in found] == ["file-4", "file-3"]
    assert len(queries) == 1


async def test_a_list_in_the_wrong_order_is_read_to_its_end() -> None:
    """A server that ignores the order asked for must not hide the newest file."""
    script, _ = answers(
        {"data": [a_file(1, 1), a_file(2, 2), a_file(3, 9), a_file(4, 3)], "has_more": True},
        {"data": [a_file(5, 50)], "has_more": False},
    )
    async with against(script) as (client, _):
        found = await client.list_files("batch", created_after=30, request_id="r")
    assert [each.id for each in found] == ["file-5"]


async def test_a_file_without_a_stamp_or_a_size_stays_in_the_list() -> None:
    """What the service leaves out, or garbles, excludes nothing."""
    odd: list[object] = [None, "soon", True, -1, 10**400, 1e999]
    script, _ = answers(
        {"data": [a_file(n, stamp, bytes=None, filename=None) for n, stamp in enumerate(odd[:5])]}
    )
    async with against(script) as (client, _):
        found = await client.list_files("batch", created_after=30, request_id="r")
    assert len(found) == 5
    assert {(each.created_at, each.bytes, each.filename) for each in found} == {(None, None, "")}


@pytest.mark.parametrize(
    "pages",
    [
        [{"data": [a_file(1, 10)], "has_more": True}] * 2,
        [{"data": {}, "has_more": False}],
        [{"has_more": False}],
        [{"data": [{"object": "file"}]}],
        [{"data": ["file-1"]}],
        [[a_file(1, 10)]],
        [{"data": [a_file(n, 10)], "has_more": True} for n in range(60)],
    ],
)
async def test_a_list_that_cannot_be_read_to_its_end_is_an_error(pages: list[object]) -> None:
    """A shorter list would make our file look absent."""
    script, _ = answers(*pages)
    async with against(script) as (client, _):
        with pytest.raises(TransientError) as caught:
            await client.list_files("batch", created_after=None, request_id="r")
    assert (caught.value.code, caught.value.acted) == ("bad_reply", False)


GOOD = {"id": "u", "status": "completed", "file": a_file(1, 10, bytes=None)}


async def test_a_completed_upload_gives_its_file() -> None:
    """The nested file comes back whole; its size may be missing."""
    script, _ = answers(GOOD)
    async with against(script) as (client, wire):
        found = await client.complete("u", ["p2", "p1"], "0" * 32, request_id="r")
    assert (found.id, found.bytes, found.created_at) == ("file-1", None, 10.0)
    assert (found.filename, found.purpose) == ("a.txt", "batch")
    assert wire.heard[0].line == "POST /v1/uploads/u/complete HTTP/1.1"


async def test_a_file_s_document_can_be_written_down_again() -> None:
    """Half a surrogate pair or a number beyond 64 bits must not break the journal or a receipt."""
    script, _ = answers({**GOOD, "file": a_file(1, 10, name="\ud800é😀", big=10**400, fair=2**53)})
    async with against(script) as (client, _wire):
        found = await client.complete("u", ["p"], "0" * 32, request_id="r")
    again = msgspec.json.decode(msgspec.json.encode(found.document))
    assert (again["name"], again["big"], again["fair"]) == ("\ufffdé😀", None, 2**53)


@pytest.mark.parametrize(
    "document",
    [
        {**GOOD, "file": None},
        {**GOOD, "file": {}},
        {**GOOD, "file": {"id": 5}},
        {**GOOD, "status": "pending"},
        {**GOOD, "status": "cancelled"},
        {**GOOD, "id": "other"},
        {"status": "completed", "file": a_file(1, 10)},
        [],
    ],
)
async def test_a_completion_that_cannot_be_believed_is_open(document: object) -> None:
    """No file id is made up: the outcome is to be reconciled."""
    script, _ = answers(document)
    async with against(script) as (client, _):
        with pytest.raises(TransientError) as caught:
            await client.complete("u", ["p"], "0" * 32, request_id="r")
    assert (caught.value.code, caught.value.acted) == ("bad_reply", True)


async def test_a_new_upload_that_is_already_closed_is_not_used() -> None:
    """An id whose upload takes no parts is no upload to begin with."""
    script, _ = answers({"id": "u", "status": "expired"})
    async with against(script) as (client, _):
        with pytest.raises(TransientError):
            await client.create(SPEC, request_id="r")


async def test_the_life_of_the_remote_file_is_asked_for() -> None:
    """expires_after is anchored at the creation."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(reply("200 OK", '{"id":"u"}'))

    async with against(script) as (client, wire):
        upload = await client.create(SPEC, request_id="r")
    assert (upload.status, upload.created_at) == ("", None)
    assert json.loads(wire.heard[0].body)["expires_after"] == {
        "anchor": "created_at",
        "seconds": 7200,
    }


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ('{"error":{"message":"md5 does not match"}}', ChecksumError, "checksum"),
        ('{"error":"Upload is not pending"}', SessionLostError, "not_pending"),
        ('{"detail":"No such part"}', SessionLostError, "parts_lost"),
        ('{"error":{"message":"nonsense"}}', RejectedError, "rejected"),
        ("<html>Bad gateway</html>", TransientError, "gateway"),
        ('{"error":{"message":7,"code":[],"type":{}}}', TransientError, "gateway"),
    ],
)
async def test_a_refusal_becomes_the_error_that_says_what_is_next(
    text: str, kind: type[ServiceError], code: str
) -> None:
    """The error document is read wherever servers put it."""

    async def script(heard: Heard) -> None:
        await heard.read_all()
        await heard.say(reply("400 Bad Request", text))

    async with against(script) as (client, _):
        with pytest.raises(kind) as caught:
            await client.complete("u", ["p"], "0" * 32, request_id="r")
    assert (caught.value.code, caught.value.status) == (code, 400)


@pytest.mark.parametrize(
    "url",
    ["", "api.openai.com/v1", "ftp://h/v1", "http://", "http://h:0/", "http://h:x/", "http://h /v1",
     "https://key@h/v1", "https://a:b@h/v1", "https://h/v1?api-version=1", "https://h/v1#x",
     "https://h/\nv1", "http://[::1/v1"],
)  # fmt: skip
async def test_an_address_that_could_lead_the_key_astray_is_refused(url: str) -> None:
    """Nothing is sent to what is no plain http or https URL."""
    with pytest.raises(ConfigError) as caught:
        async with talking(url):
            pass
    assert "a:b" not in str(caught.value)


async def test_a_ca_file_that_cannot_be_used_is_a_matter_of_configuration(tmp_path: Path) -> None:
    """Missing or no certificate: the error names the file."""
    (tmp_path / "junk").write_text("junk")
    for name in ("missing", "junk"):
        async with talking("https://127.0.0.1:1/v1", ca_file=tmp_path / name) as client:
            with pytest.raises(ConfigError, match=name):
                await client.cancel("u", request_id="r")


async def test_making_a_client_does_nothing_and_shows_nothing() -> None:
    """The constructor does no I/O and never asks for the key."""

    class Silent:
        def reveal(self) -> str:
            raise AssertionError

    async with open_session(connections=1) as session:
        address = TargetAddress(name="t", base_url="http://127.0.0.1:1/v1")
        client = Client(address, Silent(), stall_s=1, session=session)
    assert repr(client) == "<Client of 't' at http://127.0.0.1:1/v1>"
