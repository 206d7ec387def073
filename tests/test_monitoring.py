"""The dashboard, the alerts and their tables speak of metrics that a running daemon has."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.exposition import Page, promtool, scrape
from tests.support.service import EmulatorProcess
from tests.support.waiting import wait_for

FOLDER = Path(__file__).parent.parent / "docs" / "monitoring"
ALERTS, TESTS = FOLDER / "uploaderd-alerts.yml", FOLDER / "uploaderd-alerts.test.yml"
DASHBOARD = json.loads((FOLDER / "uploaderd-dashboard.json").read_text("utf-8"))

UNUSED = {
    "uploaderd_bandwidth_limit_source": "for who wonders; status says it in a sentence",
    "uploaderd_target_parts_in_flight_reason": "status says it in a sentence",
    "uploaderd_journal_stored_bytes": "for who wants to know it in all; a graph shows the rate",
    "uploaderd_journal_resent_bytes": "the same",
    "process_virtual_memory_bytes": "says little of a process with threads",
    "process_start_time_seconds": "for `changes()`, to see restarts",
}
GIVEN = {"instance", "job"}  # by Prometheus, at each scrape
FOREIGN = {"up": {"job"}}  # Prometheus' own
WORDS = {
    "and", "or", "unless", "by", "without", "on", "ignoring", "bool", "offset", "Inf",
    "rate", "increase", "sum", "min", "max", "histogram_quantile", "absent", "deriv",
    "min_over_time", "time", "label_values",
}  # fmt: skip

_STRING = r'"(?:[^"\\]|\\.)*"'
_SELECTOR = re.compile(r"(?<![\w.])([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})?")
_MATCHER = re.compile(rf"(\w+)\s*(=~|!~|!=|=)\s*({_STRING})")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


class Query:
    """A query's metrics, with what it asks of each, and the labels that it groups by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.grouped = {
            name.strip() for group in _GROUPING.findall(text) for name in group.split(",")
        }
        bare = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", text))  # durations are no names
        self.selectors: list[tuple[str, list[tuple[str, str, str]]]] = []
        for name, inside in _SELECTOR.findall(bare):
            if name in WORDS or not re.match(r"[a-z]", name):
                continue
            matchers = [(a, how, json.loads(value)) for a, how, value in _MATCHER.findall(inside)]
            self.selectors.append((name, matchers))

    @property
    def names(self) -> set[str]:
        """The metrics, as a query names them."""
        return {name for name, _ in self.selectors}

    def check(self, page: Page, shown: set[str]) -> None:
        """Each metric is there, with each label, and with a value for what it is to be.

        Args:
            page: what a daemon tells.
            shown: labels that a legend or a sentence beside the query names.
        """
        there = page.samples | {name: [dict.fromkeys(ls, "")] for name, ls in FOREIGN.items()}
        labels = set(GIVEN)
        for name, matchers in self.selectors:
            assert name in there, f"{self.text}: no daemon has {name}"
            own = {label for series in there[name] for label in series}
            labels |= own
            for label, how, value in matchers:
                assert label in own | GIVEN, f"{self.text}: {name} has no label {label}"
                if label in GIVEN or how == "!=":
                    continue
                values = {series.get(label, "") for series in there[name]}
                if how == "=":
                    assert value in values, f"{self.text}: {name} has no {label} {value}"
                else:
                    for one in _alternatives(value):
                        found = any(re.fullmatch(one, known) for known in values)
                        assert found, f"{self.text}: {name} has no {label} like {one}"
        surplus = (self.grouped | shown) - labels
        assert not surplus, f"{self.text}: nothing has the labels {sorted(surplus)}"


def _alternatives(expression: str) -> list[str]:
    """``a|b`` as its parts, where no bracket holds them together."""
    return [expression] if "(" in expression else expression.split("|")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """What a real daemon tells once a file has arrived."""
    root = tmp_path_factory.mktemp("monitoring")

    async def ask() -> Page:
        async with (
            EmulatorProcess(root) as service,
            DaemonProcess(root, service.base_url) as daemon,
        ):
            await daemon.start()
            daemon.drop("a.txt", b"content")
            await daemon.until_drained()
            return await wait_for(lambda: _whole(daemon), what="a look at the event loop")

    return asyncio.run(ask())


async def _whole(daemon: DaemonProcess) -> Page | None:
    page = await scrape(daemon)
    return page if page.value("uploaderd_event_loop_lag_seconds_count") else None


