"""Bodies as clients of all kinds send them, and clients that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
import io
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.emulator.kit import KEY, Api, process, service
from uploaderd.emulator import Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DATA = b"0123456789"
MIB = 1 << 20
HEAD = f"Host: h\r\nAuthorization: Bearer {KEY}\r\n"
DISPOSITION = b'Content-Disposition: form-data; name="data"'
TYPE = b"Content-Type: application/octet-stream"


def framed(*headers: bytes, data: bytes = DATA, before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a form's bytes with the headers of its one field as given."""
    return (
        before + b"--B\r\n" + b"\r\n".join(headers) + b"\r\n\r\n" + data + b"\r\n--B--\r\n" + after
    )


async def _send(api: Api, body: bytes | AsyncIterator[bytes]) -> tuple[int, list[int]]:
    """Send a part's body as it is; return the status and the sizes of the stored parts."""
    upload_id = (await api.create(10)).id
    reply = await api.call(
        "POST",
        f"/uploads/{upload_id}/parts",
        data=body,
        headers={"Content-Type": "multipart/form-data; boundary=B"},
    )
    state = await api.state()
    return reply.status, [part["bytes"] for part in state["uploads"][0]["parts"]]


async def _in_bits(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize(
    "body",
    [
        framed(DISPOSITION + b'; filename="upload"', TYPE),
        framed(TYPE, DISPOSITION + b'; filename="upload"'),
        framed(DISPOSITION),
        framed(b"content-disposition: form-data; name=data", b"content-length: 10"),
        framed(DISPOSITION + b"; filename=\"a b; c\"; filename*=UTF-8''%D0%BA", TYPE),
        framed(DISPOSITION, before=b"preamble\r\n"),
        framed(DISPOSITION, after=b"epilogue\r\n"),
        framed(DISPOSITION, b"X-Custom: yes", b"Content-Transfer-Encoding: binary"),
    ],
)
@pytest.mark.parametrize("chunk", [0, 1, 7])
async def test_part_in_any_frame(tmp_path: Path, body: bytes, chunk: int) -> None:
    """A part is taken with its headers in any order, with or without a name, whole or chunked."""
    async with service(tmp_path) as api:
        sent = _in_bits(body, chunk) if chunk else body
        assert await _send(api, sent) == (200, [10])
        assert api.emulator.stats.requests[-1].chunked == bool(chunk)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--B--\r\n",
        b"no form at all",
        framed(b'Content-Disposition: form-data; name="file"'),
        framed(b"Content-Disposition: form-data"),
        framed(TYPE),
        framed(DISPOSITION)[:-8],
        framed(DISPOSITION)[:-2].replace(b"--B--", b"--C--"),
        b"--B\r\n" + DISPOSITION,
        framed(DISPOSITION)[:-4] + b"\r\n" + DISPOSITION + b"\r\n\r\nagain\r\n--B--\r\n",
        framed(DISPOSITION)[:-4]
        + b'\r\nContent-Disposition: form-data; name="colour"\r\n\r\nred\r\n--B--\r\n',
        framed(b"Content-Type: multipart/mixed; boundary=C", DISPOSITION, data=b"--C--\r\n"),
    ],
)
async def test_part_in_no_frame(tmp_path: Path, body: bytes) -> None:
    """A form that is cut short, malformed or has other fields is refused and nothing is stored."""
    async with service(tmp_path) as api:
        assert await _send(api, body) == (400, [])
        assert list((tmp_path / "incoming").iterdir()) == []
        assert (await api.create()).status == 200


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/plain"])
async def test_part_that_is_no_form(tmp_path: Path, content_type: str) -> None:
    """A part that is not declared as a form with a boundary is refused."""
    async with service(tmp_path) as api:
        reply = await api.call(
            "POST",
            f"/uploads/{(await api.create()).id}/parts",
            data=framed(DISPOSITION),
            headers={"Content-Type": content_type},
        )
        assert reply.status == 400


async def test_boundary_within_the_bytes(tmp_path: Path) -> None:
    """Bytes that look like a boundary, or like half of one, arrive unharmed."""
    data = b"\r\n--".join([b"--B", b"\r\n", b"\r", b"\n--", b"--BB"[:3], b"\r\n-"]) * 50_000
    async with service(tmp_path) as api:
        upload_id = (await api.create(len(data))).id
        part_id = (await api.part(upload_id, data)).id
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        assert (await api.complete(upload_id, part_id, md5=md5)).status == 200


async def test_parts_at_the_same_time(tmp_path: Path) -> None:
    """Parts of one upload may be sent all at once; none is lost or mixed up."""
    parts = [bytes([number]) * (300_000 + number) for number in range(16)]
    whole = b"".join(parts)
    async with service(tmp_path) as api:
        upload_id = (await api.create(len(whole))).id
        replies = await asyncio.gather(*(api.part(upload_id, data) for data in parts))
        md5 = hashlib.md5(whole, usedforsecurity=False).hexdigest()
        ids = [reply.id for reply in replies]
        assert (await api.complete(upload_id, *ids, md5=md5)).status == 200
        numbers = [part["number"] for part in (await api.state())["uploads"][0]["parts"]]
        assert numbers == list(range(1, 17))


