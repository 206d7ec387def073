"""The unit files under a real systemd: what they allow, to whom, and how they come and go."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.figures import report
from tests.systemd.guest import PROGRAM
from tests.systemd.unit import Unit

if TYPE_CHECKING:
    from tests.systemd.guest import Guest
    from uploaderd.emulator import Emulator

MOST_EXPOSURE = 1.5
FIRST_DYNAMIC = 61184
NAME = "a.txt"
ELSEWHERE = "/home/ann/secret.txt"
OPEN = ("/etc/shadow", "/etc/uploaderd/openai-api-key", ELSEWHERE)


@pytest.mark.parametrize("name", ["uploaderd.service", "uploaderd@team.service"])
def test_the_units_are_clean_and_tight(guest: Guest, name: str) -> None:
    """Nothing is to be said of them, and next to nothing is left open."""
    assert guest.run("systemd-analyze", "verify", name) == ""
    said = guest.run("systemd-analyze", "security", "--no-pager", name)
    exposure = re.search(r"Overall exposure level for .*: ([\d.]+)", said)
    assert exposure is not None, said
    report("systemd-analyze security", unit=name, exposure=float(exposure[1]))
    assert float(exposure[1]) <= MOST_EXPOSURE, said


async def test_a_user_has_a_service_of_their_own(guest: Guest, emulator: Emulator) -> None:
    """It runs in the user's manager, without root, on the user's own folders, and goes again."""
    user = "cleo"
    home, run = f"/home/{user}", f"/run/user/{user}"
    guest.run("useradd", "--create-home", user)
    guest.run("install", "-d", "-o", user, "-g", user, "-m", "700", run)
    manager = ["[Service]", f"User={user}", "Type=notify", "Delegate=yes", "KillMode=mixed"]
    manager += [f"Environment=XDG_RUNTIME_DIR={run}", "ExecStart=/lib/systemd/systemd --user"]
    guest.write("/run/systemd/system/manager.service", "\n".join(manager) + "\n")
    guest.run("systemctl", "daemon-reload")
    guest.run("systemctl", "start", "manager.service")

    async def call(*words: str) -> str:
        person = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
        mine = ("env", f"HOME={home}", f"XDG_RUNTIME_DIR={run}")
        return await asyncio.to_thread(guest.run, *person, *mine, *words)

    said = await call(PROGRAM, "service", "install", "--user")
    assert "ran systemctl --user daemon-reload" in said
    for name in ("uploaderd.service", "uploaderd.socket"):
        unit = f"{home}/.config/systemd/user/{name}"
        assert await call("systemd-analyze", "--user", "verify", unit) == ""
    await call("mkdir", "-p", f"{home}/spool", f"{home}/.config/uploaderd")
    config = f"{home}/.config/uploaderd"
    text = f'[targets.openai]\nbase_url = "{emulator.base_url}"\n[[watch]]\npath = "{home}/spool"\n'
    guest.write(f"{config}/config.toml", text)
    guest.write(f"{config}/environment", "OPENAI_API_KEY=sk-test-of-cleo\n")
    await call("systemctl", "--user", "enable", "--now", "uploaderd")
    letter = f"{home}/letter.txt"
    guest.write(letter, "a letter")
    said = await call(PROGRAM, "put", "--wait", letter)
    assert [f"{remote.id}\n" for remote in emulator.store.files.values()] == [said]
    assert guest.path(f"{home}/spool/done/letter.txt").exists()
    await call("systemctl", "--user", "reload", "uploaderd")
    said = await call(PROGRAM, "service", "uninstall", "--user")
    assert "disable --now uploaderd.socket uploaderd.service" in said
    assert not list(guest.path(f"{home}/.config/systemd/user").rglob("uploaderd*"))
    assert guest.path(f"{home}/.local/state/uploaderd/journal.sqlite3").exists()
    guest.run("systemctl", "stop", "manager.service")


def test_the_sandbox(unit: Unit) -> None:
    """In the daemon's place a program can do what the job needs, and nothing else.

    What is readable for everybody but lies in a home, what root alone may read, and other
    processes are not there; nothing but the spool and the state can be written to.
    """
    guest = unit.guest
    guest.write(ELSEWHERE, "secret")
    guest.run("chmod", "-R", "a+rX", "/home/ann")
    guest.write(f"{unit.folder}/{NAME}", "a", 0o644)
    guest.write(f"{unit.folder}/run.sh", "#!/bin/sh\n", 0o755)
    guest.run("mknod", "-m", "666", "/dev/disk0", "c", "1", "3")
    guest.write("/opt/probe.py", (Path(__file__).parent / "probe.py").read_text())
    probe = f"/opt/uploaderd/bin/python /opt/probe.py {' '.join(OPEN)}"
    unit.drop_in("Type=oneshot", "Restart=no", "ExecStart=", f"ExecStart={probe}")
    unit.start()
    said = [e["MESSAGE"] for e in unit.entries() if e.get("_COMM") == "python"]
    found = dict(line.split(": ") for line in said if isinstance(line, str))
    assert found == {
        "read spool": "ok",
        "lease": "ok",
        "write spool": "ok",
        "write state": "ok",
        "write socket folder": "ok",
        "read key": "ok",
        "read boot id": "ok",
        "speak tcp": "ok",
        "run spool": "EACCES",
        "write configuration": "EACCES",
        "write elsewhere": "EROFS",
        "write programs": "EROFS",
        "see others": "ENOENT",
        "listen": found["listen"],  # where systemd was built with BPF
        "packets": "EAFNOSUPPORT",
        "netlink": "EAFNOSUPPORT",
        "unshare": "EPERM",
        "mount": "EPERM",
        "trace": "EPERM",
        "host name": "EPERM",
        "set-user-id": "EPERM",
        "write and run": "EPERM",
        "real time": "EPERM",
        "raise limits": "EPERM",
        "disk": "ENOENT",
        "read /etc/shadow": "EACCES",
        "read /etc/uploaderd/openai-api-key": "EACCES",
        f"read {ELSEWHERE}": "EACCES",
    }


async def test_a_link_out_of_the_spool_is_not_followed(unit: Unit, emulator: Emulator) -> None:
    """What lies elsewhere is not uploaded under a name of the spool's."""
    unit.guest.write("/srv/secret.txt", "secret")
    unit.start()
    (unit.spool / "link.txt").symlink_to("/srv/secret.txt")
    unit.drop(NAME, b"a")
    await unit.until_done(emulator, NAME, b"a")
    assert [file.filename for file in emulator.store.files.values()] == [NAME]