def alerts() -> dict[str, dict[str, str]]:
    """Each alert's expression, severity and sentences."""
    found = {}
    for block in ALERTS.read_text("utf-8").split("- alert: ")[1:]:
        name, _, rest = block.partition("\n")
        match = re.search(
            r"^        expr: (?:>-\n)?(.*?)\n        (?=for:|labels:)",
            rest,
            re.DOTALL | re.MULTILINE,
        )
        severity = re.search(r"severity: (\w+)", rest)
        assert match, name
        assert severity, name
        sentences = rest.partition("annotations:")[2].partition("\n\n")[0]
        expression = " ".join(match[1].split())
        found[name] = {"expr": expression, "severity": severity[1], "says": sentences}
    return found


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[Query, set[str]]]:
    """Every query of the alerts and the dashboard, with the labels that are shown beside it."""
    found = [
        (Query(alert["expr"]), set(re.findall(r"\$labels\.(\w+)", alert["says"])))
        for alert in alerts().values()
    ]
    for panel in panels():
        for target in panel["targets"]:
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            found.append((Query(target["expr"]), legend))
    return found


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading of the README."""
    text = (FOLDER / "README.md").read_text("utf-8")
    below = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in below.splitlines() if line[:3] == "| `"]
    assert rows, heading
    return [[cell.strip() for cell in row] for row in rows]


def test_every_query_asks_for_what_a_daemon_tells(page: Page) -> None:
    """Its metrics, their labels, and the values that those labels are compared with."""
    asked = queries()
    assert len(asked) > 60
    for query, shown in asked:
        assert query.names, query.text
        query.check(page, shown)


@pytest.mark.parametrize(
    "text",
    [
        'uploaderd_nothing{state="held"}',
        'uploaderd_files{watch="/s"}',
        'uploaderd_files{state="holding"}',
        'uploaderd_files{state=~"held|holding"}',
        "sum by (purpose) (uploaderd_files)",
        "uploaderd_requests",  # a counter's series end in _total
    ],
)
def test_a_query_for_what_is_not_told_is_noticed(page: Page, text: str) -> None:
    """The check itself can fail."""
    with pytest.raises(AssertionError):
        Query(text).check(page, set())
    with pytest.raises(AssertionError):
        Query("uploaderd_files").check(page, {"purpose"})


def test_every_metric_is_used_or_left_out_on_purpose(page: Page) -> None:
    """What nobody looks at is not worth telling, unless there is a reason."""
    used = {name for query, _ in queries() for name in query.names}
    for name, family in page.families.items():
        names = {sample.name for sample in family.samples}
        assert bool(names & used) != (name in UNUSED), name
    assert page.families.keys() >= UNUSED.keys()


def test_the_table_of_metrics_is_whole_and_true(page: Page) -> None:
    """Each metric with its type and its labels, and no other."""
    told = {row[0].strip("`"): (row[1], row[2]) for row in table("What each number means")}
    ours = {n: f for n, f in page.families.items() if n.startswith("uploaderd_")}
    assert told.keys() == ours.keys()
    for name, family in ours.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert told[name][0] == family.type, name
        assert set(filter(None, told[name][1].split(", "))) == labels, name


def test_the_table_of_alerts_is_whole_and_true() -> None:
    """Each alert with its severity and what to do, and no other."""
    told = {
        row[0].strip("`"): (row[1], row[2]) for row in table("What each alert means and what to do")
    }
    known = alerts()
    assert told.keys() == known.keys()
    for name, alert in known.items():
        assert told[name][0] == alert["severity"], name
        assert told[name][1], name


def test_every_alert_is_seen_to_fire() -> None:
    """In the rules' own tests, which promtool runs."""
    text = TESTS.read_text("utf-8")
    for name in alerts():
        fires = f'alertname="{name}", alertstate="firing"' in text
        assert fires or f"alertname: {name}\n" in text, name


def test_promtool_accepts_the_rules() -> None:
    """``promtool check rules``."""
    promtool("check", "rules", ALERTS.name, folder=FOLDER)


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    """``promtool test rules``."""
    promtool("test", "rules", TESTS.name, folder=FOLDER)


def test_promtool_finds_nothing_in_a_daemons_page(page: Page) -> None:
    """``promtool check metrics`` has not a word to say."""
    promtool("check", "metrics", folder=FOLDER, stdin=page.text)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    """Ids that are one panel's own, a data source that is chosen, and no place of its own."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert "id" not in DASHBOARD, "Grafana would take another one's place"
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert variables["instance"]["datasource"] == chosen
    for panel in panels():
        assert panel["datasource"] == chosen, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == chosen, panel["title"]
            used = set(re.findall(r"\$(?:__)?\{?(\w+)", target["expr"]))
            assert used <= {"instance", "rate_interval"}, panel["title"]
            assert "$instance" in target["expr"], panel["title"]
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(titles) == len(set(titles))


def test_no_two_panels_lie_upon_each_other() -> None:
    """On Grafana's grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
