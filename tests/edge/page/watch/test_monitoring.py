"""The board for Grafana and the alert rules for Prometheus, in docs/monitoring."""

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from edgecell.edge.loop.metrics import MetricsFile
from tests.edge.loop.test_mqtt import HEALTH, RUN

MONITORING = Path(__file__).parents[4] / "docs" / "monitoring"
RULES = MONITORING / "alerts.yml"
BOARD: dict[str, Any] = json.loads((MONITORING / "grafana.json").read_text())
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]

with_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian's package prometheus)",
)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_board_and_rules_ask_for_figures_that_there_are(
    client: TestClient, tmp_path: Path
) -> None:
    """The page's /metrics without a loop, and the loop's own figures."""
    file = tmp_path / "edgecell.prom"
    observer = MetricsFile(file)
    observer.begun(RUN)
    observer.health(HEALTH)
    exported = {
        family.name
        for text in (client.get("/metrics").text, file.read_text())
        for family in text_string_to_metric_families(text)
    }
    text = "\n".join([*QUERIES, *re.findall(r"expr: (.+)", RULES.read_text())])
    asked = set(re.findall(r"edgecell_\w+", text))
    assert len(asked) > 10
    assert asked <= exported


def test_no_panel_lies_on_another() -> None:
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(p["x"] + p["w"] <= 24 for p in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]


def test_every_panel_has_a_number_and_a_source_of_the_users_choice() -> None:
    panels = BOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    (variable,) = BOARD["templating"]["list"]
    source = {"type": variable["query"], "uid": f"${{{variable['name']}}}"}
    assert all(panel["datasource"] == source for panel in panels)


@with_promtool
def test_prometheus_understands_rules_and_queries(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": query} for i, query in enumerate(QUERIES)]
    file = tmp_path / "board.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    promtool("check", "rules", RULES, file)


@with_promtool
@pytest.mark.parametrize(
    ("alert", "series", "good", "bad", "after_s", "summary"),
    [
        ("Down", "up{job='edgecell',X}", 1, 0, 120, "pi does not answer"),
        ("CameraLost", "edgecell_source_lost{X}", 0, 1, 60, "pi has lost its camera"),
        ("NotRecording", "edgecell_recording{X}", 1, 0, 60, "pi is not recording"),
        (
            "DiskFull",
            "edgecell_disk_free_bytes{X}",
            1000000000,
            999999999,
            600,
            "pi has less than 1 GB of free disk space",
        ),
        (
            "Hot",
            "edgecell_temperature_celsius{X}",
            80,
            81,
            300,
            "pi is at 81 degrees Celsius",
        ),
    ],
)
def test_an_alert_is_sent_when_its_time_is_over(
    alert: str,
    series: str,
    good: int,
    bad: int,
    after_s: int,
    summary: str,
    tmp_path: Path,
) -> None:
    """Good for 100 s, a sample every 10 s, then bad."""
    expected = {
        "exp_labels": {"instance": "pi"}
        | ({"job": "edgecell"} if alert == "Down" else {}),
        "exp_annotations": {"summary": summary},
    }
    test = {
        "interval": "10s",
        "input_series": [
            {
                "series": series.replace("X", "instance='pi'"),
                "values": f"{good}x9 {bad}x99",
            }
        ],
        "alert_rule_test": [
            {"eval_time": "90s", "alertname": f"Edgecell{alert}", "exp_alerts": []},
            {
                "eval_time": f"{100 + after_s - 10}s",
                "alertname": f"Edgecell{alert}",
                "exp_alerts": [],
            },
            {
                "eval_time": f"{100 + after_s}s",
                "alertname": f"Edgecell{alert}",
                "exp_alerts": [expected],
            },
        ],
    }
    file = tmp_path / "test.yml"
    file.write_text(
        json.dumps(
            {
                "rule_files": [str(RULES)],
                "evaluation_interval": "10s",
                "tests": [test],
            }
        )
    )
    promtool("test", "rules", file)
