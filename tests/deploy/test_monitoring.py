"""Alert rules and dashboard name metrics that exist, with labels that exist."""

import json
import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.runtime.machines import Counter
from viewstamp.runtime.local import local_cluster
from viewstamp.web.metrics import NodeCollector

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
NAME = re.compile(r"\bviewstamp_[a-z_]+")
LABELS = re.compile(r"\b(viewstamp_[a-z_]+)\{([a-z_]+)=")


async def _samples() -> dict[str, set[str]]:
    """Return the labels of each sample that a leader with a follower makes."""
    async with local_cluster(Counter, replicas=3) as cluster:
        collector = NodeCollector(cluster.servers[await cluster.leader()])
        found: dict[str, set[str]] = {}
        for metric in collector.collect():
            for sample in metric.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def _queries() -> list[str]:
    board = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


async def test_every_metric_that_is_named_exists() -> None:
    samples = await _samples()
    expressions = [*_queries(), *(rule["expr"] for rule in _rules())]
    named = {name for expression in expressions for name in NAME.findall(expression)}
    assert len(named) > 15
    assert named <= set(samples), named - set(samples)
    for expression in expressions:
        for name, label in LABELS.findall(expression):
            assert label in samples[name], expression
        for label in re.findall(r"\bby \(([a-z, ]+)\)", expression):
            assert "le" in label


def test_each_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    rules = _rules()
    assert len({rule["alert"] for rule in rules}) == len(rules) > 10
    for rule in rules:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]


def test_each_panel_has_a_place_and_a_source() -> None:
    board = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]}
    assert len(places) == len(board["panels"]) == len({panel["id"] for panel in board["panels"]})
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"${source}"}
