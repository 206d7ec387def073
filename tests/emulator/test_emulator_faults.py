"""Faults: the grammar they are written in, and what each one does to a client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.emulator.kit import service
from uploaderd.emulator import Call, Emulator, Fault, FaultPlan, Outcome, parse_fault
from uploaderd.emulator.faults import Action, Point
from uploaderd.emulator.server import GRACE_S
from uploaderd.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"0123456789"
MIB = 1 << 20


def test_grammar_in_full() -> None:
    """Every key of the grammar lands in the fault; commas in bodies and dates are no separators."""
    fault = parse_fault(
        "call=part,action=refuse,status=429,header=Retry-After:Sat, 21 Nov 2026 20:00:00 GMT,"
        'header=x-should-retry: true,body={"error":{"message":"a, b","code":null}},at=64KiB,'
        "close=true,skip=2,times=3,probability=0.15,seed=7"
    )
    assert (fault.call, fault.action, fault.status) == (Call.PART, Action.REFUSE, 429)
    assert fault.headers == (
        ("Retry-After", "Sat, 21 Nov 2026 20:00:00 GMT"),
        ("x-should-retry", "true"),
    )
    assert fault.body == '{"error":{"message":"a, b","code":null}}'
    assert (fault.at, fault.at_bytes, fault.close) == (Point.BODY, 65536, True)
    assert (fault.skip, fault.times, fault.probability, fault.seed) == (2, 3, 0.15, 7)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "'' is not one of call=, action="),
        ("call=part", "action= is missing: one of refuse, garble, cut"),
        ("action=explode", "action= is one of refuse, garble, cut, lose, stall, slow, expire"),
        ("call=parts,action=cut", "call= is one of create, part, complete"),
        ("colour=red,action=cut", "'colour=red' is not one of call="),
        ("action=cut,action=lose", "action= stands twice"),
        ("action=refuse,status=99", "status= is a whole number, between 200 and 599, not '99'"),
        ("action=refuse,status=ok", "not 'ok'"),
        ("action=cut,status=503", "status= belongs to refuse, garble, not to cut"),
        ("action=lose,at=before", "at= belongs to refuse, garble, cut, stall, expire"),
        ("action=cut,at=middle", "at= is before, after, reply or a number of bytes"),
        ("action=cut,at=0", "at= is a number of bytes"),
        ("action=stall,seconds=soon", "seconds= is a number, 0 or more, not 'soon'"),
        ("action=stall,seconds=nan", "not 'nan'"),
        ("action=slow", "rate= is missing"),
        ("action=slow,rate=64KB", "rate= is a number of bytes, such as 65536 or 64KiB"),
        ("action=refuse,header=Retry-After", "header= is NAME:VALUE"),
        ("action=refuse,header=a b:c", "header= is NAME:VALUE"),
        ("action=refuse,header=a:b\r\nc:d", "control character"),
        ("action=cut,times=0", "times= is a whole number, 1 or more"),
        ("action=cut,skip=-1", "skip= is a whole number, 0 or more"),
        ("action=cut,probability=2", "probability= is a number, between 0 and 1"),
        ("action=refuse,close=yes", "close= is one of true, false"),
    ],
)
def test_grammar_refuses(spec: str, words: str) -> None:
    """A wrong spec is refused in one line that names the wrong bit and what is allowed."""
    with pytest.raises(UsageError) as caught:
        parse_fault(spec)
    assert words in str(caught.value)


@given(st.text(max_size=60) | st.from_regex(r"(call|action|at|times|rate)=[a-z0-9,=]*"))
def test_grammar_never_breaks(spec: str) -> None:
    """Whatever is written, it is a fault or a usage error."""
    with contextlib.suppress(UsageError):
        assert parse_fault(spec).spec == spec


def test_skip_times_and_calls() -> None:
    """A fault lets `skip` matching requests pass, strikes `times` times, and counts both."""
    plan = FaultPlan()
    armed = plan.add("call=part,action=cut,skip=1,times=2")
    struck = [
        bool(plan.draw(call)) for call in (Call.CREATE, Call.PART, Call.PART, Call.PART, Call.PART)
    ]
    assert struck == [False, False, True, True, False]
    assert (armed.matched, armed.fired) == (4, 2)


def test_chance_is_repeatable() -> None:
    """One seed gives one sequence, about as often as the probability says."""

    def sequence(seed: int) -> list[bool]:
        plan = FaultPlan([f"action=cut,probability=0.15,seed={seed}"])
        return [bool(plan.draw(Call.PART)) for _ in range(1000)]

    assert sequence(7) == sequence(7)
    assert sequence(7) != sequence(8)
    assert 100 < sum(sequence(7)) < 200


def test_wrong_fault_leaves_the_plan() -> None:
    """Replacing the faults by a list with a wrong one changes nothing."""
    plan = FaultPlan(["action=cut"])
    with pytest.raises(UsageError):
        plan.replace(["action=lose", "action=explode"])
    assert [armed.fault.action for armed in plan] == [Action.CUT]
    plan.clear()
    assert list(plan) == []


async def test_refuse(tmp_path: Path) -> None:
    """A refusal answers with the given status and headers in the service's shape, then stops."""
    fault = "call=create,action=refuse,status=429,header=Retry-After:1,code=slow_down,times=1"
    async with service(tmp_path, faults=[fault]) as api:
        reply = await api.create()
        assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
        assert reply.error["code"] == "slow_down"
        assert (await api.create()).status == 200
        assert api.emulator.stats.uploads_created == 1
        record = api.emulator.stats.requests[0]
        assert (record.status, record.faults) == (429, (fault,))


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, "invalid_request_error", "invalid_api_key"),
        (429, "requests", "rate_limit_exceeded"),
        (500, "server_error", None),
        (503, "server_error", "server_is_overloaded"),
    ],
)
async def test_refuse_by_status_alone(
    tmp_path: Path, status: int, kind: str, code: str | None
) -> None:
    """A status alone brings the type and code that the service has for it."""
    async with service(tmp_path, faults=[f"action=refuse,status={status}"]) as api:
        reply = await api.create()
        assert (reply.status, reply.error["type"], reply.error["code"]) == (status, kind, code)


