"""What comes back is not what the service said: gateways, redirects, wrong shapes, strays."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.stage import CALLS, Stage, staged
from tests.client.wire import Steps
from tests.support.proxy import Does, Ends, Proxy, Trouble
from tests.support.proxy_plan import says
from uploaderd.errors import ServiceError, TargetBlockedError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Document = dict[str, Any]

PAGE = "<html><body><h1>Something on the way says no</h1></body></html>"


async def told(stage: Stage, name: str, raw: bytes, ends: Ends = Ends.CLOSE) -> ServiceError:
    """Ask, and be told this in place of what the service said."""
    times = 2 if name == "list" and not raw else 1
    stage.proxy.plan(Trouble(does=Does.REPLACE_REPLY, call=name, says=raw, ends=ends, times=times))
    return await stage.fails(name)


@pytest.mark.parametrize("name", CALLS)
async def test_a_reply_that_nobody_asked_for_is_not_the_next_one_s(
    name: str, tmp_path: Path
) -> None:
    """What comes on an idle connection ends it; the next request goes over another, and works."""
    async with staged(tmp_path) as stage:
        await stage.call("list")
        alone = stage.proxy.connections
        for number, before in enumerate(("create", "part", "list"), 1):
            stray = Trouble(does=Does.STRAY, call=before)
            stage.proxy.plan(stray)
            await stage.call(before)
            await stray.over.wait()
            held = stage.held()
            found = await stage.call(name)
            assert stage.proxy.seen[-1].call == name
            assert stage.proxy.connections == alone + number
            assert name == "list" or stage.held() != held
            assert name != "part" or found in stage.emulator.store.parts
            if name in {"complete", "cancel"}:
                stage.upload_id = str(await stage.call("create"))
                stage.part_id = str(await stage.call("part"))


@pytest.mark.parametrize("name", CALLS)
async def test_a_service_that_always_speaks_first_is_an_error(name: str, tmp_path: Path) -> None:
    """Another protocol's greeting is no reply, and each new connection is as bad: that ends."""
    async with staged(tmp_path) as stage:
        before = stage.held()
        stage.proxy.greeting = b"220 mail.example ESMTP ready\r\n"
        await stage.proxy.go_away()
        await stage.proxy.listen()
        error = await stage.fails(name)
        assert isinstance(error, TransientError)
        assert error.code in {"network", "bad_reply"}
        assert error.acted or stage.held() == before


@pytest.mark.parametrize("name", CALLS)
async def test_a_redirect_of_any_call_leads_the_key_nowhere(name: str, tmp_path: Path) -> None:
    """Whatever it says and wherever it points, nobody is asked there, and it says what to do."""
    async with staged(tmp_path) as stage, Proxy(stage.emulator.base_url) as elsewhere:
        there = elsewhere.base_url
        places = [f"{there}/uploads", there.removeprefix("http:"), "/v1/elsewhere", "", "::"]
        before, asked = stage.held(), len(stage.proxy.seen)
        statuses = ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
        for tries, (status, place) in enumerate(product(statuses, places), 1):
            raw = says(status, PAGE, f"Location: {place}", kind="text/html")
            ends = Ends.STAY if tries % 2 else Ends.CLOSE
            stage.proxy.plan(Trouble(does=Does.ANSWER, call=name, at=1 << 20, says=raw, ends=ends))
            error = await stage.fails(name)
            assert isinstance(error, TargetBlockedError)
            assert (error.code, error.status, error.acted) == ("redirect", int(status[:3]), False)
            assert f"points to {place or 'nowhere'}" in str(error)
            assert "base_url" in error.hint
            assert len(stage.proxy.seen) == asked + tries
        assert elsewhere.connections == 0
        assert stage.held() == before


@pytest.mark.parametrize("name", CALLS)
async def test_a_gateway_s_page_is_an_error_that_passes(name: str, tmp_path: Path) -> None:
    """Whatever its status, no page is taken for a success or for the service's last word."""
    expected = {
        "200 OK": "bad_reply",
        "400 Bad Request": "gateway",
        "403 Forbidden": "gateway",
        "500 Internal Server Error": "server_error",
        "502 Bad Gateway": "server_error",
        "503 Service Unavailable": "server_error",
        "504 Gateway Timeout": "server_error",
        "520 Web server error": "server_error",
    }
    async with staged(tmp_path) as stage:
        for (status, code), ends in product(expected.items(), [Ends.CLOSE, Ends.STAY]):
            error = await told(stage, name, says(status, PAGE, kind="text/html"), ends)
            assert isinstance(error, TransientError), status
            assert error.code == code, status
            # Such a page may stand for a reply that got lost; "gateway" means that it kept it out.
            assert error.acted == (name != "list" and code != "gateway"), status


BAD_IDS: list[object] = [
    None, 7, 7.5, True, "", " ", "..", "a b", "a\nb", "a\x00b", "a\x7fb", "é", "x" * 10_240,
    [], {}, ["part_1"],
]  # fmt: skip


