"""``service``: the unit files put in place for this installation, and taken away again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import platformdirs

import uploaderd
from uploaderd.cli import unitfiles, voice
from uploaderd.cli.common import PATH, answers, example
from uploaderd.cli.unitfiles import Whose
from uploaderd.errors import Exit, UploaderdError, UsageError

if TYPE_CHECKING:
    from uploaderd.cli.unitfiles import Placed

_BOOTED: Final = Path("/run/systemd/system")  # sd_booted(3)
_ETC: Final = Path("/etc/uploaderd")
_FORCE: Final = "--force keeps it as NAME.saved; a drop-in, `systemctl edit`, outlives upgrades"


_user = click.option("--user", is_flag=True, help="For yourself alone, in your own manager.")
_force = click.option("--force", is_flag=True, help="Also where somebody changed a file.")
_root = click.option(
    "--root", type=PATH, metavar="DIR", help="For packagers: work below DIR and run nothing."
)


@click.group(epilog=example("uploaderd service install"))
def service() -> None:
    """Put systemd's unit files in place, or take them away."""


@service.command(epilog=example("uploaderd service install --user"))
@_user
@_force
@_root
def install(user: bool, force: bool, root: Path | None) -> None:
    """Put the unit files in place for this installation.

    For the machine (/etc/systemd/system, with the account and the spool), or with --user for
    yourself. It tells systemd to read them, prints each thing that it did, and what to do next; it
    starts nothing. Call it again after an upgrade. A file that somebody changed is left alone.
    """
    command = _command()
    files = _files(user=user, root=root, command=unitfiles.command_line(command))
    _must_be_ours(files, force=force)
    if not user:
        _warn_if_hidden(command)
    for file in files:
        _put(file)
    if root is None:
        _tell_manager(user=user, files=files)
    for line in _next(user=user, root=root):
        voice.out(line)


@service.command(epilog=example("uploaderd service uninstall"))
@_user
@_force
@_root
def uninstall(user: bool, force: bool, root: Path | None) -> Exit:
    """Stop the service and take the unit files away.

    Takes away only what `install` put there. The configuration, the key, the journal, the spool
    and the account stay.
    """
    files = _files(user=user, root=root, command=unitfiles.COMMAND)
    found = {file.path: unitfiles.whose(file.path) for file in files}
    ours = [
        path
        for path, whose in found.items()
        if whose is Whose.OURS or (force and whose is Whose.CHANGED)
    ]
    left = [
        path for path, whose in found.items() if whose is not Whose.NOBODYS and path not in ours
    ]
    manager = root is None and bool(ours) and _listens(user=user)
    if manager:
        _stop(user=user, ours=ours)
    for path in ours:
        unitfiles.take_away(path)
        voice.out(f"removed {voice.shown(path)}")
    if manager:
        _run(*_systemctl(user=user), "daemon-reload")
    for path in left:
        why = "was changed by somebody" if found[path] is Whose.CHANGED else "is not uploaderd's"
        voice.error(f"{path} {why}; it was left alone", hint="remove it by hand, or use --force")
    if not ours and not left:
        voice.out("nothing was installed")
    elif not user:
        voice.out("left: /etc/uploaderd, /var/lib/uploaderd, /var/spool/uploaderd, the account")
    return Exit.FAILED if left else Exit.DONE


def _command() -> list[str]:
    """How this very installation is called."""
    program = Path(sys.argv[0])
    if program.name == "uploaderd" and os.access(program, os.X_OK) and program.is_file():
        return [os.path.abspath(program)]  # noqa: PTH100 - a link to it may be meant to stay
    return [sys.executable, "-m", "uploaderd"]


def _files(*, user: bool, root: Path | None, command: str) -> list[Placed]:
    if user and root is not None:
        raise UsageError("--root is for the machine's service, not for --user")
    if user:
        return unitfiles.user_files(platformdirs.user_config_path("systemd") / "user", command)
    return unitfiles.system_files(root or Path("/"), command)


def _must_be_ours(files: list[Placed], *, force: bool) -> None:
    """Refuse all before anything is done, if one file is a person's."""
    for file in files:
        whose = unitfiles.whose(file.path)
        if force or whose in {Whose.NOBODYS, Whose.OURS}:
            continue
        why = "was changed by somebody" if whose is Whose.CHANGED else "is not uploaderd's"
        raise UploaderdError(f"{file.path} {why}; nothing was done", hint=_FORCE)


