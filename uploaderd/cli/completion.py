"""``completion`` prints the script that lets a shell complete commands, options and files."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from uploaderd.cli import voice
from uploaderd.cli.common import example
from uploaderd.errors import UsageError

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_UPLOADERD_COMPLETE"


@click.command(epilog=example("uploaderd completion bash > /etc/bash_completion.d/uploaderd"))
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    For one session alone: source <(uploaderd completion bash). For zsh it goes into a folder of
    $fpath under the name _uploaderd, for fish into ~/.config/fish/completions/uploaderd.fish. It
    completes commands, options, states, paths and, if the daemon answers at once, files' ids.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"there is no completion for {shell}", hint="one of: " + ", ".join(SHELLS))
    voice.out(kind(ctx.find_root().command, {}, "uploaderd", VARIABLE).source().strip())
