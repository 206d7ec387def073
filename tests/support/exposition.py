"""What ``GET /metrics`` said, parsed; and promtool, where it is to be had."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.core import Metric

    from tests.support.daemon import DaemonProcess


class Page:
    """One exposition.

    Attributes:
        text: as it came.
        families: by name; a counter's has no ``_total``.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Metric] = {
            family.name: family for family in text_string_to_metric_families(text)
        }

    @property
    def samples(self) -> dict[str, list[dict[str, str]]]:
        """The labels of each series, by the name that a query uses."""
        found: dict[str, list[dict[str, str]]] = {}
        for family in self.families.values():
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
        return found

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series of this name that have these labels; there must be one."""
        found = [
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, f"no series {name} {labels}"
        return sum(found)

    def ones(self, name: str, label: str) -> list[str]:
        """Which of the states of a state set are 1."""
        return [s.labels[label] for s in self.families[name].samples if s.value == 1]


async def scrape(daemon: DaemonProcess) -> Page:
    """Ask a daemon as Prometheus would."""
    connector = aiohttp.UnixConnector(os.fspath(daemon.socket))
    wait = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=wait) as session,
        session.get("http://localhost/metrics") as reply,
    ):
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return Page(await reply.text())


def promtool(*words: str, folder: Path, stdin: str = "") -> None:
    """Run ``promtool`` (``$PROMTOOL``, else by ``$PATH``), or skip the test and say why.

    Raises:
        AssertionError: it found something; its words are in the error.
    """
    tool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not there; Debian has it in the package prometheus ($PROMTOOL)")
    done = subprocess.run(
        [tool, *words], cwd=folder, input=stdin, capture_output=True, text=True, check=False
    )
    said = (done.stdout + done.stderr).strip()
    assert done.returncode == 0, said
    if words[:2] == ("check", "metrics"):  # it only warns of some
        assert not said, said