async def test_refuse_with_a_body(tmp_path: Path) -> None:
    """A refusal may have any body, such as a gateway's page."""
    fault = "action=refuse,status=502,body=<html>Bad, bad gateway</html>"
    async with service(tmp_path, faults=[fault]) as api:
        reply = await api.create()
        assert (reply.status, reply.text) == (502, "<html>Bad, bad gateway</html>")
        assert reply.headers["Content-Type"].startswith("text/html")


async def test_refuse_before_the_body(tmp_path: Path) -> None:
    """A part that is refused before its body has none of its bytes counted or stored."""
    async with service(tmp_path) as api:
        upload_id = (await api.create()).id
        api.emulator.faults.add("call=part,action=refuse,status=503,times=1")
        assert (await api.part(upload_id, DATA)).status == 503
        assert api.emulator.stats.bytes_received == 0
        assert (await api.part(upload_id, DATA)).status == 200


async def test_refuse_after_the_body(tmp_path: Path) -> None:
    """A part that is refused after its body was read is not stored."""
    async with service(tmp_path) as api:
        upload_id = (await api.create()).id
        api.emulator.faults.add("call=part,action=refuse,at=after")
        assert (await api.part(upload_id, DATA)).status == 503
        assert api.emulator.stats.bytes_received == 10
        assert (await api.state())["uploads"][0]["parts"] == []


async def test_answer_in_mid_body_and_close(tmp_path: Path) -> None:
    """An answer in the middle of a body, with the connection closed, leaves the rest unread."""
    async with service(tmp_path) as api:
        upload_id = (await api.create(16 * MIB)).id
        api.emulator.faults.add("call=part,action=refuse,status=413,at=1MiB,close=true")
        with contextlib.suppress(aiohttp.ClientError):
            assert (await api.part(upload_id, bytes(16 * MIB))).status == 413
        attempt = api.emulator.stats.part_attempts(upload_id)[0]
        assert attempt.status == 413
        assert MIB <= attempt.bytes_received < 2 * MIB


@pytest.mark.parametrize(
    ("at", "low", "high"),
    [("before", 0, 0), ("1MiB", MIB, 2 * MIB), ("after", 4 * MIB, 4 * MIB)],
)
async def test_cut(tmp_path: Path, at: str, low: int, high: int) -> None:
    """A connection is cut before, within or after the body; nothing is stored."""
    async with service(tmp_path) as api:
        upload_id = (await api.create(4 * MIB)).id
        api.emulator.faults.add(f"call=part,action=cut,at={at}")
        with pytest.raises(aiohttp.ClientError):
            await api.part(upload_id, bytes(4 * MIB))
        attempt = api.emulator.stats.part_attempts(upload_id)[0]
        assert attempt.outcome is Outcome.CUT
        assert low <= attempt.bytes_received <= high
        assert (await api.state())["uploads"][0]["parts"] == []


