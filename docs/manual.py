"""Writes the man page ``docs/uploaderd.1``: the commands from click's tree, the rest from here.

    make manual

The text is in man(7)'s macros. A test compares what this writes with what is there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from uploaderd import __version__
from uploaderd.cli.words import cli
from uploaderd.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

EXITS = {
    Exit.DONE: "It was done.",
    Exit.FAILED: "It failed: a file was not uploaded, is held, or a verb did not apply.",
    Exit.USAGE: "The command line is wrong.",
    Exit.NO_DAEMON: "No daemon answers on the status socket.",
    Exit.TRY_AGAIN: "It was stopped before its end, such as by Ctrl-C; call it again to go on.",
    Exit.CONFIG: (
        "The configuration or what it names is wrong, or another daemon is there already; the "
        "daemon is not started again by systemd after this."
    ),
}
DESCRIPTION = r"""\fBuploaderd\fR watches folders. What is dropped there is uploaded in concurrent
parts through the OpenAI Uploads API, goes on where it was after a crash, and is filed away with a
receipt. It arrives whole, once, or you are told why not.
.PP
Below a watched folder everything is uploaded, except names that the \fIignore\fR patterns match and
the folder's own \fIdone/\fR and \fIfailed/\fR. A file that is renamed into place is taken at once;
one that is written in place is taken once nobody has it open for writing and nothing has changed
for a while. What arrived is moved to \fIdone/\fR with \fINAME.receipt.json\fR beside it; what can
never be uploaded goes to \fIfailed/\fR in the same way. Everything else waits, and says why:
\fBuploaderd status\fR, \fBuploaderd show\fR.
.PP
\fIFILE\fR is a path or a file's id. What was asked for goes to standard output, messages go to
standard error, each with a hint of what to do; \fB\-\-json\fR prints one JSON document."""
ENVIRONMENT = {
    "UPLOADERD_CONFIG": r"The configuration file, where \fB\-\-config\fR is not given.",
    "OPENAI_API_KEY, AZURE_OPENAI_API_KEY": (
        r"The API key, where neither the target's \fIapi_key_file\fR nor systemd's credential"
        r" \fIopenai\-api\-key\fR ($CREDENTIALS_DIRECTORY) holds one."
    ),
    "OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID": (
        r"The defaults of a target's \fIbase_url\fR, \fIorganization\fR and \fIproject\fR."
    ),
    "STATE_DIRECTORY, RUNTIME_DIRECTORY, CONFIGURATION_DIRECTORY": (
        "Where the journal, the status socket and the configuration are, as systemd sets them."
    ),
    "NO_COLOR": "If it is set and not empty: no colours.",
    "UPLOADERD_TRACEBACK": "If it is set, a fault of the program shows its traceback.",
}
FILES = {
    "/etc/uploaderd/config.toml": "The configuration, where no other one is named.",
    "~/.config/uploaderd/config.toml": "That of a user; it comes first.",
    "/run/uploaderd/status.sock": "The status socket of the service.",
    "/var/lib/uploaderd/journal.sqlite3": "The journal of the service: all that is known.",
    "WATCH/done/, WATCH/failed/": "What has ended, with its receipts.",
}
SIGNALS = {
    "SIGTERM, SIGINT": "The daemon lets requests that are under way end, and stops.",
    "SIGHUP": r"The daemon reads its configuration again, as \fBuploaderd reload\fR does.",
    "SIGKILL": "Nothing is lost; what was in flight is sent again.",
}
SEE = r""".BR systemctl (1),
.BR journalctl (1),
.BR curl (1)
.PP
The folder \fIdocs/\fR of the project: \fIoperations.md\fR (what each reason code means and what to
do), \fIsecurity.md\fR, \fIopenapi.yaml\fR (the status socket), \fIevents\-of\-the\-log.md\fR."""


def page() -> str:
    """The man page."""
    return "\n".join(line for line in _lines() if line) + "\n"


def _lines() -> Iterator[str]:
    yield ".\\\" Written by docs/manual.py; change that, or the commands' help."
    yield f'.TH UPLOADERD 1 "" "uploaderd {__version__}" "User Commands"'
    yield ".nh"
    yield ".ad l"
    yield ".SH NAME"
    yield "uploaderd \\- drop a file into a folder; it is uploaded whole, once"
    yield ".SH SYNOPSIS"
    yield ".B uploaderd"
    yield ".I COMMAND"
    yield "[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]"
    yield ".SH DESCRIPTION"
    yield DESCRIPTION
    yield ".SH COMMANDS"
    yield from _below(cli, "")
    yield ".SH OPTIONS"
    yield "Every command takes \\fB\\-\\-help\\fR. Without a command:"
    yield from _options(cli)
    yield ".SH EXIT STATUS"
    for code, said in EXITS.items():
        yield from _item(f"\\fB{code.value}\\fR", _text(said))
    yield ".SH ENVIRONMENT"
    for names, said in ENVIRONMENT.items():
        yield from _item(f"\\fB{names}\\fR", said)
    yield ".SH FILES"
    for names, said in FILES.items():
        yield from _item(f"\\fI{_text(names)}\\fR", said)
    yield ".SH SIGNALS"
    for names, said in SIGNALS.items():
        yield from _item(f"\\fB{names}\\fR", said)
    yield ".SH EXAMPLES"
    yield ".EX"
    yield "uploaderd check"
    yield "uploaderd put \\-\\-wait report.pdf"
    yield "uploaderd list \\-\\-state held,failed"
    yield "curl \\-\\-unix\\-socket /run/uploaderd/status.sock http://localhost/v1/status"
    yield ".EE"
    yield ".SH SEE ALSO"
    yield SEE


def _command(path: str, command: click.Command) -> Iterator[str]:
    context = _context(command)
    pieces = [_text(piece) for piece in command.collect_usage_pieces(context)]
    yield f".SS uploaderd {_text(path)} {' '.join(pieces)}".rstrip()
    for number, block in enumerate((command.help or "").replace("\f", "").split("\n\n")):
        yield from _block(block, first=number == 0)
    yield from _options(command)
    if path == "emulator":
        yield ".PP"
        yield "Its \\fB\\-\\-help\\fR lists the profiles, the rules, and how a fault is written."
    yield from _block(command.epilog or "", first=False)
    if isinstance(command, click.Group):
        yield from _below(command, f"{path} ")


def _below(group: click.Group, path: str) -> Iterator[str]:
    context = _context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield from _command(path + name, command)


def _context(command: click.Command) -> click.Context:
    return click.Context(command, info_name="uploaderd", help_option_names=["-h", "--help"])


def _block(block: str, *, first: bool) -> Iterator[str]:
    """A paragraph, or lines as they are where click was told not to wrap them."""
    if not block.strip():
        return
    if block.startswith("\b"):
        yield ".PP"
        head, *rest = block.removeprefix("\b").strip("\n").splitlines()
        yield _text(head)
        yield ".PP"
        yield ".EX"
        yield from (_text(line) for line in rest)
        yield ".EE"
        return
    if not first:
        yield ".PP"
    yield _text(" ".join(block.split()))


def _options(command: click.Command) -> Iterator[str]:
    context = _context(command)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if not isinstance(parameter, click.Option) or record is None:
            continue
        if "--help" in parameter.opts and not isinstance(command, click.Group):
            continue
        names = ", ".join(f"\\fB{_text(name)}\\fR" for name in sorted(parameter.opts, key=len))
        if not parameter.is_flag and not parameter.count:
            names += f" \\fI{_text(parameter.make_metavar(context))}\\fR"
        yield from _item(names, _text(" ".join(record[1].split())))


def _item(head: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield head
    yield text


_ROFF = str.maketrans(
    {"\\": r"\e", "-": r"\-", "~": r"\(ti", "^": r"\(ha", "`": r"\(ga", "'": r"\(aq", "…": "..."}
)


def _text(text: str) -> str:
    """Plain text for roff: what is typed stays as it is, and no line begins like a macro."""
    plain = text.translate(_ROFF)
    return rf"\&{plain}" if plain.startswith(".") else plain


if __name__ == "__main__":
    sys.stdout.write(page())
