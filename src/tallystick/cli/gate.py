"""`tally gate`: fails a pipeline when a call of the candidate costs more than it did."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, print_json, print_text, progress_bar, say

if TYPE_CHECKING:
    from tallystick.app.gate import GateReport

_HEADER = ("", "calls", "before", "mean USD", "before", "median USD", "before", "change", "dearer pairs", "")


def register(app: typer.Typer) -> None:
    """Add `tally gate`."""
    app.command()(gate)


def gate(
    against: Annotated[str, typer.Option(help="The baseline's time: 7d, 12h, 4w, or FROM..TO.")],
    max_increase: Annotated[str, typer.Option(help="By how much the mean cost of a call may grow, such as 10%.")],
    environment: Annotated[str, typer.Option(help="The candidate's environment.")] = "staging",
    against_environment: Annotated[str, typer.Option(help="The baseline's environment.")] = "production",
    by: Annotated[str, typer.Option(help="Groups: feature, or action.", metavar="feature|action")] = "feature",
    start: Annotated[str | None, typer.Option("--from", help="The candidate's first instant.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="The first instant after the candidate.")] = None,
    session: Annotated[list[str] | None, typer.Option(help="Only this session of the candidate; repeatable.")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(help="Only the candidate's requests with KEY=VALUE; repeatable.")
    ] = None,
    org: Annotated[str | None, typer.Option(help="Only this org's requests, on both sides.")] = None,
    min_sample: Annotated[int, typer.Option(help="How many calls each side of a group must have.", min=1)] = 30,
    allow_new: Annotated[bool, typer.Option("--allow-new", help="Let groups pass that the baseline lacks.")] = False,
    ignore_small: Annotated[
        bool, typer.Option("--ignore-small", help="Let groups with too few calls pass, if all together are enough.")
    ] = False,
    markdown: Annotated[
        Path | None, typer.Option(help="Also append the table to this file, such as $GITHUB_STEP_SUMMARY.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the cost per call, or per action, of a candidate environment with a baseline.

    Exit code 0: it passes. 1: it does not: a cost grew too much, a sample is too small, the cost of a request is not
    known, or the baseline lacks a group; each reason is named. 2: the question is wrong. 3: the ledger is away.
    """
    from tallystick.app import gate as use_case
    from tallystick.app.gate_compare import Terms
    from tallystick.app.runtime import open_runtime

    groups = _by(by)
    terms = Terms(use_case.read_increase(max_increase), min_sample, allow_new, ignore_small)
    attributes = use_case.read_attributes(attribute or [])
    with open_runtime(Settings()) as runtime:
        now = runtime.clock()
        candidate = use_case.candidate_of(
            now,
            environment,
            start=_instant(start, "--from"),
            end=_instant(end, "--to"),
            sessions=session or (),
            attributes=attributes,
        )
        since, until = use_case.read_range(against, now)
        baseline = use_case.Wanted(since, until, against_environment)
        with progress_bar("orgs", None) as advance:
            report = use_case.run_gate(runtime, candidate, baseline, terms, by=groups, org_id=org, progress=advance)
    if as_json:
        print_json(report.as_dict())
    else:
        print_text(_plain(_cells(report)))
        for note in report.result.notes:
            say(f"note: {note}")
    if markdown is not None:
        with markdown.open("a", encoding="utf-8") as file:
            file.write(_markdown(report))
    for reason in report.result.reasons:
        say(f"fails: {reason.group or 'all calls'}: {reason.detail} [{reason.code}]")
    say("the gate lets it pass" if report.result.passed else "the gate does not let it pass")
    if not report.result.passed:
        raise typer.Exit(EXIT_NO)


def _by(text: str) -> Literal["feature", "action"]:
    if text == "feature":
        return "feature"
    if text == "action":
        return "action"
    raise typer.BadParameter("it is feature or action", param_hint="--by")


def _instant(text: str | None, where: str) -> datetime | None:
    from tallystick.core.instants import parse_instant

    return None if text is None else parse_instant(text, where=where)


def _cells(report: GateReport) -> list[tuple[str, ...]]:
    """The table: a row for each group, then all of them."""
    rows: list[tuple[str, ...]] = [(report.by, *_HEADER[1:])]
    for row in report.as_dict()["groups"]:
        ours, theirs = row["candidate"], row["baseline"]
        rows.append(
            (
                row["group"],
                f"{ours['calls']:,}",
                f"{theirs['calls']:,}",
                _amount(ours["mean_usd"]),
                _amount(theirs["mean_usd"]),
                _amount(ours["median_usd"]),
                _amount(theirs["median_usd"]),
                _signed(row["increase"]),
                row["dearer_pairs"] or "-",
                row["verdict"],
            )
        )
    total = report.as_dict()["total"]
    calls = [sum(row[side]["calls"] for row in report.as_dict()["groups"]) for side in ("candidate", "baseline")]
    blank = ("",) * 4
    rows.append(
        ("all, like for like", f"{calls[0]:,}", f"{calls[1]:,}", *blank, _signed(total["like_for_like"]), "", "")
    )
    return rows


def _plain(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _markdown(report: GateReport) -> str:
    """The report for a pipeline's summary, in GitHub's markdown."""
    rows = [tuple(map(_escaped, row)) for row in _cells(report)]
    passed = "passes" if report.result.passed else "**does not pass**"
    told = report.as_dict()
    lines = [
        f"### Cost per {'call' if report.by == 'feature' else 'action'}: {passed}",
        "",
        f"{_escaped(told['candidate']['environment'])} against {_escaped(told['baseline']['environment'])}, "
        f"{told['baseline']['from']} to {told['baseline']['to']}; at most {told['max_increase']} more is let pass.",
        "",
        "| " + " | ".join(rows[0]) + " |",
        "|" + "|".join([" :-- ", *[" --: "] * (len(rows[0]) - 2), " :-- "]) + "|",
        *("| " + " | ".join(row) + " |" for row in rows[1:]),
        "",
        *(
            f"- **fails**: {_escaped(one.group or 'all calls')}: {_escaped(one.detail)}"
            for one in report.result.reasons
        ),
        *(f"- {_escaped(note)}" for note in report.result.notes),
    ]
    return "\n".join(lines).rstrip() + "\n\n"


def _escaped(text: Any) -> str:
    """Names come from whoever sent the requests: they stay text in a table of somebody's pipeline."""
    said = " ".join(str(text).split())
    for sign in "\\`*_{}[]<>|#!~$&":
        said = said.replace(sign, "\\" + sign)
    return said


def _amount(text: str | None) -> str:
    return "-" if text is None else text


def _signed(text: str | None) -> str:
    return "-" if text is None else text if text.startswith("-") else f"+{text}"
