"""`service install` and `uninstall` below a folder or for a user; never on the machine itself.

What they do to a real systemd is shown in tests/systemd.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.cli_helpers import Said, call
from uploaderd.cli import unitfiles
from uploaderd.errors import UploaderdError

UNITS = "etc/systemd/system"
SERVICE = f"{UNITS}/uploaderd.service"
PLACES = {
    SERVICE,
    f"{UNITS}/uploaderd.socket",
    f"{UNITS}/uploaderd@.service",
    f"{UNITS}/uploaderd@.socket",
    "etc/sysusers.d/uploaderd.conf",
    "etc/tmpfiles.d/uploaderd.conf",
}


def files_below(folder: Path) -> set[str]:
    """Every file below a folder, by its path there."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


async def service(tmp_path: Path, *words: str) -> Said:
    """Call it for the machine whose root is ``tmp_path``."""
    return await call("service", *words, "--root", tmp_path / "root", home=tmp_path)


async def test_it_puts_files_that_call_this_installation(tmp_path: Path) -> None:
    """Each file is in its place, says who wrote it, and starts the program that wrote it."""
    said = await service(tmp_path, "install")
    assert said.code == 0, said.err
    assert files_below(tmp_path / "root") == PLACES
    assert {line.split()[0] for line in said.out.split("next:")[0].splitlines()} == {"wrote"}
    assert "ran " not in said.out
    assert "systemctl enable --now uploaderd" in said.out.split("next:")[1]
    text = (tmp_path / "root" / SERVICE).read_text()
    assert text.startswith("# Written by `uploaderd service install`; sha256 of the rest: ")
    assert unitfiles.COMMAND not in text
    assert "-m uploaderd run\n" in text
    assert (tmp_path / "root" / SERVICE).stat().st_mode & 0o777 == 0o644


async def test_again_changes_nothing(tmp_path: Path) -> None:
    """It can be called as often as one likes."""
    await service(tmp_path, "install")
    said = await service(tmp_path, "install")
    assert said.code == 0
    assert {line.split()[0] for line in said.out.split("next:")[0].splitlines()} == {"unchanged"}


async def test_an_older_one_of_ours_is_replaced(tmp_path: Path) -> None:
    """After an upgrade the new text takes the place of what nobody has touched."""
    await service(tmp_path, "install")
    file = tmp_path / "root" / SERVICE
    old = unitfiles._marked(b"[Service]\nExecStart=/old/uploaderd run\n")
    file.write_bytes(old)
    said = await service(tmp_path, "install")
    assert f"replaced {file}" in said.out
    assert file.read_bytes() != old


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[Service]\nExecStart=/bin/true\n", "is not uploaderd's"),
        (None, "was changed by somebody"),
        ("", "is not uploaderd's"),
    ],
)
async def test_what_a_person_wrote_is_not_overwritten(
    tmp_path: Path, text: str | None, why: str
) -> None:
    """Nothing at all is done; with --force the person's file is kept under another name."""
    await service(tmp_path, "install")
    file, other = tmp_path / "root" / SERVICE, tmp_path / "root" / UNITS / "uploaderd.socket"
    text = f"{file.read_text()}MemoryMax=1G\n" if text is None else text
    file.write_text(text)
    other.unlink()
    said = await service(tmp_path, "install")
    assert said.code == 1
    assert f"{file} {why}; nothing was done" in said.err
    assert "--force" in said.err
    assert file.read_text() == text
    assert not other.exists()
    said = await service(tmp_path, "install", "--force")
    assert said.code == 0
    assert f"kept {file} as {file}.saved" in said.out
    assert file.with_name(f"{file.name}.saved").read_text() == text
    assert "ProtectSystem=strict" in file.read_text()


