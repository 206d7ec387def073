"""The words of the command line: one command is run, and its errors are mapped to exit codes.

The voice is described in ``voice``. What is heavy (aiohttp, rich) is imported by the command that
needs it.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from uploaderd import __version__
from uploaderd.cli import voice
from uploaderd.cli.common import example
from uploaderd.errors import Exit, UploaderdError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

# Where each command is, and what the list of commands says of it (the first sentence of its own
# help): only the command that is called is imported.
COMMANDS: Final = {
    "run": ("daemon:run", "Run the daemon in the foreground."),
    "demo": ("daemon:demo", "Show it all on an emulator: no key, no network."),
    "emulator": ("daemon:emulator", "Run a local Uploads service."),
    "check": ("check:check", "Check the configuration and its surroundings."),
    "status": ("status:status", "Show what the daemon does now, and what waits for what."),
    "list": ("files:list_files", "List all files, the newest first."),
    "show": ("show:show", "Show one file: its reason, history and parts."),
    "put": ("put:put", "Drop files into a watched folder, whole or not at all."),
    "wait": ("put:wait", "Block until the files have ended."),
    "retry": ("verbs:retry", "Try files again, now and from scratch."),
    "hold": ("verbs:hold", "Hold files back until `release`."),
    "release": ("verbs:release", "Let files go on that `hold` holds."),
    "cancel": ("verbs:cancel", "Give files up; they stay in the spool."),
    "pause": ("verbs:pause", "Begin no request more, until `resume`."),
    "resume": ("verbs:resume", "Go on after `pause`."),
    "limit": ("limiting:limit", "Show the limit of bandwidth, or set it at once."),
    "reload": ("verbs:reload_", "Let the daemon read its configuration anew."),
    "service": ("service:service", "Put systemd's unit files in place, or take them away."),
    "completion": ("completion:completion", "Print a shell's completion script."),
}


class _InOrder(click.Group):
    """Lists the commands in the order in which a person meets them, and imports them late."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"uploaderd.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=said)
            for name, (_, said) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example("uploaderd demo")
    + "\n\nExit codes: 0 done; 1 it failed; 2 wrong usage; 69 no daemon answers;"
    " 75 stopped before the end, try again; 78 configuration.",
)
@click.version_option(__version__, prog_name="uploaderd", message="%(prog)s %(version)s")
def cli() -> None:
    """Upload what is dropped into a folder, whole and once, through the OpenAI Uploads API."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code; no traceback ever reaches a person."""
    signal.signal(signal.SIGTERM, _terminate)
    # Whoever closed one of them wants to hear nothing there.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    try:
        code = _call(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough; the interpreter must not complain when it flushes again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = Exit.FAILED
    sys.exit(int(code))


def _call(args: Sequence[str] | None) -> int:  # noqa: PLR0911 - one for each way to end
    try:
        code = cli.main(args=args, prog_name="uploaderd", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return Exit.USAGE
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "uploaderd"
        voice.error(_small(error.format_message()), hint=f"see: {command} --help")
        return Exit.USAGE
    except click.ClickException as error:
        voice.error(_small(error.format_message()))
        return Exit.FAILED
    except UploaderdError as error:
        voice.error(str(error), hint=error.hint)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        voice.error("stopped before the end", hint="call it again to go on")
        return Exit.TRY_AGAIN
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - a person gets a sentence, whatever happened
        return _bug(error)
    return code if isinstance(code, int) else Exit.DONE


def _bug(error: Exception) -> int:
    """Say that this is our fault; the traceback is for those who ask for it."""
    if os.environ.get("UPLOADERD_TRACEBACK"):
        import traceback  # noqa: PLC0415 - only here

        traceback.print_exception(error)
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        named = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, str) else ""
        voice.error(f"the system refused: {error.strerror}{named}")
    else:
        voice.error(
            f"this is a fault of uploaderd itself ({kind}: {error})",
            hint="please report it, with what UPLOADERD_TRACEBACK=1 prints",
        )
    return Exit.FAILED


def _small(message: str) -> str:
    """Fit click's sentence into our voice."""
    sentence = " ".join(message.split()).rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _terminate(_number: int, _frame: FrameType | None) -> None:
    """End a command on SIGTERM the way Ctrl-C does, so that it tidies up; `run` has its own."""
    raise KeyboardInterrupt