async def test_cut_in_a_body_too_short(tmp_path: Path) -> None:
    """A cut after more bytes than the body has strikes at its end."""
    async with service(tmp_path, faults=["call=create,action=cut,at=1MiB,times=1"]) as api:
        with pytest.raises(aiohttp.ClientError):
            await api.create()
        assert api.emulator.stats.uploads_created == 0


async def test_lose_create(tmp_path: Path) -> None:
    """A lost create has opened an upload that the client never hears of."""
    async with service(tmp_path, faults=["call=create,action=lose,times=1"]) as api:
        with pytest.raises(aiohttp.ClientError):
            await api.create()
        record = api.emulator.stats.requests[0]
        assert (record.outcome, record.status) == (Outcome.LOST, None)
        assert record.upload_id == (await api.state())["uploads"][0]["id"]


async def test_lose_part(tmp_path: Path) -> None:
    """A lost part is stored under an id that the client never hears of."""
    async with service(tmp_path) as api:
        upload_id = (await api.create()).id
        api.emulator.faults.add("call=part,action=lose")
        with pytest.raises(aiohttp.ClientError):
            await api.part(upload_id, DATA)
        record = api.emulator.stats.part_attempts(upload_id)[0]
        assert record.outcome is Outcome.LOST
        assert record.part_id == (await api.state())["uploads"][0]["parts"][0]["id"]


async def test_lose_complete_and_cancel(tmp_path: Path) -> None:
    """A lost complete has made its file, a lost cancel has ended its upload."""
    async with service(tmp_path) as api:
        upload_id, other_id = (await api.create()).id, (await api.create()).id
        part_id = (await api.part(upload_id, DATA)).id
        api.emulator.faults.add("call=complete,action=lose")
        api.emulator.faults.add("call=cancel,action=lose")
        with pytest.raises(aiohttp.ClientError):
            await api.complete(upload_id, part_id)
        with pytest.raises(aiohttp.ClientError):
            await api.cancel(other_id)
        state = await api.state()
        assert {one["id"]: one["status"] for one in state["uploads"]} == {
            upload_id: "completed",
            other_id: "cancelled",
        }
        assert len(state["files"]) == 1


async def test_lost_refusal_is_a_cut(tmp_path: Path) -> None:
    """Where the service refused to act, a lost reply counts as cut, not as lost."""
    async with service(tmp_path, faults=["call=cancel,action=lose"]) as api:
        with pytest.raises(aiohttp.ClientError):
            await api.cancel("upload_none")
        assert api.emulator.stats.requests[0].outcome is Outcome.CUT


@pytest.mark.parametrize("at", ["before", "5", "after", "reply"])
async def test_stall(tmp_path: Path, at: str) -> None:
    """A stall holds the request for its time at its point, then lets it go on."""
    async with service(tmp_path) as api:
        upload_id = (await api.create()).id
        api.emulator.faults.add(f"call=part,action=stall,seconds=0.2,at={at}")
        began = time.monotonic()
        assert (await api.part(upload_id, DATA)).status == 200
        assert time.monotonic() - began >= 0.2


async def test_stall_for_ever(tmp_path: Path) -> None:
    """A stall without an end lasts until the emulator stops, which it does not delay."""
    emulator = Emulator(store=tmp_path, faults=["call=list,action=stall"])
    await emulator.start()
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer x"}) as session:
        waiting = asyncio.create_task(session.post(f"{emulator.base_url}/uploads", json={}))
        assert (await waiting).status == 400
        waiting = asyncio.create_task(session.get(f"{emulator.base_url}/files"))
        async with asyncio.timeout(10):
            await emulator.stats.until(lambda stats: stats.count("list"))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        began = time.monotonic()
        await emulator.stop()
        assert time.monotonic() - began < GRACE_S / 2
        with pytest.raises(aiohttp.ClientError):
            await waiting
    assert emulator.stats.requests[-1].outcome is Outcome.CUT


async def test_slow(tmp_path: Path) -> None:
    """A slow body is read at about its rate."""
    async with service(tmp_path) as api:
        upload_id = (await api.create(2 * MIB)).id
        api.emulator.faults.add("call=part,action=slow,rate=4MiB")
        began = time.monotonic()
        assert (await api.part(upload_id, bytes(2 * MIB))).status == 200
        assert 0.45 < time.monotonic() - began < 5


