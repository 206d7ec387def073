"""Which files a command is about: the options that choose them, and FILE as an argument."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from uploaderd.control.client import Client
from uploaderd.core.model import FileState
from uploaderd.core.reasons import SENTENCES
from uploaderd.core.selection import Selection
from uploaderd.errors import UploaderdError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from click.shell_completion import CompletionItem

F = TypeVar("F", bound="Callable[..., Any]")

STATES: Final = tuple(state.value for state in FileState)
# A person who presses Tab waits for no daemon that is busy.
FAST_S: Final = 0.3
_OFFERED: Final = 60
_ID: Final = re.compile(r"[0-9A-Za-z_-]+")


class States(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions alone
    """One state, or several with commas between."""

    name = "states"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split it; a state that is none is refused with those that are."""
        if isinstance(value, tuple):
            return value
        found = tuple(filter(None, str(value).split(",")))
        for one in found or ("",):
            if one not in STATES:
                self.fail(f"there is no state {one!r}; choose from {', '.join(STATES)}", param, ctx)
        return found

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - the same
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete the last of them."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only on Tab

        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{state}")
            for state in STATES
            if state.startswith(last) and state not in taken
        ]


class Code(click.ParamType):  # type: ignore[type-arg]  # the same
    """A reason's code, or how some begin."""

    name = "code"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Refuse what no reason has: it would choose nothing, for ever."""
        wanted = Selection(code=str(value))
        if not any(map(wanted.has_code, SENTENCES)):
            self.fail(f"no reason's code is or begins with {str(value)!r}", param, ctx)
        return str(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - the same
        incomplete: str,
    ) -> list[CompletionItem]:
        """Complete it."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only on Tab

        return [CompletionItem(code) for code in SENTENCES if code.startswith(incomplete)]


def state_option(command: F) -> F:
    """Add ``--state``."""
    return click.option(
        "--state",
        "states",
        type=States(),
        multiple=True,
        metavar="S",
        help="Those in this state; several with commas, or by repeating it.",
    )(command)


def code_option(command: F) -> F:
    """Add ``--code``."""
    return click.option(
        "--code",
        type=Code(),
        metavar="C",
        help="Those with this reason, such as held.auth; held means all that begin so.",
    )(command)


def joined(states: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Join what ``--state`` said, each state once."""
    return tuple(dict.fromkeys(one for group in states for one in group))


def files_argument(*, many: bool = True, required: bool = True) -> Callable[[F], F]:
    """Add FILE as the argument ``file``, or ``FILE...`` as ``files``: paths or ids."""
    return click.argument(
        "files" if many else "file",
        metavar="FILE..." if many else "FILE",
        nargs=-1 if many else 1,
        required=required,
        type=click.UNPROCESSED,
        shell_complete=complete_file,
    )


def complete_file(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001 - click's signature
    incomplete: str,
) -> list[CompletionItem]:
    """Offer the ids that begin so, if the daemon answers at once; else the shell's own paths."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only on Tab

    found = [CompletionItem(incomplete, type="file")]
    if _ID.fullmatch(incomplete):
        found += [CompletionItem(one) for one in _ids(ctx, incomplete)]
    return found


def _ids(ctx: click.Context, beginning: str) -> list[str]:
    from uploaderd.cli.common import client  # noqa: PLC0415 - it would be a circle

    config: Path | None = ctx.params.get("config")
    socket: Path | None = ctx.params.get("socket")
    try:
        with Client(client(config, socket).socket, timeout_s=FAST_S) as asked:
            rows = asked.rows(Selection(), limit=1000)
            ids = [row.id for row, _ in zip(rows, range(1000), strict=False)]
    except (UploaderdError, OSError):
        return []
    found = [one for one in ids if one.startswith(beginning) and _ID.fullmatch(one)]
    return found[:_OFFERED]
