"""The whole thing, shown: real processes, real files, a SIGKILL half-way, and the proof.

    data    the files that are dropped
    stage   the temporary folder and the processes on it
    show    what a person sees meanwhile
    proof   what must hold at the end

Nothing but loopback is used, and nothing is left behind.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from uploaderd.cli.common import boot_s
from uploaderd.config.units import human_bytes
from uploaderd.demo import data, proof
from uploaderd.demo.show import Show
from uploaderd.demo.stage import Stage
from uploaderd.errors import NoDaemonError, UploaderdError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from uploaderd.control.documents import Row
    from uploaderd.demo.data import Source

LONGEST_S: Final = 55.0
_POLL_S: Final = 0.2
_TAKEN_OVER: Final = 3


def play(*, keep: bool) -> bool:
    """Play it; True if everything that must hold held."""
    began_s = boot_s()
    with Stage(keep=keep) as stage, Show() as show:
        show.say(f"the stage is {stage.root}")
        sources = data.make(stage.sources)
        total = sum(source.size for source in sources)
        show.say(f"made {len(sources)} files, {human_bytes(total)}")
        stage.start_emulator()
        stage.start_daemon()
        show.say(f"a local service listens on {stage.base_url}; the daemon has pid {stage.pid}")
        with ThreadPoolExecutor(max_workers=1) as pool:
            dropping = pool.submit(_drop_all, stage, sources)
            before = _until(stage, show, sources, began_s, dropping, stored=total // 2)
            dropping.result()
        show.say(f"half of it is stored: the daemon is killed with SIGKILL, pid {stage.pid}")
        stage.kill_daemon()
        stage.start_daemon()
        show.say(f"it is started again on the same journal, pid {stage.pid}")
        after = _until(stage, show, sources, began_s, dropping, stored=None)
        stopped = stage.stop_daemon()
        show.end()
        checks = proof.prove(stage, sources, before, after, clean_stop=stopped == 0)
        show.table(proof.files_table(checks, wide=show.wide))
        show.table(proof.facts_table(checks))
        held = all(fact.holds for fact in checks.facts)
        took_s = boot_s() - began_s
        show.say(
            f"all of it holds; it took {took_s:.0f} s" if held else "it does NOT hold; see above"
        )
        if not held:
            show.say(stage.last_words())
        return held


def _drop_all(stage: Stage, sources: list[Source]) -> None:
    """Drop every file the way ``put`` does."""
    from uploaderd.put import drop  # noqa: PLC0415 - next to its only use

    for source in sources:
        if stage.over:  # an interrupt in the wrong moment leaves this thread behind
            return
        folder = stage.spool / source.name.parent
        folder.mkdir(parents=True, exist_ok=True)
        drop(stage.sources / source.name, folder)


def _until(
    stage: Stage,
    show: Show,
    sources: list[Source],
    began_s: float,
    dropping: Future[None],
    *,
    stored: int | None,
) -> list[Row]:
    """Show the progress until so many bytes are stored, or until every file has ended."""
    total = sum(source.size for source in sources)
    while True:
        if dropping.done():
            dropping.result()
        try:
            rows = list(stage.client.rows())
        except NoDaemonError:
            rows = []
        stage.check_alive()
        show.progress(rows, total)
        if stored is not None and dropping.done() and _is_half_way(rows, stored):
            return rows
        if stored is None and len(rows) >= len(sources) and all(row.ended for row in rows):
            return rows
        if boot_s() - began_s > LONGEST_S:
            raise UploaderdError(
                f"it took longer than {LONGEST_S:.0f} s",
                hint="look at it with: uploaderd demo --keep",
            )
        time.sleep(_POLL_S)


def _is_half_way(rows: list[Row], stored: int) -> bool:
    """Enough is stored, and a file is in the middle of its parts: the kill must hurt."""
    hurt = any(row.state == "uploading" and row.parts.stored >= _TAKEN_OVER for row in rows)
    return hurt and sum(row.bytes_stored for row in rows) >= stored
