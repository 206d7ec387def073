"""A whole daemon before a service that answers with anything for a while, and then well."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.client.wire import Heard, listening, reply
from tests.fuzz.kit import TIMES
from tests.support.daemon import DaemonProcess
from tests.support.outcome import ask_journal, read_receipt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MAD_REPLIES = 30
MIB = 2**20
# What stands in place of a value in a document. No text that could pass for an id or a size: a
# service that lies in good form is to be believed.
ODD = (
    *("null", "[]", "{}", "true", "-1", "1e999", "9" * 400, '""', '"a b"', '"..."', '"\\ud800"'),
    *(
        '"part_\\ud800"',
        '"part_\\u0000"',
        '"' + "x" * 2000 + '"',
        "[" * 900 + "]" * 900,
        "NaN",
        "}",
    ),
)
STORED = (
    "SELECT uploads.remote_id, parts.number, parts.offset, parts.length, parts.part_id"
    " FROM parts JOIN uploads ON uploads.key = parts.upload WHERE parts.part_id IS NOT NULL"
)


@dataclass(slots=True)
class Session:
    """One upload: the parts that were acted upon, and how it ended."""

    size: int
    filename: str
    purpose: str
    parts: dict[str, bytes] = field(default_factory=dict)
    status: str = "pending"


class MadService:
    """Acts on a request or not, and answers with bytes of its own choice, before it is well.

    Attributes:
        given: the ids of parts that were given in a right document with status 200, with the
            upload and the content that they were given for.
        files: what was completed.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.left = MAD_REPLIES
        self.sessions: dict[str, Session] = {}
        self.given: dict[str, tuple[str, bytes]] = {}
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self._count = 0

    def _id(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count:08x}"

    async def serve(self, heard: Heard) -> None:
        """Answer one connection's requests until a reply ends it."""
        while True:
            heard.body.clear()
            await heard.read_all()
            if not await self._answer(heard):
                return

    async def _answer(self, heard: Heard) -> bool:
        method, target, _ = heard.line.split()
        path = target.partition("?")[0].removeprefix("/v1/").split("/")
        mad = self.left > 0
        self.left -= mad
        if mad and self.chance.random() < 0.3:  # nothing is done
            await heard.say(self._nonsense())
            return False
        status, document = self._act(method, path, bytes(heard.body))
        if not mad or (status == 200 and self.chance.random() < 0.3):
            if status == 200:
                self._give(document)
            await heard.say(reply(f"{status} X", json.dumps(document)))
            return True
        await heard.say(self._spoilt(document) if status == 200 else self._nonsense())
        return False

    def _act(self, method: str, path: list[str], body: bytes) -> tuple[int, dict[str, Any]]:
        if path == ["files"]:
            found = [document for document, _ in self.files.values()]
            return 200, {"object": "list", "data": found[::-1], "has_more": False}
        if method == "POST" and path == ["uploads"]:
            asked = json.loads(body)
            upload_id = self._id("upload_")
            self.sessions[upload_id] = Session(asked["bytes"], asked["filename"], asked["purpose"])
            return 200, self._upload(upload_id)
        session = self.sessions.get(path[1])
        if session is None or session.status != "pending":
            return 400, {
                "error": {"message": "Upload is not pending", "code": "upload_not_pending"}
            }
        if path[2] == "parts":
            part_id = self._id("part_")
            session.parts[part_id] = body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]
            session.parts[part_id] = session.parts[part_id].removesuffix(b"\r\n")
            return 200, {"id": part_id, "object": "upload.part", "upload_id": path[1]}
        if path[2] == "cancel":
            session.status = "cancelled"
            return 200, self._upload(path[1])
        return self._complete(path[1], session, json.loads(body))

    def _complete(
        self, upload_id: str, session: Session, asked: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        content = b"".join(session.parts.get(each, b"") for each in asked["part_ids"])
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != asked["md5"]:
            return 400, {"error": {"message": "the md5 does not match", "code": "md5"}}
        session.status = "completed"
        file_id = self._id("file-")
        file = {"id": file_id, "object": "file", "bytes": len(content), "created_at": 1_700_000_000}
        file |= {"filename": session.filename, "purpose": session.purpose, "status": "processed"}
        self.files[file_id] = (file, content)
        return 200, self._upload(upload_id) | {"file": file}

    def _give(self, document: dict[str, Any]) -> None:
        """Remember that the id of a part was told in a document that is right where it counts."""
        if document.get("object") == "upload.part":
            upload_id = document["upload_id"]
            content = self.sessions[upload_id].parts[document["id"]]
            self.given[document["id"]] = (upload_id, content)

    def _upload(self, upload_id: str) -> dict[str, Any]:
        session = self.sessions[upload_id]
        return {
            "id": upload_id,
            "object": "upload",
            "bytes": session.size,
            "created_at": 1_700_000_000,
            "expires_at": 1_700_003_600,
            "filename": session.filename,
            "purpose": session.purpose,
            "status": session.status,
        }

    def _nonsense(self) -> bytes:
        """A reply without any document of ours; as an error, one that passes."""
        chance = self.chance
        status = chance.choice([200, 200, 201, 202, 204, 408, 409, 429, 500, 502, 503, 599, 999])
        body = chance.choice(
            [
                *(b"", b"<html>", b"{}", b"[]", b"null", b'{"id": 5}', b"\0" * 9, b"[" * 5000),
                *(b'{"id": ".."}', b'{"id": []}', b'{"error": []}', chance.randbytes(50)),
                *(b'{"id": "part_\xed\xa0\x80"}', b'{"data": [{"id": null}]}'),
            ]
        )
        raw = reply(f"{status} X", body)
        return chance.choice(
            [raw, raw, raw, raw[: chance.randrange(len(raw))], chance.randbytes(30)]
        )

    def _spoilt(self, document: dict[str, Any]) -> bytes:
        """What was done is answered with a document that has something wrong in it."""
        name = self.chance.choice(["id", "id", "upload_id", "file", "status", "data", "more"])
        odd = self.chance.choice(ODD)
        pairs = [
            f"{json.dumps(key)}: " + (odd if key == name else json.dumps(value))
            for key, value in ({name: None} | document).items()
        ]
        text = "{" + ", ".join(pairs) + "}"
        raw = reply("200 X", text)
        if self.chance.random() < 0.3:
            return raw[: self.chance.randrange(len(raw))]
        if name != "id" and (name != "upload_id" or odd == "null"):
            self._give(document)
        return raw


@asynccontextmanager
async def mad(seed: int) -> AsyncIterator[tuple[MadService, str]]:
    """The service and its address."""
    service = MadService(seed)
    async with listening(service.serve) as wire:
        yield service, wire.base_url


@pytest.mark.parametrize("seed", range(min(TIMES, 200)))
async def test_a_mad_service_gets_each_file_once_when_it_is_well_again(
    tmp_path: Path, seed: int
) -> None:
    """No id is in the journal but those given for that very part; each file is there once."""
    contents = {f"{n}.bin": random.Random(n).randbytes(n * MIB + 5) for n in (1, 2, 3)}
    async with mad(seed) as (service, base_url):
        async with DaemonProcess(
            tmp_path, base_url, config={"retry": {"max_wait": "20ms", "defer_max": "100ms"}}
        ) as daemon:
            for name, content in contents.items():
                daemon.drop(name, content)
            await daemon.start()
            try:
                await daemon.until_drained(timeout_s=120)
            except AssertionError as error:
                rows = [(row["path"], row["reason"]) for row in await daemon.files()]
                error.add_note(f"seed {seed}: {rows}")
                raise
            log = daemon.log_text()
            assert await daemon.stop() == 0
        assert service.left < MAD_REPLIES / 2, "the service was mad for a while"
        assert sorted(content for _, content in service.files.values()) == sorted(contents.values())
        for upload_id, number, offset, length, part_id in ask_journal(daemon.state_dir, STORED):
            assert part_id in service.given, (part_id, "was never given in a right document")
            session, content = service.given[part_id]
            name = service.sessions[session].filename
            assert session == upload_id, (part_id, number)
            assert content == contents[name][offset : offset + length], (part_id, number)
        for name, content in contents.items():
            receipt = read_receipt(daemon.spool / "done" / name)
            assert service.files[receipt["file_id"]][1] == content
    assert "Traceback" not in log
    assert "file.trouble" not in log
    assert "loop.trouble" not in log
    await asyncio.sleep(0)