def _warn_if_hidden(command: list[str]) -> None:
    program = command[0]
    package = Path(uploaderd.__file__).parent
    base = Path(getattr(sys, "_base_executable", sys.executable))
    hidden = unitfiles.hidden([Path(program), Path(sys.executable), base, package])
    if hidden is not None:
        voice.warning(
            f"the service will not start: it cannot see or read {hidden}. Install uploaderd where"
            " its account may, such as /opt/uploaderd (python3 -m venv /opt/uploaderd, with a"
            " Python below /usr or /opt), and call that one's `service install`"
        )


def _put(file: Placed) -> None:
    before = unitfiles.whose(file.path)
    if not unitfiles.differs(file):
        voice.out(f"unchanged {voice.shown(file.path)}")
        return
    if before in {Whose.CHANGED, Whose.FOREIGN}:
        voice.out(f"kept {voice.shown(file.path)} as {voice.shown(unitfiles.keep(file.path))}")
    unitfiles.put(file)
    voice.out(f"{'wrote' if before is Whose.NOBODYS else 'replaced'} {voice.shown(file.path)}")


# --- systemd --------------------------------------------------------------------------------------


def _systemctl(*, user: bool) -> list[str]:
    return ["systemctl", *(["--user"] if user else [])]


def _listens(*, user: bool) -> bool:
    """Whether there is a manager to be told."""
    if not user:
        return _BOOTED.is_dir()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return runtime is not None and answers(Path(runtime) / "systemd/private")


def _tell_manager(*, user: bool, files: list[Placed]) -> None:
    if not _listens(user=user):
        voice.warning("systemd does not run here; the files are in place for when it does")
        return
    if not user:
        named = {file.path.parent.name: str(file.path) for file in files}
        _run("systemd-sysusers", named["sysusers.d"])
        _run("systemd-tmpfiles", "--create", named["tmpfiles.d"])
    _run(*_systemctl(user=user), "daemon-reload")


def _stop(*, user: bool, ours: list[Path]) -> None:
    """Stop and disable what is about to lose its unit file, instances included."""
    call = _systemctl(user=user)
    names = [path.name for path in ours if path.suffix in {".socket", ".service"}]
    plain = [name for name in names if "@" not in name]
    if plain:
        _run(*call, "disable", "--now", *sorted(plain, reverse=True))
    if len(names) > len(plain):
        _run(*call, "stop", "uploaderd@*.socket", "uploaderd@*.service")
        folder = next(path.parent for path in ours if "@" in path.name)
        instances = sorted({link.name for link in folder.glob("*.wants/uploaderd@*")})
        if instances:
            _run(*call, "disable", *instances)


def _run(*words: str) -> None:
    """Run one command, and say so; a stop takes as long as the drain that it waits for."""
    line = " ".join(words)
    program = shutil.which(words[0])
    if program is None:
        raise UploaderdError(f"{words[0]} is not there", hint=f"call it yourself: {line}")
    done = subprocess.run(  # noqa: S603 - systemd's own programs, with names of ours
        [program, *words[1:]], capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")
        raise UploaderdError(
            f"`{line}` ended with {done.returncode}: {said}",
            hint="mend that and call this command again",
        )
    voice.out(f"ran {line}")


def _next(*, user: bool, root: Path | None) -> list[str]:
    """What is left for the person to do."""
    call = " ".join(_systemctl(user=user))
    folder = platformdirs.user_config_path("uploaderd") if user else _ETC
    steps = []
    if root is not None or not (folder / "config.toml").exists():
        spool = Path.home() / "spool" if user else Path("/var/spool/uploaderd")
        if user:
            steps.append(f"mkdir -p {spool} {folder}")
        steps.append(f"""printf '[[watch]]\\npath = "{spool}"\\n' > {folder}/config.toml""")
    if user and not (folder / "environment").exists():
        steps.append(f"install -m 600 /dev/stdin {folder}/environment  # OPENAI_API_KEY=...")
    if not user and (root is not None or not (folder / "openai-api-key").exists()):
        steps.append(f"install -m 600 /dev/stdin {folder}/openai-api-key  # the key, then Ctrl-D")
    if root is not None or not _active(user=user):
        steps.append(f"{call} enable --now uploaderd")
    else:
        steps.append(f"{call} restart uploaderd.socket uploaderd.service")
    if user:
        steps.append("loginctl enable-linger  # so that it also runs while you are logged out")
    else:
        steps.append("usermod -a -G uploaderd NAME  # who may drop files and operate it")
    return ["next:", *(f"  {voice.shown(step)}" for step in steps)]


def _active(*, user: bool) -> bool:
    """Whether the service runs."""
    program = shutil.which("systemctl")
    if program is None or not _listens(user=user):
        return False
    words = [program, *_systemctl(user=user)[1:], "is-active", "--quiet", "uploaderd.service"]
    return subprocess.run(words, check=False).returncode == 0  # noqa: S603
