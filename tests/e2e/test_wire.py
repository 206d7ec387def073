"""A daemon and its service with a bad line between them."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from tests.support import outcome
from tests.support.daemon import DaemonProcess, Table
from tests.support.proxy import Does, Ends, Proxy, Trouble
from tests.support.proxy_plan import says
from tests.support.waiting import wait_until
from uploaderd.emulator import Call, Emulator
from uploaderd.emulator.objects import UploadStatus

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
QUICK: dict[str, Table] = {
    "transfer": {"stall_timeout": "1s"},
    "retry": {"max_wait": "50ms", "defer_max": "200ms"},
}
PART_IDS = "SELECT part_id FROM parts WHERE part_id IS NOT NULL"
PAGE = "<html><body>no</body></html>"


def contents_of(count: int, size: int = MIB + 65_536) -> dict[str, bytes]:
    """Files of two parts each, no part like another."""
    return {f"{n:02}.bin": random.Random(n).randbytes(size) for n in range(count)}


def page(status: str) -> bytes:
    """What a gateway says."""
    return says(status, PAGE, kind="text/html")


def faults(seed: int) -> list[Trouble]:
    """Every kind of fault once, for each of the calls that a file needs, in an order of chance."""
    made: list[Trouble] = []
    for call in ("create", "part", "complete"):
        made += [
            Trouble(does=Does.CUT_REQUEST, call=call, at=7, ends=Ends.RESET),
            Trouble(does=Does.CUT_REQUEST, call=call, at=-1, ends=Ends.CLOSE),
            Trouble(does=Does.CUT_REQUEST, call=call, at=0.5, ends=Ends.HALF),
            Trouble(does=Does.CUT_REPLY, call=call, at=0, ends=Ends.RESET),
            Trouble(does=Does.CUT_REPLY, call=call, at=0, ends=Ends.HALF),
            Trouble(does=Does.CUT_REPLY, call=call, at=20, ends=Ends.CLOSE),
            Trouble(does=Does.CUT_REPLY, call=call, at=-1, ends=Ends.RESET),
            Trouble(does=Does.REPLACE_REPLY, call=call, says=page("502 Bad Gateway")),
            Trouble(does=Does.REPLACE_REPLY, call=call, says=page("200 OK"), ends=Ends.STAY),
            Trouble(does=Does.REPLACE_REPLY, call=call, says=says("200 OK", '{"id":"pa')),
            Trouble(does=Does.ANSWER, call=call, at=-1, says=page("503 Busy"), ends=Ends.RESET),
            Trouble(does=Does.ANSWER, call=call, at=0.5, says=page("504 Late"), ends=Ends.STAY),
        ]
    made += [
        Trouble(does=Does.STALL_REQUEST, call="create", at=-1),
        Trouble(does=Does.STALL_REQUEST, call="part", at=0.5),
        Trouble(does=Does.STALL_REPLY, call="part", at=0),
        Trouble(does=Does.STALL_REPLY, call="complete", at=50),
        Trouble(does=Does.SLOW, call="part", rate_bps=MIB),
        Trouble(does=Does.CUT_REPLY, call="list", at=30, ends=Ends.RESET, times=2),
        Trouble(does=Does.REPLACE_REPLY, call="list", says=page("502 Bad Gateway")),
    ]
    random.Random(seed).shuffle(made)
    return made


@pytest.mark.parametrize("seed", [1, 2])
async def test_each_file_arrives_once_through_every_fault_of_a_line(
    seed: int, tmp_path: Path
) -> None:
    """Twelve files through forty-odd faults: each there once, whole, and little sent twice."""
    contents = contents_of(12)
    whole = sum(map(len, contents.values()))
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        Proxy(emulator.base_url) as proxy,
        DaemonProcess(tmp_path, proxy.base_url, config=QUICK) as daemon,
    ):
        plan = faults(seed)
        proxy.plan(*plan)
        for name, content in contents.items():
            daemon.drop(name, content)
        await daemon.start()
        await daemon.until_drained(60)
        outcome.assert_arrived(emulator, daemon, contents)
        assert outcome.unended(daemon.state_dir) == []
        assert not [one for one in proxy.unspent if one.call != "list"]
        struck = sum(one.fired for one in plan if one.call == "part")
        assert whole <= emulator.stats.bytes_received <= whole + struck * MIB
        resent = sum(
            outcome.read_receipt(daemon.spool / "done" / name)["bytes_resent"] for name in contents
        )
        assert outcome.sent_twice(emulator, whole) <= resent <= struck * MIB
        parts = {part for (part,) in outcome.ask_journal(daemon.state_dir, PART_IDS)}
        assert parts <= set(emulator.store.parts), "a part's id was invented"


WRONG: dict[str, list[object]] = {
    "create": [[], {}, {"id": None}, {"id": 7}, {"id": "a\nb"}, {"id": "x" * 10_240}],
    "part": [
        [{"id": "part_0"}],
        {"object": "upload.part"},
        {"id": None},
        {"id": 7},
        {"id": "part_0\n"},
        {"id": "p" * 10_240},
        {"id": "part_0", "upload_id": "upload_0"},
        {"id": "upload_0", "object": "upload", "status": "pending"},
    ],
    "complete": [
        [],
        {"status": "completed"},
        {"id": None, "status": "completed", "file": {"id": "file-0"}},
        {"id": "upload_0", "status": "completed", "file": {"id": "file-0"}},
        {"id": "{id}", "status": "cancelled", "file": {"id": "file-0"}},
        {"id": "{id}", "status": "completed", "file": None},
        {"id": "{id}", "status": "completed", "file": {"id": 7}},
        {"id": "{id}", "status": "completed", "file": {"id": "file-0\n"}},
        {"id": "{id}", "status": "completed", "file": {"id": "f" * 10_240}},
    ],
    "list": [[], {"data": {}}, {"data": [{"id": None}]}, {"data": ["file-0"]}],
}


async def test_nothing_is_made_up_of_a_success_of_the_wrong_shape(tmp_path: Path) -> None:
    """The service acts, and its replies come out wrong: no id is invented, each file is there once.

    For half of the requests the service has acted; the others never came through to it.
    """
    contents = contents_of(8, 4000)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        Proxy(emulator.base_url) as proxy,
        DaemonProcess(tmp_path, proxy.base_url, config=QUICK) as daemon,
    ):
        for call, shapes in WRONG.items():
            for number, shape in enumerate(shapes):
                does = Does.ANSWER if number % 2 and call != "list" else Does.REPLACE_REPLY
                raw = json.dumps(shape).encode()
                proxy.plan(
                    Trouble(does=does, call=call, at=MIB, says=raw, wraps=True, ends=Ends.STAY)
                )
        for name, content in contents.items():
            daemon.drop(name, content)
        await daemon.start()
        await daemon.until_drained(60)
        outcome.assert_arrived(emulator, daemon, contents)
        assert outcome.unended(daemon.state_dir) == []
        assert not [one for one in proxy.unspent if one.call != "list"]
        parts = {part for (part,) in outcome.ask_journal(daemon.state_dir, PART_IDS)}
        assert parts <= set(emulator.store.parts), "a part's id was invented"


@pytest.mark.parametrize("call", ["create", "part", "complete", "list"])
async def test_a_redirect_holds_the_file_and_takes_the_key_nowhere(
    call: str, tmp_path: Path
) -> None:
    """The other address is never asked; the target waits, and says what a person must do."""
    content = {"a.txt": b"not elsewhere"}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        Proxy(emulator.base_url) as elsewhere,
        Proxy(emulator.base_url) as proxy,
        DaemonProcess(tmp_path, proxy.base_url, config=QUICK) as daemon,
    ):
        moved = says("307 Temporary Redirect", "", f"Location: {elsewhere.base_url}/uploads")
        proxy.plan(Trouble(does=Does.ANSWER, call=call, at=-1, says=moved, times=1000))
        if call == "list":
            proxy.plan(Trouble(does=Does.CUT_REPLY, call="complete"))
        await daemon.start()
        daemon.drop("a.txt", content["a.txt"])

        async def shut() -> bool:
            return bool((await daemon.status())["targets"][0]["state"] == "redirect")

        await wait_until(shut, what="the target to be shut by the redirect")
        row = await daemon.until_state("a.txt", "uncertain" if call == "list" else "held")
        if call != "list":
            assert row["reason"]["code"] == "held.redirect"
            assert f"points to {elsewhere.base_url}/uploads" in row["reason"]["text"]
            assert "Set the target's base_url" in row["reason"]["text"]
        assert elsewhere.connections == 0
        assert await daemon.stop() == 0
        proxy.clear()
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, content)
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("status", "code"), [("401 Unauthorized", "auth"), ("413 Content Too Large", "part_too_large")]
)
async def test_a_refusal_in_the_middle_of_a_part_is_not_taken_for_a_broken_line(
    status: str, code: str, tmp_path: Path
) -> None:
    """It comes early and the connection is reset: the file waits for a person, and says why."""
    contents = {"a.bin": random.Random(1).randbytes(8 * MIB)}
    config = QUICK | {"transfer": {"part_size": "4MiB"}}
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        Proxy(emulator.base_url) as proxy,
        DaemonProcess(tmp_path, proxy.base_url, config=config) as daemon,
    ):
        raw = says(status, '{"error":{"message":"no"}}', "Connection: close")
        for ends in (Ends.RESET, Ends.CLOSE):
            proxy.plan(Trouble(does=Does.ANSWER, call="part", at=0.5, says=raw, ends=ends, times=1))
        proxy.plan(
            Trouble(does=Does.ANSWER, call="part", at=300_000, says=raw, ends=Ends.HALF, times=1000)
        )
        await daemon.start()
        daemon.drop("a.bin", contents["a.bin"])
        row = await daemon.until_state("a.bin", "held")
        assert row["reason"]["code"] == f"held.{code}"
        assert emulator.stats.count(Call.PART) == 0
        assert await daemon.stop() == 0
        proxy.clear()
        await daemon.start()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, contents)
        uploads = emulator.store.uploads
        await wait_until(
            lambda: all(one.status is not UploadStatus.PENDING for one in uploads.values()),
            what="no session to be left open",
        )


async def test_a_service_that_is_gone_for_a_while_is_waited_for(tmp_path: Path) -> None:
    """Connections are reset and refused, in the middle of a part: it goes on where it was."""
    contents = contents_of(1, 6 * MIB)
    async with (
        Emulator(store=tmp_path / "store") as emulator,
        Proxy(emulator.base_url) as proxy,
        DaemonProcess(tmp_path, proxy.base_url, config=QUICK) as daemon,
    ):
        proxy.plan(Trouble(does=Does.STALL_REQUEST, call="part", at=0.5, skip=2, times=4))
        await daemon.start()
        daemon.drop("00.bin", contents["00.bin"])
        await emulator.stats.until(lambda stats: stats.counts[Call.PART, "200"] >= 2)
        await proxy.go_away()
        row = await daemon.until_state("00.bin", "deferred")
        assert row["reason"]["code"] == "deferred.network"
        proxy.clear()
        await proxy.listen()
        await daemon.until_drained()
        outcome.assert_arrived(emulator, daemon, contents)
        assert emulator.stats.uploads_created == 1