async def test_completes_at_the_same_time(tmp_path: Path) -> None:
    """Of two completes at once one makes the file and the other finds it made."""
    async with service(tmp_path) as api:
        upload_id = (await api.create(10)).id
        part_id = (await api.part(upload_id, DATA)).id
        replies = await asyncio.gather(*(api.complete(upload_id, part_id) for _ in range(4)))
        assert sorted(reply.status for reply in replies) == [200, 400, 400, 400]
        assert api.emulator.stats.files_created == 1


async def test_client_leaves_in_mid_body(tmp_path: Path) -> None:
    """A client that goes away in mid-body leaves no part behind, and is noted."""
    async with service(tmp_path) as api:
        upload_id = (await api.create(MIB)).id
        address = urlsplit(api.emulator.endpoint)
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        body = framed(DISPOSITION, data=bytes(MIB))
        writer.write(
            f"POST /v1/uploads/{upload_id}/parts HTTP/1.1\r\n{HEAD}"
            f"Content-Type: multipart/form-data; boundary=B\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        writer.write(body[: MIB // 2])
        await writer.drain()
        async with asyncio.timeout(10):
            await api.emulator.stats.until(lambda stats: stats.bytes_received > MIB // 8)
            writer.close()
            await api.emulator.stats.until(lambda stats: stats.requests[-1].outcome is Outcome.GONE)
        state = await api.state()
        assert state["uploads"][0]["parts"] == []
        assert list((tmp_path / "incoming").iterdir()) == []


MISBEHAVIOUR = [
    b"",
    b"\x00\xff\x00\xff\r\n\r\n",
    b"GET\r\n\r\n",
    b"POST /v1/uploads HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    f"POST /v1/uploads HTTP/1.1\r\n{HEAD}Content-Length: ten\r\n\r\n".encode(),
    f"POST /v1/uploads HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n{{".encode(),
    f"POST /v1/uploads HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{".encode(),
    f"POST /v1/uploads HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\n{{".encode(),
    f"POST /v1/uploads HTTP/1.1\r\n{HEAD}Content-Encoding: gzip\r\n".encode()
    + b"Content-Length: 3\r\n\r\nabc",
    f"POST /v1/uploads/x/parts HTTP/1.1\r\n{HEAD}".encode()
    + b"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 99\r\n\r\n--B\r\n",
    f"POST /v1/files HTTP/1.1\r\n{HEAD}".encode()
    + b"Content-Type: multipart/form-data; boundary=B\r\nTransfer-Encoding: chunked\r\n\r\nq\r\n",
    f"GET /v1/files/..%2f..%2f..%2fetc%2fpasswd/content HTTP/1.1\r\n{HEAD}\r\n".encode(),
    f"POST /_emulator/clock HTTP/1.1\r\n{HEAD}".encode()
    + b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n[1,2,3]",
]


async def test_misbehaviour_makes_no_noise(tmp_path: Path) -> None:
    """Whatever a client sends, the emulator answers the next one and writes nothing to stderr."""
    with process(tmp_path) as emulator:
        address = urlsplit(emulator.base_url)
        for sent in MISBEHAVIOUR:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(sent)
            writer.write_eof()
            async with asyncio.timeout(10):
                received = await reader.read()
            assert b" 200 " not in received.split(b"\r\n")[0]
            writer.close()
        async with aiohttp.ClientSession() as session:
            url = emulator.base_url.removesuffix("/v1") + "/_emulator/state"
            async with session.get(url) as reply:
                assert reply.status == 200
        assert await asyncio.to_thread(emulator.end) == (0, "", "")


def _rss_bytes(pid: int, key: str) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


class _Zeros(io.RawIOBase):
    """So many zero bytes, without holding them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any buffer
        count = min(len(buffer), self._size - self._at)
        buffer[:count] = bytes(count)
        self._at += count
        return count


async def test_memory_stays_flat(tmp_path: Path) -> None:
    """Neither parts of 64 MiB, four at a time, nor joining them takes memory of their size."""
    size = 64 * MIB
    headers = {"Authorization": f"Bearer {KEY}"}
    with process(tmp_path) as emulator:
        async with aiohttp.ClientSession(emulator.base_url + "/", headers=headers) as session:
            fields = {"filename": "a", "purpose": "user_data", "mime_type": "a/b"}
            async with session.post("uploads", json=fields | {"bytes": 4 * size}) as reply:
                upload_id = (await reply.json())["id"]
            before = _rss_bytes(emulator.pid, "VmRSS")

            async def send() -> str:
                form = aiohttp.FormData()
                form.add_field("data", io.BufferedReader(_Zeros(size)), filename="upload")
                async with session.post(f"uploads/{upload_id}/parts", data=form) as reply:
                    return str((await reply.json())["id"])

            ids = await asyncio.gather(*(send() for _ in range(4)))
            body = {"part_ids": ids}
            async with session.post(f"uploads/{upload_id}/complete", json=body) as reply:
                assert reply.status == 200
        assert _rss_bytes(emulator.pid, "VmHWM") - before < 16 * MIB