async def test_the_group_may_drop_and_operate_and_others_may_not(
    unit: Unit, emulator: Emulator
) -> None:
    """A member of the group puts files and says pause; anybody else gets a sentence."""
    guest = unit.guest
    for user, group in (("ann", "uploaderd"), ("ben", "nogroup")):
        if guest.call("id", user)[0]:
            guest.run("useradd", "--groups", group, user)
    unit.start()
    letter = "/srv/letter.txt"
    guest.write(letter, "a letter")

    async def call(user: str, *words: str) -> tuple[int, str]:
        person = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
        home = ("env", f"HOME=/home/{user}")
        return await asyncio.to_thread(guest.call, *person, *home, PROGRAM, *words)

    code, said = await call("ann", "put", "--wait", letter)
    (remote,) = emulator.store.files.values()
    assert (code, said) == (0, f"{remote.id}\n")
    assert (await call("ann", "pause"))[0] == 0
    assert (await unit.ask("/v1/status"))["state"] == "paused"
    for words in (("resume",), ("put", letter)):
        code, said = await call("ben", *words)
        assert code != 0
        assert said.startswith("uploaderd: error: "), said
    assert (await unit.ask("/v1/status"))["state"] == "paused"
    assert (await call("ann", "resume"))[0] == 0


async def test_instances_have_places_of_their_own(unit: Unit, emulator: Emulator) -> None:
    """uploaderd@NAME runs beside the plain service, on its own spool, journal, socket and key."""
    guest = unit.guest
    unit.start()
    team = Unit(guest, emulator.base_url, "team")
    guest.run("mkdir", "-p", team.etc, team.folder)
    guest.run("chown", "uploaderd:uploaderd", team.folder)
    team.clear()
    team.configure()
    team.start()
    assert (await team.ask("/v1/status"))["pid"] == int(team.pid) != int(unit.pid)
    assert (await team.ask("/v1/status"))["watches"][0]["path"] == "/var/spool/uploaderd-team"
    team.systemctl("reload", team.name)
    team.drop(NAME, b"of the team")
    await team.until_done(emulator, NAME, b"of the team")
    assert guest.path("/var/lib/uploaderd-team/journal.sqlite3").exists()
    status = guest.run(PROGRAM, "status", "--json", "--socket", team.address)
    assert json.loads(status)["pid"] == int(team.pid)
    team.clear()


async def test_it_runs_as_a_dynamic_user(unit: Unit, emulator: Emulator) -> None:
    """Without a lasting account, too: it reads its key, keeps its journal and files into the spool.

    The spool's group is what such a user gets at it by.
    """
    unit.drop_in("DynamicUser=yes", "User=passing", "Group=", "SupplementaryGroups=uploaderd")
    unit.start()
    assert int(unit.fact("Uid").split()[0]) >= FIRST_DYNAMIC
    unit.drop(NAME, b"dynamic")
    await unit.until_done(emulator, NAME, b"dynamic")
    assert unit.guest.path("/var/lib/uploaderd").is_symlink(), "its state is private"


def test_a_missing_key_is_no_endless_restart(unit: Unit) -> None:
    """The daemon says where the key belongs, and systemd leaves it at that."""
    unit.guest.path("/etc/uploaderd/openai-api-key").unlink()
    code, _ = unit.guest.call("systemctl", "start", unit.name)
    assert code != 0
    assert (unit.show("ActiveState"), unit.show("NRestarts")) == ("failed", "0")
    said = unit.log()
    assert "target openai has no API key" in said
    assert "/etc/uploaderd/openai-api-key" in said


def test_install_again_and_uninstall(unit: Unit) -> None:
    """What a person changed is neither overwritten nor removed; what is ours goes, data stays."""
    guest = unit.guest
    unit.start()
    again = guest.run(PROGRAM, "service", "install")
    assert "wrote" not in again
    assert "systemctl restart uploaderd.socket uploaderd.service" in again
    file = guest.path("/etc/systemd/system/uploaderd@.socket")
    ours = file.read_text()
    file.write_text(f"{ours}# mine\n")
    code, said = guest.call(PROGRAM, "service", "install")
    assert (code, "was changed by somebody" in said) == (1, True)
    unit.systemctl("enable", unit.name)
    code, said = guest.call(PROGRAM, "service", "uninstall")
    assert (code, "was changed by somebody" in said) == (1, True)
    assert file.exists()
    assert unit.show("ActiveState") == "inactive"
    units = guest.path("/etc/systemd/system")
    assert {path.name for path in units.rglob("uploaderd*")} == {"uploaderd@.socket"}
    assert guest.path("/var/lib/uploaderd/journal.sqlite3").exists()
    assert guest.path("/etc/uploaderd/openai-api-key").exists()
    file.write_text(ours)
    guest.run(PROGRAM, "service", "install")
    unit.start()
