"""What happens to whoever holds it wrong: a sentence, and the daemon is reached all the same."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.cli.cli_helpers import call, row
from tests.cli.test_cli_real import world
from uploaderd.cli import screen
from uploaderd.control.documents import Row, read

if TYPE_CHECKING:
    from pathlib import Path


def a_row(identity: str, **facts: object) -> Row:
    """Read a FILE document."""
    return read(json.dumps(row(identity, **facts)).encode(), Row)


def test_a_closed_standard_output_is_no_fault() -> None:
    """A supervisor may have closed it; the command ends with its own exit code."""
    program = [sys.executable, "-m", "uploaderd", "list", "--socket", "/nowhere/s"]
    words = ["sh", "-c", 'exec "$@" >&-', "sh", *program]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 69, done.stderr
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr


async def test_the_daemon_is_reached_though_its_file_is_being_edited(tmp_path: Path) -> None:
    """A key that is wrong now does not lock a person out of what runs; it is said."""
    async with world(tmp_path) as here:
        await here.run()
        here.config.write_text(here.config.read_text() + "\n[retry]\nattemps = 3\n")
        said = await here("pause")
        assert said.code == 0, said.err
        assert "attemps" in said.err
        assert "warning" in said.err
        assert (await here("reload")).code == 78


async def test_a_missing_argument_is_told_in_one_line(tmp_path: Path) -> None:
    """Without the tabs and line ends of a library's own sentence."""
    said = await call("completion", home=tmp_path)
    assert said.code == 2
    assert "\\n" not in said.err
    assert "\\t" not in said.err


def test_files_are_put_together_by_their_cause() -> None:
    """One sentence is one cause, unless a code is told with many sentences."""
    rule = {"code": "failed.purpose_rule", "text": "batch takes .jsonl only.", "until": None}
    other = rule | {"text": "vision takes pictures only."}
    few = screen._kinds(
        [a_row("1", reason=rule), a_row("2", reason=other), a_row("3", reason=rule)]
    )
    assert [[one.id for one in kind] for kind in few] == [["1", "3"], ["2"]]
    many = screen._kinds([a_row(str(n), reason=rule | {"text": f"{n}."}) for n in range(9)])
    assert len(many) == 1


def test_what_is_on_its_way_counts_as_sent_but_not_as_stored() -> None:
    """A bar moves before the first part has ended, and never beyond the whole."""
    flying = a_row("1", bytes_stored=250, bytes_moving=500)
    assert (flying.percent, flying.bytes_sent) == (25, 750)
    assert a_row("2", bytes_stored=900, bytes_moving=500).bytes_sent == 1000


async def test_check_tells_of_what_is_odd_before_a_file_does(tmp_path: Path) -> None:
    """A purpose that nobody knows and an address without its version are warnings, no errors."""
    async with world(tmp_path) as here:
        text = here.config.read_text().replace("[[watch]]", '[[watch]]\npurpose = "foo"')
        url = text.partition('base_url = "')[2].partition('"')[0]
        here.config.write_text(text.replace(url, url.removesuffix("/v1")))
        said = await here("check")
        assert "purpose foo is none of" in said.out + said.err
        assert "does not end in /v1" in said.out + said.err