NO_LISTS: list[object] = [None, {}, "", 7, [[]], ["file_1"], [None]]
NO_FILES: list[object] = [None, [], {}, "file_1", 7]
OTHERS: list[object] = ["upload_0", 7, "", {}, []]


def wrong_shapes(name: str, good: Document) -> Iterator[object]:
    """Documents that look like a success of a call and are none."""
    yield from ([], [good], "", "upload_1", 7, True, None, {}, {"error": good})
    if name == "list":
        yield from ({**good, "data": odd} for odd in NO_LISTS)
        yield from ({**good, "data": [{"object": "file", "id": odd}]} for odd in BAD_IDS)
        return
    yield {key: value for key, value in good.items() if key != "id"}
    yield from ({**good, "id": odd} for odd in BAD_IDS)
    if name == "part":
        yield from ({**good, "upload_id": odd} for odd in OTHERS)
        yield from ({**good, "object": word} for word in ("upload", "file", "list", "error"))
        yield {**good, "id": good["upload_id"], "object": None}
        return
    yield from ({**good, "object": word} for word in ("upload.part", "file", "list", "error"))
    if name == "create":
        yield from ({**good, "status": word} for word in ("cancelled", "completed", "expired"))
        return
    yield {**good, "id": "upload_0"}
    yield {**good, "status": "pending"}
    if name == "complete":
        yield from ({**good, "status": word} for word in ("cancelled", "expired", "failed"))
        yield from ({**good, "file": odd} for odd in NO_FILES)
        yield from ({**good, "file": {**good["file"], "id": odd}} for odd in BAD_IDS)


@pytest.mark.parametrize("name", CALLS)
async def test_a_success_of_the_wrong_shape_is_none(name: str, tmp_path: Path) -> None:
    """No id is made up of it: the outcome is open."""
    async with staged(tmp_path) as stage:
        reply = (await stage.whole(name)).reply
        good = json.loads(reply.partition(b"\r\n\r\n")[2])
        texts = [json.dumps(shape).encode() for shape in wrong_shapes(name, good)]
        whole = json.dumps(good).encode()
        texts += [whole[:-1], whole + b"}", whole + whole, b"\xff" + whole, b"[" * 50_000]
        for lines, text in enumerate(texts, stage.proxy.connections):
            error = await told(stage, name, says("200 OK", text), Ends.STAY)
            assert stage.proxy.connections == lines, "a line that may be out of step was kept"
            assert isinstance(error, TransientError), text
            assert error.code == "bad_reply", text
            assert error.acted == (name != "list"), text


LACKING = {"chunked", "too long"}  # even all of the document is not all that was announced


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("form", ["until the end", "chunked", "too long", "too short"])
async def test_a_document_cut_at_any_byte_is_no_success(
    form: str, name: str, tmp_path: Path
) -> None:
    """However its length is told, or if it is not: nothing less than all of it counts."""
    async with staged(tmp_path) as stage:
        reply = (await stage.whole(name)).reply
        text = reply.partition(b"\r\n\r\n")[2]
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        step = 1 if form == "until the end" else 7  # there the document alone says that it is cut
        ends = [*range(0, len(text), step), *([len(text)] if form in LACKING else [])]
        for end in ends:
            raw = {
                "until the end": head + b"\r\n" + text[:end],
                "chunked": head
                + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(text)
                + text[:end],
                "too long": head + b"Content-Length: %d\r\n\r\n" % (len(text) + 1) + text[:end],
                "too short": head + b"Content-Length: %d\r\n\r\n" % end + text,
            }[form]
            error = await told(stage, name, raw)
            assert isinstance(error, TransientError), end
            assert error.code == "bad_reply", end
            assert error.acted or name == "list", end


@pytest.mark.parametrize("status", ["401 Unauthorized", "413 Content Too Large"])
@pytest.mark.parametrize("ends", list(Ends))
async def test_a_refusal_in_the_middle_of_a_part_is_heard(
    ends: Ends, status: str, tmp_path: Path
) -> None:
    """However the connection ends after it, and wherever in the body it comes."""
    size = 4 << 20
    code = {"401": "auth", "413": "part_too_large"}[status[:3]]
    async with staged(tmp_path) as stage:
        before = stage.held()
        for at in (1, 400, 70_000, 0.5, -100_000) * 3:
            raw = says(status, '{"error":{"message":"no"}}', "Connection: close")
            stage.proxy.plan(Trouble(does=Does.ANSWER, call="part", at=at, says=raw, ends=ends))
            with pytest.raises(TargetBlockedError) as caught:
                await stage.client.add_part(
                    stage.upload_id, Steps([bytes(65_536)] * (size // 65_536)), request_id="r"
                )
            assert (caught.value.code, caught.value.acted) == (code, False), at
        assert stage.held() == before
        assert (await stage.call("part")) in stage.emulator.store.parts
