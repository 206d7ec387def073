"""Refusals: what is wrong with a request, and the document that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uploaderd.emulator.objects import UploadStatus
    from uploaderd.emulator.rules import Rules

INVALID = "invalid_request_error"

_SERVER_ERROR = 500
_TYPES = {429: "requests"}
_CODES = {
    401: "invalid_api_key",
    429: "rate_limit_exceeded",
    503: "server_is_overloaded",
}
_AZURE_CODES = {
    400: "BadRequest",
    401: "401",
    403: "Forbidden",
    404: "ResourceNotFound",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    429: "429",
}


class Refusal(Exception):  # noqa: N818 - it is an answer of the service, not an error of ours
    """An answer other than 200, in the service's own words."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code
        self.kind = kind

    def document(self, rules: Rules) -> dict[str, object]:
        """Return the error document in the rules' flavour (protocol notes, objects)."""
        error: dict[str, object] = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }
        if rules.azure:
            error["code"] = self.code or _AZURE_CODES.get(self.status, str(self.status))
            error["target"] = self.param
            error["details"] = []
            error["innererror"] = {"code": self.code or "RequestRefused"}
        document: dict[str, object] = {"error": error}
        if rules.error_detail and self.status == 400:  # noqa: PLR2004 - only a 400 has it
            document["detail"] = self.message
        return document


def generic(status: int, *, code: str | None = None, message: str | None = None) -> Refusal:
    """Return the refusal that a bare status means, for faults that name no body."""
    kind = "server_error" if status >= _SERVER_ERROR else _TYPES.get(status, INVALID)
    return Refusal(
        message or f"The emulator was told to refuse this request with {status}.",
        status=status,
        code=code or _CODES.get(status),
        kind="insufficient_quota" if code == "insufficient_quota" else kind,
    )


def no_upload(upload_id: str) -> Refusal:
    """No such upload here, or none any more."""
    return Refusal(f"No such Upload object: {upload_id}", status=404, param="id")


def no_file(file_id: str, *, param: str = "id") -> Refusal:
    """No such file here, or none any more."""
    return Refusal(f"No such File object: {file_id}", status=404, param=param)


def not_pending(upload_id: str, state: UploadStatus, status: int) -> Refusal:
    """The upload is over: the status is the rules' choice, the words follow it."""
    if status == 404:  # noqa: PLR2004 - the service pretends that it never was
        return no_upload(upload_id)
    return Refusal(
        f"Upload {upload_id} is not pending: its status is {state}.",
        status=status,
        code="upload_not_pending",
    )


def missing(param: str) -> Refusal:
    """A required parameter is absent."""
    return Refusal(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def unknown(param: str) -> Refusal:
    """A parameter that the call does not have."""
    return Refusal(f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def wrong_type(param: str, expected: str) -> Refusal:
    """A parameter of another type than the call's."""
    return Refusal(
        f"Invalid type for '{param}': expected {expected}.", param=param, code="invalid_type"
    )


def wrong_value(param: str, message: str) -> Refusal:
    """A parameter outside its range."""
    return Refusal(message, param=param, code="invalid_value")
