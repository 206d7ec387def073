"""After-care survives SIGKILL between any two of its lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CRASHING = Path(__file__).with_name("crashing.py")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this interpreter's import path."""
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("scenario", ["move", "delete", "other file system", "no renameat2"])
def test_killed_anywhere(spool: Path, scenario: str) -> None:
    """Wherever it is killed, and killed again, the same calls end right and nothing is lost."""
    before = []
    if scenario == "other file system":
        before = ["unshare", "--user", "--map-root-user", "--mount"]
        probe = run(*before, "true")
        if probe.returncode:
            pytest.skip(f"no mount namespace to be had here: {probe.stderr.strip()}")
    done = run(*before, sys.executable, str(CRASHING), str(spool), scenario)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 40


def test_fallback_overwrites_nothing(spool: Path) -> None:
    """Where renameat2 is missing, a name that is taken still stays as it is."""
    program = (
        "import sys; from pathlib import Path; from crashing import forbid_renameat2\n"
        "from uploaderd.spool.renaming import rename_new; import os\n"
        "forbid_renameat2(); fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "rename_new(b'a', b'b', from_fd=fd, to_fd=fd)\n"
        "try: rename_new(b'b', b'c', from_fd=fd, to_fd=fd)\n"
        "except FileExistsError: print('taken')\n"
    )
    (spool / "a").write_text("mine")
    (spool / "c").symlink_to("nowhere")
    done = run(
        sys.executable,
        "-c",
        f"import sys; sys.path.append({str(CRASHING.parent)!r})\n{program}",
        str(spool),
    )
    assert done.stdout == "taken\n", done.stderr
    assert (spool / "b").read_text() == "mine"
    assert (spool / "c").is_symlink()
