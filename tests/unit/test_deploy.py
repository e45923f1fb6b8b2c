"""What is in deploy/ names only what there is: figures and their labels, runbooks, commands, settings."""

from __future__ import annotations

import ast
import configparser
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tallystick.app.settings import Settings
from tallystick.cli.main import command as whole_tree

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SOURCES = [ROOT / "src" / "tallystick" / "app" / name for name in ("metrics.py", "billing_metrics.py")]
SCRAPED = {"instance", "job", "exported_job"}
"""What Prometheus adds; `exported_job` is what our label `job` becomes."""
WORDS = {
    "abs", "absent", "and", "avg", "by", "clamp_min", "count", "increase", "max", "min", "offset", "on", "or", "rate",
    "sum", "time", "unless", "vector", "without",
}  # fmt: skip


def families() -> dict[str, set[str]]:
    """Every figure that the code tells, as it is called when scraped, and its labels."""
    found: dict[str, set[str]] = {}
    for source in SOURCES:
        for call in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or not call.args:
                continue
            kind = call.func.id
            if kind not in ("CounterMetricFamily", "GaugeMetricFamily", "_counter", "_gauge"):
                continue
            name = "".join(_parts(call.args[0]))
            labels = next((ast.literal_eval(one.value) for one in call.keywords if one.arg == "labels"), [])
            for each in ("available", "held") if name.endswith("_credits_") else ("",):
                found[name + each + ("_total" if "ounter" in kind else "")] = set(labels)
    return {name: labels for name, labels in found.items() if name.startswith("tallystick_")}


def _parts(name: ast.expr) -> list[str]:
    if isinstance(name, ast.Constant):
        return [str(name.value)]
    return [str(one.value) for one in getattr(name, "values", []) if isinstance(one, ast.Constant)]


FAMILIES = families()
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "tallystick.json").read_text())
TARGETS = [
    (panel["title"], target["expr"], target["legendFormat"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]


def check_promql(text: str) -> set[str]:
    """The labels that what is asked for may have in its answer. Fails where it names what there is not."""
    assert text.count("(") == text.count(")")
    assert text.count("{") == text.count("}")
    assert text.count('"') % 2 == 0
    labels: set[str] = set()
    bare = text
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", text):
        for label, _, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            if name == "up":
                assert (label, value) == ("job", "tallystick")
            else:
                assert label in FAMILIES[name] | SCRAPED, (name, label)
        bare = bare.replace("{" + matchers + "}", "")
    named = set()
    for words in re.findall(r"by \(([^)]*)\)", bare):
        kept = {word.strip() for word in words.split(",")}
        named |= kept
        bare = bare.replace(f"by ({words})", "")
    figures = set(re.findall(r"[a-z_][a-z_0-9]*", re.sub(r"\[\w+\]|offset \w+", "", bare))) - WORDS
    for figure in figures:
        assert figure == "up" or figure in FAMILIES, figure
        labels |= FAMILIES.get(figure, set())
    assert figures
    known = labels | SCRAPED
    assert named <= known, named - known
    assert "job" not in named, "scraped, our label job is exported_job"
    return named or known


def test_there_is_a_page_of_every_figure() -> None:
    page = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")
    assert len(FAMILIES) > 40
    for name, labels in FAMILIES.items():
        assert f"`{name}" in page, name
        assert labels <= set(re.findall(r"\w+", page)), name


def test_what_billing_is_watched_by_is_on_the_dashboard() -> None:
    shown = " ".join(query for _, query, _ in TARGETS)
    assert [name for name in FAMILIES if name not in shown and name != "tallystick_jobs_running"] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_names_figures_labels_runbooks_and_commands_that_there_are(rule: dict[str, Any]) -> None:
    labels = check_promql(rule["expr"])
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert re.fullmatch(r"\d+[mhd]", rule.get("for", "1m"))
    told = rule["annotations"]
    for label in re.findall(r"\$labels\.(\w+)", told["summary"] + told["description"]):
        assert label in labels, label
    assert (ROOT / told["runbook"]).is_file()
    for command in re.findall(r"`tally ([a-z -]+)", told["description"]):
        assert_command(command.split())


def assert_command(words: list[str]) -> None:
    command = whole_tree()
    for word in words:
        if not getattr(command, "commands", None):
            break
        assert word in command.commands, words
        command = command.commands[word]


def test_alerts_have_names_of_their_own() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(("title", "query", "legend"), TARGETS, ids=[f"{one[0]}-{n}" for n, one in enumerate(TARGETS)])
def test_a_panel_asks_for_figures_that_there_are(title: str, query: str, legend: str) -> None:
    labels = check_promql(query)
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, title


def test_the_dashboards_panels_do_not_lie_on_one_another() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_scrape_is_where_figures_are_and_loads_the_rules() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    (scrape,) = config["scrape_configs"]
    assert (scrape["job_name"], scrape["metrics_path"]) == ("tallystick", "/metrics")
    assert not scrape.get("honor_labels")
    assert [(DEPLOY / "prometheus" / name).is_file() for name in config["rule_files"]] == [True]


@pytest.mark.parametrize("path", sorted((DEPLOY / "systemd").iterdir()), ids=lambda path: path.name)
def test_units_run_commands_and_set_what_can_be_set(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    known = {f"TALLY_{name.upper()}" for name in Settings.model_fields} | {"DATABASE_URL"}
    assert set(re.findall(r"\b(?:TALLY_[A-Z_]+|DATABASE_URL)\b", text)) <= known
    for command in re.findall(r"bin/tally ([a-z-]+)", text):
        assert_command([command])
    if path.suffix in (".service", ".timer"):
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        assert {"Unit", "Service" if path.suffix == ".service" else "Timer"} <= set(unit.sections())


def test_the_page_names_every_file() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert path.name in page or (path.suffix == ".timer" and "`.timer`" in page), path