async def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """A unit that was masked stays masked, and what somebody linked stays linked."""
    file, aim = tmp_path / "root" / SERVICE, tmp_path / "aim"
    file.parent.mkdir(parents=True)
    ours = unitfiles._marked(b"[Service]\n")
    aim.write_bytes(ours)
    file.symlink_to(aim)
    said = await service(tmp_path, "install")
    assert said.code == 1
    assert aim.read_bytes() == ours
    assert file.is_symlink()


async def test_uninstall_takes_away_what_install_put_there(tmp_path: Path) -> None:
    """And nothing else: not what was changed, not what is a stranger's, not a drop-in."""
    await service(tmp_path, "install")
    root = tmp_path / "root"
    drop_in = root / f"{SERVICE}.d" / "mine.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\n")
    changed = root / UNITS / "uploaderd.socket"
    changed.write_text(changed.read_text() + "# mine\n")
    said = await service(tmp_path, "uninstall")
    assert said.code == 1
    assert f"{changed} was changed by somebody; it was left alone" in said.err
    left = {str(changed.relative_to(root)), str(drop_in.relative_to(root))}
    assert files_below(root) == left
    assert (await service(tmp_path, "uninstall", "--force")).code == 0
    assert files_below(root) == {str(drop_in.relative_to(root))}
    assert (await service(tmp_path, "uninstall")).out == "nothing was installed\n"


async def test_for_a_user(tmp_path: Path) -> None:
    """The units go below $XDG_CONFIG_HOME; without a manager it says so and puts them there."""
    xdg = tmp_path / "xdg"
    mine = {"XDG_CONFIG_HOME": str(xdg)}
    said = await call("service", "install", "--user", home=tmp_path, **mine)
    assert said.code == 0, said.err
    assert "systemd does not run here" in said.err
    assert files_below(xdg) == {
        "systemd/user/uploaderd.service",
        "systemd/user/uploaderd.socket",
    }
    assert f"{xdg}/uploaderd/config.toml" in said.out
    said = await call("service", "uninstall", "--user", home=tmp_path, **mine)
    assert said.code == 0, said.err
    assert files_below(xdg) == set()


async def test_user_and_root_exclude_each_other(tmp_path: Path) -> None:
    """A packager's folder has no user."""
    said = await service(tmp_path, "install", "--user")
    assert said.code == 2
    assert files_below(tmp_path) == set()


async def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    """A sentence, not a traceback."""
    (tmp_path / "root").write_text("no folder")
    said = await service(tmp_path, "install")
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("uploaderd: error: ")
    assert "cannot be written" in said.err


def test_an_installation_that_the_service_cannot_see(tmp_path: Path) -> None:
    """Homes and /tmp are hidden from it, and what others may not enter it may not enter."""
    assert unitfiles.hidden([Path("/usr/bin")]) is None
    for place in ("/home/ann", "/root", "/var/tmp", "/run/user/1000"):  # noqa: S108 - a name
        path = Path(place) / "up"
        assert unitfiles.hidden([Path("/usr"), path]) == path
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(closed)
    assert unitfiles.hidden([link]) is not None


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["/opt/up/bin/uploaderd"], "/opt/up/bin/uploaderd"),
        (["/opt/my tools/python", "-m", "uploaderd"], '"/opt/my tools/python" -m uploaderd'),
        (["/opt/100%/uploaderd"], "/opt/100%%/uploaderd"),
    ],
)
def test_a_command_as_a_unit_takes_it(words: list[str], line: str) -> None:
    """Spaces are quoted, and a per cent sign is no specifier."""
    assert unitfiles.command_line(words) == line


@pytest.mark.parametrize("word", ['/opt/"q"/uploaderd', "/opt/$HOME/uploaderd", "/opt/a\nb"])
def test_a_command_that_a_unit_cannot_name(word: str) -> None:
    """What systemd would read in another way is refused, with what to do."""
    with pytest.raises(UploaderdError) as refused:
        unitfiles.command_line([word])
    assert "/opt/uploaderd" in refused.value.hint
