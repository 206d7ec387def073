"""`/_emulator`: the state and the levers for tests in another process, on loopback only.

    GET  /_emulator/state                          what the service holds and has been asked
    POST /_emulator/clock  {"advance_s": 3600}     moves the service's clock forward
    POST /_emulator/faults {"faults": [SPEC, …]}   replaces the faults; with "add": true adds

None needs a key. Both levers want `Content-Type: application/json`, which keeps web pages away.
"""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

from uploaderd.emulator.faults import Call
from uploaderd.emulator.objects import file_status
from uploaderd.emulator.refusals import Refusal
from uploaderd.emulator.store import listed_ids
from uploaderd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uploaderd.emulator.app import Face

LOG_SHOWN = 1000


class Control:
    """The endpoints outside the service's own paths."""

    def __init__(self, face: Face) -> None:
        self._face = face

    def routes(self) -> list[web.RouteDef]:
        """Return the control routes."""
        return [
            web.get("/_emulator/state", self._guard(self._state), allow_head=False),
            web.post("/_emulator/clock", self._guard(self._clock)),
            web.post("/_emulator/faults", self._guard(self._faults)),
        ]

    def _guard(
        self, act: Callable[[web.Request], Awaitable[object]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                _check_entry(request)
                return web.json_response(await act(request))
            except UsageError as error:
                refusal = Refusal(str(error))
            except (ValueError, AttributeError, LookupError, TypeError):
                refusal = Refusal("The body is not what this endpoint takes.")
            except Refusal as error:
                refusal = error
            return web.json_response(refusal.document(self._face.rules), status=refusal.status)

        return guarded

    async def _state(self, _request: web.Request) -> object:
        return snapshot(self._face)

    async def _clock(self, request: web.Request) -> object:
        clock = self._face.service.clock
        clock.advance(float(json.loads(await request.read())["advance_s"]))
        return {"now_s": clock.now(), "offset_s": clock.offset_s}

    async def _faults(self, request: web.Request) -> object:
        body = json.loads(await request.read())
        specs = [str(one) for one in body["faults"]]
        if body.get("add") is True:
            for spec in specs:
                self._face.faults.add(spec)
        else:
            self._face.faults.replace(specs)
        return {"faults": _faults(self._face)}


def _check_entry(request: web.Request) -> None:
    if not is_loopback(request.remote):
        raise Refusal("The emulator's state is shown on loopback only.", status=403)
    if request.method == "POST" and request.content_type != "application/json":
        raise Refusal("Content-Type must be application/json.", status=415)


def is_loopback(remote: str | None) -> bool:
    """Tell whether a peer's address is this machine's own."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def snapshot(face: Face) -> dict[str, object]:
    """Return everything that the service holds and has counted, as JSON can say it."""
    service, stats = face.service, face.stats
    service.expire_due()
    now_s = service.clock.now()
    store = service.store
    listed = listed_ids(store.uploads.values())
    attempts = Counter(one.upload_id for one in stats.requests if one.call is Call.PART)
    return {
        "clock": {"now_s": now_s, "offset_s": service.clock.offset_s},
        "bytes_received": stats.bytes_received,
        "uploads_created": stats.uploads_created,
        "files_created": stats.files_created,
        "requests": _counts(face),
        "uploads": [
            {
                "id": upload.id,
                "status": upload.status.value,
                "filename": upload.filename,
                "purpose": upload.purpose,
                "bytes": upload.bytes,
                "created_at": int(upload.created_s),
                "expires_at": int(upload.expires_s),
                "file_id": upload.file_id,
                "bytes_received": stats.received[upload.id],
                "part_requests": attempts[upload.id],
                "parts": [
                    {
                        "id": part.id,
                        "number": part.number,
                        "bytes": part.bytes,
                        "listed": part.id in listed,
                    }
                    for part in store.parts_of[upload.id]
                ],
            }
            for upload in store.uploads.values()
        ],
        "files": [
            {
                "id": file.id,
                "filename": file.filename,
                "purpose": file.purpose,
                "bytes": file.bytes,
                "md5": file.md5,
                "status": file_status(file, face.rules, now_s=now_s),
                "created_at": int(file.created_s),
                "upload_id": file.upload_id,
            }
            for file in store.files.values()
        ],
        "faults": _faults(face),
        "log": [
            {
                "number": record.number,
                "call": record.call.value,
                "at_s": record.at_s,
                "upload_id": record.upload_id,
                "part_id": record.part_id,
                "file_id": record.file_id,
                "client_request_id": record.client_request_id,
                "request_id": record.request_id,
                "bytes_received": record.bytes_received,
                "chunked": record.chunked,
                "status": record.status,
                "outcome": record.outcome.value,
                "faults": list(record.faults),
            }
            for record in list(stats.requests)[-LOG_SHOWN:]
        ],
    }


def _counts(face: Face) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for (call, ending), count in sorted(face.stats.counts.items()):
        counts.setdefault(call.value, {})[ending] = count
    return counts


def _faults(face: Face) -> list[dict[str, object]]:
    return [
        {"spec": one.fault.spec, "matched": one.matched, "fired": one.fired} for one in face.faults
    ]