async def test_expire(tmp_path: Path) -> None:
    """An upload may expire before its hour, or as soon as it is created."""
    async with service(tmp_path) as api:
        upload_id = (await api.create()).id
        armed = api.emulator.faults.add("call=part,action=expire,times=1")
        assert (await api.part(upload_id, DATA)).status == 400
        assert armed.fired == 1
        api.emulator.faults.replace(["call=create,action=expire"])
        early = await api.create()
        assert early.document["status"] == "pending"
        states = [upload["status"] for upload in (await api.state())["uploads"]]
        assert states == ["expired", "expired"]


async def test_expire_after_the_body(tmp_path: Path) -> None:
    """An upload may expire while a part's body is on its way; the part is refused."""
    async with service(tmp_path, faults=["call=part,action=expire,at=after"]) as api:
        upload_id = (await api.create()).id
        assert (await api.part(upload_id, DATA)).status == 400
        assert api.emulator.stats.bytes_received == 10


@pytest.mark.parametrize(
    ("more", "text", "created"),
    [
        ("", '{"id": "upl', 1),
        (",body=<html></html>", "<html></html>", 1),
        (",at=before,body={}", "{}", 0),
    ],
)
async def test_garble(tmp_path: Path, more: str, text: str, created: int) -> None:
    """A garbled reply is a 200 that makes no sense; the service acted, unless told before."""
    async with service(tmp_path, faults=[f"call=create,action=garble{more}"]) as api:
        reply = await api.create()
        assert (reply.status, reply.text) == (200, text)
        assert api.emulator.stats.uploads_created == created


@pytest.mark.parametrize(
    ("call", "act"),
    [
        ("create", lambda api: api.create()),
        ("part", lambda api: api.part("upload_x", DATA)),
        ("complete", lambda api: api.complete("upload_x", "p")),
        ("cancel", lambda api: api.cancel("upload_x")),
        ("list", lambda api: api.call("GET", "/files")),
        ("retrieve", lambda api: api.call("GET", "/files/x")),
        ("content", lambda api: api.call("GET", "/files/x/content")),
        ("delete", lambda api: api.call("DELETE", "/files/x")),
        ("upload_file", lambda api: api.call("POST", "/files")),
    ],
)
async def test_each_call_has_its_name(tmp_path: Path, call: str, act: object) -> None:
    """A fault strikes the call it names and no other; `any` strikes all."""
    assert callable(act)
    async with service(tmp_path, faults=[f"call={call},action=refuse,status=555"]) as api:
        assert (await act(api)).status == 555
        others = [one for one in Call if one not in {Call.ANY, Call(call)}]
        assert all(not api.emulator.faults.draw(other) for other in others)
        api.emulator.faults.replace(["call=any,action=refuse,status=556"])
        assert (await act(api)).status == 556


async def test_several_faults_strike_one_request(tmp_path: Path) -> None:
    """Faults combine: a stalled create may be lost as well."""
    faults = ["call=create,action=stall,seconds=0.1", "call=create,action=lose"]
    async with service(tmp_path, faults=faults) as api:
        began = time.monotonic()
        with pytest.raises(aiohttp.ClientError):
            await api.create()
        assert time.monotonic() - began >= 0.1
        assert api.emulator.stats.uploads_created == 1


async def test_fault_as_a_value(tmp_path: Path) -> None:
    """In process a fault may be given as a value in place of a spec, with the same defaults."""
    fault = Fault(call=Call.LIST, action=Action.REFUSE, status=500)
    async with service(tmp_path, faults=[fault]) as api:
        assert (await api.call("GET", "/files")).status == 500
        api.emulator.faults.replace([Fault(action=Action.LOSE, times=1)])
        with pytest.raises(aiohttp.ClientError):
            await api.create()
        assert api.emulator.stats.uploads_created == 1


def test_wrong_fault_is_told_before_the_start(tmp_path: Path) -> None:
    """An emulator with a wrong fault does not begin."""
    with pytest.raises(UsageError, match="explode"):
        Emulator(store=tmp_path, faults=["action=explode"])


async def test_faults_come_before_the_key(tmp_path: Path) -> None:
    """A gateway's refusal needs no key, since faults strike before the key is looked at."""
    async with service(tmp_path, api_key="other", faults=["action=refuse,times=1"]) as api:
        assert (await api.create()).status == 503
        assert (await api.create()).status == 401
