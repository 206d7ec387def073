"""The answers of the status socket: documents, and errors in one shape."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from uploaderd import __version__

INTERNAL: Final = "the daemon could not make this document; its log says why"
HEADERS: Final = {"Server": f"uploaderd/{__version__}", "Cache-Control": "no-store"}

_MESSAGE_CHARS: Final = 500
_CODES: Final = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    409: "not_applicable",
    413: "too_large",
    500: "internal",
    503: "unavailable",
}


def document(found: dict[str, object], *, status: int = 200) -> web.Response:
    """Write a document as JSON."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(found) + b"\n",
        content_type="application/json",
        headers=HEADERS,
    )


def error(status: int, message: str, *, hint: str = "", code: str = "") -> web.Response:
    """Make the error document; a message that quotes the client is cut, and is text in any case."""
    if len(message) > _MESSAGE_CHARS:
        message = message[:_MESSAGE_CHARS] + "…"
    message = message.encode("utf-8", "backslashreplace").decode()
    why = {"code": code or _CODES.get(status, "refused"), "message": message, "hint": hint}
    return document({"error": why}, status=status)


def refusal(request: web.BaseRequest, refused: web.HTTPException) -> str:
    """Say in our words what aiohttp refuses."""
    if isinstance(refused, web.HTTPNotFound):
        return f"there is nothing at {request.path}"
    if isinstance(refused, web.HTTPMethodNotAllowed):
        return f"{refused.method} does not apply to {request.path}"
    return refused.reason
