"""Programs that hooks run: real ones, well-behaved, rude and broken."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.waiting import wait_until
from uploaderd.hooks import KEPT_BYTES, Ended, Order, Programs

if TYPE_CHECKING:
    from collections.abc import Mapping

SHELL = "/bin/sh"


def order(
    *command: str, stdin: bytes = b"", env: Mapping[str, str] | None = None, timeout_s: float = 30.0
) -> Order:
    """One run."""
    return Order(command=command, stdin=stdin, env=env or {}, timeout_s=timeout_s)


async def sh(script: str, **more: object) -> Ended:
    """Run a line of shell, which is what the hook itself asked for."""
    return await Programs()(order(SHELL, "-c", script, **more))  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_the_exit_code_says_how_it_went() -> None:
    """0 is well; another code and a signal are not, and are told as what they are."""
    assert (await sh("exit 0")) == Ended(outcome="ok", text="exit code 0")
    assert (await sh("exit 3")) == Ended(outcome="failed", text="exit code 3")
    assert (await sh("kill -9 $$")) == Ended(outcome="failed", text="ended by SIGKILL")


async def test_arguments_reach_it_as_they_are(tmp_path: Path) -> None:
    """No shell reads the words of a command."""
    seen = tmp_path / "seen"
    words = ["$HOME", "a b", "`id`", "*", "; exit 1", ""]
    program = ["-c", "import sys; open(sys.argv[1], 'w').write(repr(sys.argv[2:]))"]
    ended = await Programs()(order(sys.executable, *program, str(seen), *words))
    assert ended.ok, ended
    assert seen.read_text() == repr(words)


async def test_what_it_is_given() -> None:
    """Standard input to its end, / as its folder, a session of its own, no descriptor besides."""
    ended = await sh("cat; pwd; ls /proc/$$/fd | tr '\\n' ' '", stdin=b"receipt ")
    assert ended.ok
    assert ended.output.startswith("receipt / 0 1 2"), ended.output
    ended = await sh("read x < /proc/$$/stat; set -- $x; echo $$ $5 $6")
    own, group, session = ended.output.split()
    assert own == group == session != str(os.getsid(0))


async def test_its_environment_is_minimal() -> None:
    """A few harmless variables are passed on, what the order says is added, and nothing else."""
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/h",
        "LANG": "C.UTF-8",
        "OPENAI_API_KEY": "sk-secret",
        "CREDENTIALS_DIRECTORY": "/run/credentials/x",
        "NOTIFY_SOCKET": "/n",
        "LISTEN_FDS": "1",
        "WATCHDOG_USEC": "1",
        "ANYTHING": "else",
    }
    given = {"UPLOADERD_EVENT": "done", "UPLOADERD_PATH": "/sp ool/\udcff\n"}
    command = (sys.executable, "-c", "import os; print(sorted(os.environb.items()))")
    ended = await Programs(env)(order(*command, env=given))
    assert ended.ok, ended
    for name in ("OPENAI", "CREDENTIALS", "NOTIFY", "LISTEN_FDS", "WATCHDOG", "ANYTHING"):
        assert name not in ended.output
    assert "sk-secret" not in ended.output
    assert "(b'UPLOADERD_EVENT', b'done')" in ended.output
    assert r"(b'UPLOADERD_PATH', b'/sp ool/\xff\n')" in ended.output
    assert "(b'HOME', b'/h')" in ended.output


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
async def test_it_need_not_read(size: int) -> None:
    """Whether a program reads its input, however much it is, is its own affair."""
    assert (await sh("exit 0", stdin=b"x" * size)).ok
    assert (await sh("exec <&-; exit 0", stdin=b"x" * size)).ok
    assert (await sh("head -c 10 | wc -c", stdin=b"x" * size)).output == str(min(size, 10))
    assert (await sh("wc -c", stdin=b"x" * size)).output == str(size)


async def test_what_it_prints_is_heard_and_bounded() -> None:
    """A program may print without end: it is never stopped by that, and the last words are kept."""
    ended = await sh(
        "head -c 1000000000 /dev/zero | tr '\\0' x; echo the end; echo bad >&2; exit 1"
    )
    assert (ended.outcome, ended.text) == ("failed", "exit code 1")
    assert ended.output.endswith("xthe end bad")
    assert ended.output.startswith("…x")
    assert len(ended.output) <= KEPT_BYTES + 1


async def test_it_prints_without_end_until_its_time_is_over() -> None:
    """The event loop goes on meanwhile."""
    steps = 0

    async def count() -> None:
        nonlocal steps
        while True:
            await asyncio.sleep(0.01)
            steps += 1

    counting = asyncio.create_task(count())
    ended = await sh("exec yes", timeout_s=1.0)
    counting.cancel()
    assert ended.outcome == "timeout"
    assert ended.text == "it had not ended after 1 s and was ended"
    assert steps >= 10


async def test_bytes_that_are_no_text_are_told_all_the_same() -> None:
    """As escapes, on one line."""
    ended = await sh(r"printf 'a\377\n\033[31mb\000\n'")
    assert ended.ok
    assert ended.output == r"a\xff \x1b[31mb\x00"


async def test_its_time_is_over() -> None:
    """SIGTERM comes first, and who heeds it may tidy up."""
    ended = await sh("trap 'echo tidy; exit 0' TERM; sleep 60 & wait", timeout_s=0.5)
    assert (ended.outcome, ended.output) == ("timeout", "tidy")


async def test_who_ignores_sigterm_gets_sigkill(tmp_path: Path) -> None:
    """It and its children, in the end."""
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 60 & echo $$ $! > {pids}; while :; do wait; sleep 1; done"
    ended = await sh(script, timeout_s=0.5)
    assert ended.outcome == "timeout"
    own, child = map(int, pids.read_text().split())
    await wait_until(lambda: not alive(own) and not alive(child), what="both to be gone")


async def test_a_child_that_holds_its_pipe_open_keeps_nobody(tmp_path: Path) -> None:
    """What it left behind is neither waited for nor ended."""
    pid = tmp_path / "pid"
    began = time.monotonic()
    ended = await sh(f"echo hello; sleep 600 & echo $! > {pid}; exit 0")
    child = int(pid.read_text())
    try:
        assert ended == Ended(outcome="ok", text="exit code 0", output="hello")
        assert time.monotonic() - began < 60
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)


async def test_it_may_kill_its_group(tmp_path: Path) -> None:
    """That group is its own: nobody else is hit."""
    assert (await sh("kill -9 0")).text == "ended by SIGKILL"
    assert (await sh("trap '' TERM; kill 0; exit 4")).text == "exit code 4"
    assert tmp_path.exists()


async def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    """Missing, not executable, no program at all, a folder, or too many words."""
    plain, empty = tmp_path / "plain", tmp_path / "empty"
    plain.write_text("#!/bin/sh\n")
    empty.write_text("no program")
    empty.chmod(0o755)
    for command, why in (
        (("/no/such/program",), "No such file or directory"),
        (("no-such-program-on-the-path",), "No such file or directory"),
        ((str(plain),), "Permission denied"),
        ((str(tmp_path),), "Permission denied"),
        ((str(empty),), "Exec format error"),
        ((SHELL, "x" * 3_000_000), "Argument list too long"),
    ):
        ended = await Programs()(order(*command))
        assert ended == Ended(outcome="missing", text=f"it cannot be started: {why}")


async def test_no_descriptor_stays_open() -> None:
    """However a run ends."""
    await sh("exit 0")  # whatever is made only once
    before = sorted(os.listdir("/proc/self/fd"))
    for command in ((SHELL, "-c", "sleep 1 &"), ("/no/such",), (SHELL, "-c", "exec sleep 60")):
        await Programs()(order(*command, timeout_s=0.3))

    def closed() -> bool:
        return len(os.listdir("/proc/self/fd")) <= len(before)

    await wait_until(closed, what="every descriptor to be closed")


async def test_who_is_cancelled_ends_the_program(tmp_path: Path) -> None:
    """With its children, and before the caller goes on."""
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
    task = asyncio.create_task(sh(script))
    await wait_until(pids.exists, what="the program to run")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    own, child = map(int, pids.read_text().split())
    assert not alive(own)
    await wait_until(lambda: not alive(child), what="its child to be gone")
