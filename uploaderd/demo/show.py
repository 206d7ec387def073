"""What a person sees of the demo: bars at a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from uploaderd.cli.live import bars
from uploaderd.config.units import human_bytes

if TYPE_CHECKING:
    from types import TracebackType

    from rich.table import Table

    from uploaderd.control.documents import Row

_PLAIN_WIDTH: Final = 124
_STEP_PERCENT: Final = 10


class Show:
    """Says what happens, and shows how far it is."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, soft_wrap=True, width=_PLAIN_WIDTH)
        self._live: Live | None = None
        self._said_percent = -1

    def __enter__(self) -> Self:
        """Take the terminal."""
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the terminal back."""
        self.end()

    def end(self) -> None:
        """Take the bars away."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    @property
    def wide(self) -> bool:
        """Whether there is room for long lines."""
        return self._console.width >= _PLAIN_WIDTH

    def say(self, text: str) -> None:
        """Say one thing."""
        self._console.print(Text(text))

    def table(self, table: Table) -> None:
        """Show a table."""
        self._console.print(table)

    def progress(self, rows: list[Row], total: int) -> None:
        """Show how far it is."""
        stored = sum(row.bytes_stored for row in rows)
        percent = 100 * stored // total
        resting = sum(row.state == "done" for row in rows)
        line = f"{percent:>3}%  {human_bytes(stored)} of {human_bytes(total)}, {resting} files done"
        if self._live is None:
            if percent // _STEP_PERCENT != self._said_percent // _STEP_PERCENT:
                self._said_percent = percent
                self.say(line)
            return
        shown = sorted(rows, key=lambda row: row.path)[: max(self._console.height - 4, 1)]
        self._live.update(
            Group(bars(shown, width=self._console.width), Text(line, style="bold")), refresh=True
        )
