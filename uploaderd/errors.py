"""Every error that uploaderd raises on purpose, grouped by what happens next.

Foreign exceptions are mapped into this tree once, at the adapter's edge, with ``from exc``.
``str(error)`` is one sentence for a person; ``hint`` says what to do; neither ever holds a key.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The command line's exit codes (contract; 69, 75 and 78 are sysexits.h's)."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 69
    TRY_AGAIN = 75
    CONFIG = 78


class UploaderdError(Exception):
    """The root: a sentence, a hint and the exit code that a command ends with."""

    exit_code = Exit.FAILED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(UploaderdError):
    """The caller's words are wrong: correct them and call again."""

    exit_code = Exit.USAGE


class NotApplicableError(UploaderdError):
    """What was asked for does not apply to the file as it is."""


class ConfigError(UploaderdError):
    """The configuration or the surroundings it names are wrong: a person must mend them."""

    exit_code = Exit.CONFIG


class NoDaemonError(UploaderdError):
    """Nobody answers on the status socket: start the daemon or name the right socket."""

    exit_code = Exit.NO_DAEMON


class JournalError(UploaderdError):
    """The journal cannot be opened, read or written: nothing new is claimed until it can."""


class NewerJournalError(JournalError):
    """The journal is from a newer version: only a person can choose which one is to run."""

    exit_code = Exit.CONFIG


class SpoolError(UploaderdError):
    """A watched folder or a file in it cannot be used as asked."""


class GoneError(SpoolError):
    """The file is no longer at its path: the work on it ends."""


class ChangedError(SpoolError):
    """The file is not what it was when it was taken: it settles again."""


class UnreadableError(SpoolError):
    """The file may not be read: held until its permissions change."""


class NotRegularError(SpoolError):
    """The path leads to a symlink, FIFO, socket, device or folder: never uploaded."""


class NameTakenError(SpoolError):
    """The name in ``done/`` or ``failed/`` was taken meanwhile: choose the next one."""


class ServiceError(UploaderdError):
    """An answer of the service, or the lack of one.

    Attributes:
        code: the reason's stable tail, such as ``rate_limited``.
        status: the HTTP status, or None where no reply was seen.
        request_id: the service's ``x-request-id``, empty where none was seen.
        acted: whether the service may have done what was asked all the same.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        request_id: str = "",
        acted: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.status = status
        self.request_id = request_id
        self.acted = acted


class TransientError(ServiceError):
    """Try again: no reply, an overloaded service, a rate limit, a broken connection.

    Attributes:
        retry_after_s: the wait that the service asked for, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        request_id: str = "",
        acted: bool = False,
        hint: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(
            message, code=code, status=status, request_id=request_id, acted=acted, hint=hint
        )
        self.retry_after_s = retry_after_s


class TargetBlockedError(ServiceError):
    """The key or the quota: no file of this target can go on until a person acts."""


class SessionLostError(ServiceError):
    """The upload is gone, expired, full or no longer pending: begin it anew."""


class ChecksumError(ServiceError):
    """The service holds other bytes than the source: begin the upload anew."""


class RejectedError(ServiceError):
    """The service will never take this file as it is."""
