"""The commands that keep running: ``run``, ``emulator`` and ``demo``."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from uploaderd.cli.common import PATH, config_option, example, load
from uploaderd.errors import Exit

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=example("uploaderd run --config /etc/uploaderd/config.toml"))
@config_option
def run(config: Path | None) -> None:
    """Run the daemon in the foreground.

    It logs to standard error; SIGTERM and Ctrl-C let it finish what is short and stop.
    """
    # Until the daemon has handlers of its own, a signal arrives as an interrupt.
    with suppress(KeyboardInterrupt):
        from uploaderd import app  # noqa: PLC0415 - heavy

        app.start(load(config), os.environ)


@click.command(epilog=example("uploaderd demo"))
@click.option("--keep", is_flag=True, help="Keep the temporary folder.")
def demo(keep: bool) -> Exit:
    """Show it all on an emulator: no key, no network.

    Works in a temporary folder and exits by itself: drops real files, shows their progress,
    kills the daemon half-way with SIGKILL, starts it again, and proves that every byte arrived,
    once.
    """
    from uploaderd import demo as show  # noqa: PLC0415 - heavy

    return Exit.DONE if show.play(keep=keep) else Exit.FAILED


class _WithGrammar(click.Command):
    """Shows in its help how faults are written, and which profiles and rules there are."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from uploaderd.emulator import PROFILES, Rules, faults  # noqa: PLC0415 - heavy

        super().format_options(ctx, formatter)
        with formatter.section("Profiles"):
            formatter.write_text(", ".join(sorted(PROFILES)))
        with formatter.section("Rules (NAME=VALUE; a wrong value is answered with the right ones)"):
            formatter.write_text(", ".join(field.name for field in dataclasses.fields(Rules)))
        # The grammar is described where it is read; its first paragraph is about the code.
        with formatter.section("Faults"):
            for line in inspect.cleandoc(faults.__doc__ or "").splitlines()[2:]:
                formatter.write(f"{'':{formatter.current_indent}}{line}".rstrip() + "\n")


@click.command(
    cls=_WithGrammar,
    epilog="\b\nExample:\n"
    "  uploaderd emulator --listen 127.0.0.1:8080 --store /tmp/store --api-key sk-test \\\n"
    "      --fault call=part,action=refuse,status=503,probability=0.2",
)
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where; port 0 picks one.")
@click.option("--store", required=True, type=PATH, metavar="DIR", help="Where the bytes go.")
@click.option(
    "--api-key", metavar="KEY", help="The key that a client must show; without it, any will do."
)
@click.option(
    "--profile", default="openai", show_default=True, metavar="NAME", help="Its rules; see below."
)
@click.option(
    "--fault", "faults", multiple=True, metavar="SPEC", help="What goes wrong; repeatable."
)
@click.option(
    "--rule", "rules", multiple=True, metavar="NAME=VALUE", help="Changes a rule; repeatable."
)
def emulator(
    listen: str,
    store: Path,
    api_key: str | None,
    profile: str,
    faults: tuple[str, ...],
    rules: tuple[str, ...],
) -> None:
    """Run a local Uploads service.

    Its first line on standard output is "listening on http://HOST:PORT/v1". Ctrl-C and SIGTERM
    end it; the store stays, and can be used again.
    """
    from uploaderd import emulator as service  # noqa: PLC0415 - heavy

    with suppress(KeyboardInterrupt):
        asyncio.run(
            service.serve(
                listen=listen,
                store=store,
                api_key=api_key,
                profile=profile,
                faults=faults,
                rules=rules,
            )
        )
