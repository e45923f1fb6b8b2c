"""`tally ingest`, `tally events-from-csv` and `tally reprice`: events in, and prices for those that had none."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer

from tallystick.app.settings import Settings
from tallystick.cli.output import EXIT_NO, print_json, print_text, progress_bar, say
from tallystick.core.errors import BadInput, NotFound, Problems
from tallystick.core.money import pico_to_usd

PROBLEMS_SHOWN = 1000
"""Problems printed or listed by `--json`; `--receipts` writes them all."""

_STATUSES = ("accepted", "duplicate", "conflict", "rejected")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(ingest)
    app.command("events-from-csv")(events_from_csv)
    app.command("reprice")(reprice_command)


def ingest(
    file: Annotated[str, typer.Argument(help="JSON Lines, a JSON array or CloudEvents; - for standard input.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    receipts: Annotated[
        Path | None, typer.Option(help="Write what became of each event here, one JSON object a line.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=50_000, help="Events in one transaction.")] = 4000,
) -> None:
    """Take in usage events from a file: each is stored exactly once, however often the file is taken in.

    Exit code 0 when every event is stored now, whether it was before or not, or waits in the spool; 1 when some were
    rejected or in conflict.
    """
    counts: Counter[str] = Counter()
    problems: list[dict[str, object]] = []
    with ExitStack() as stack:
        stream = stack.enter_context(_opened(file))
        written = stack.enter_context(_created(receipts, stream)) if receipts is not None else None
        from tallystick.app.event_files import FileResult, ingest_file
        from tallystick.app.runtime import open_runtime

        def note(found: FileResult) -> None:
            counts[found.result.status] += 1
            if written is not None:
                written.write(msgspec.json.encode({"line": found.line, **found.result.as_dict()}) + b"\n")
            if found.result.error is not None:
                if len(problems) < PROBLEMS_SHOWN:
                    problems.append({"line": found.line, **found.result.as_dict()})
                    _say_problem(found)
                elif counts["rejected"] + counts["conflict"] == PROBLEMS_SHOWN + 1:
                    say("further problems are counted, not shown; --receipts FILE writes them all")

        runtime = stack.enter_context(open_runtime(Settings()))
        _tune_for_bulk()
        advance = stack.enter_context(progress_bar("taking in", _size(file)))
        for batch in ingest_file(runtime, stream, batch_events=batch_size, advance=advance):
            for result in batch:
                note(result)
    summary = {status: counts[status] for status in _STATUSES}
    if counts["spooled"]:
        summary["spooled"] = counts["spooled"]
        say("the database was away: what was spooled is on disk, and written once it is back; see `tally spool`")
    if as_json:
        print_json({"events": sum(summary.values()), **summary, "problems": problems})
    else:
        print_text("\n".join(f"{status:<10}{count:>12,}" for status, count in summary.items()))
    if summary["conflict"] or summary["rejected"]:
        raise typer.Exit(EXIT_NO)


def _tune_for_bulk() -> None:
    """Settings of this process for one long run."""
    # What is loaded stays until the end, and events are no cyclic garbage: looking for it takes a fifth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)
    # The writer's thread mostly waits for the database; when it wakes, it must not wait 5 ms more for its turn.
    sys.setswitchinterval(0.0005)


def _say_problem(found: object) -> None:
    from tallystick.app.event_files import FileResult

    assert isinstance(found, FileResult)  # noqa: S101 - its module is imported where it is needed
    error = found.result.error
    for problem in error.problems if isinstance(error, Problems) else [error]:
        if problem is not None:
            named = f" (request {found.result.request_id})" if found.result.request_id else ""
            say(f"{found.place}{named}: {found.result.status}: {problem} [{problem.code}]")


def events_from_csv(
    file: Annotated[str, typer.Argument(help="A CSV file whose first line names its columns; - for standard input.")],
    org: Annotated[str, typer.Option(help="The org that the events belong to.")],
    mapped: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="TARGET=COLUMN", help="A field or a meter that a column gives."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TARGET=TEXT",
            help="A field or a meter that the file lacks; {row}, {row%50} and {COLUMN} are filled in.",
        ),
    ] = None,
) -> None:
    """Turn the rows of a CSV file into usage events: JSON Lines on standard output, for `tally ingest -`.

    TARGET is a field of an event, a meter, attributes.NAME or price_context.NAME. Times without a zone are
    UTC. The same file gives the same request ids. Rows that make no sound event are named on standard error; exit
    code 1 then.
    """
    from tallystick.app.events_csv import Recipe, events_of_csv, sha256_of
    from tallystick.app.runtime import utc_now

    recipe = Recipe(_pairs("--map", mapped), {"org_id": org, **_pairs("--set", given)})
    failed = 0
    with _opened(file) as source, _seekable(source) as stream:
        file_sha256 = sha256_of(iter(lambda: stream.read(1 << 20), b""))
        stream.seek(0)
        text = TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        for row in events_of_csv(text, recipe, file_sha256=file_sha256, now=utc_now()):
            if isinstance(row.event, BadInput):
                failed += 1
                for problem in row.event.problems if isinstance(row.event, Problems) else [row.event]:
                    say(f"line {row.line}: {problem} [{problem.code}]")
            else:
                print_json(row.event)
    if failed:
        say(f"{failed:,} rows were left out")
        raise typer.Exit(EXIT_NO)


def reprice_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Price what had no price with the newest rate card: a correction entry for each; what has none yet is listed."""
    from tallystick.app.reprice import reprice
    from tallystick.app.runtime import open_runtime

    with open_runtime(Settings()) as runtime:
        done = reprice(runtime)
    if as_json:
        print_json(
            {
                "rate_version": done.rate_version,
                "corrected": done.corrected,
                "corrected_usd": pico_to_usd(done.corrected_pico),
                "still_unpriced": [msgspec.to_builtins(one) for one in done.still_unpriced],
            }
        )
        return
    print_text(f"corrected {done.corrected:,} entries with {done.rate_version}: {pico_to_usd(done.corrected_pico)} USD")
    for one in done.still_unpriced:
        print_text(f"still unpriced: {one.requests:,} of {one.provider or '-'} {one.model}: {one.reason}")


def _pairs(option: str, values: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values or []:
        target, equals, text = value.partition("=")
        if not equals or not target or target in found:
            raise BadInput(
                "invalid_option",
                f"{value!r} is not TARGET=…, or names its target a second time",
                next_step=f"write it as {option} tokens_in=ContextTokens",
                where=option,
            )
        found[target] = text
    return found


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """The file in binary; `-` is standard input.

    Raises:
        NotFound: `file_not_found`.
        BadInput: `unreadable_file`.
    """
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = Path(file).open("rb")  # noqa: SIM115 - it is closed below
    except FileNotFoundError:
        raise NotFound("file_not_found", f"there is no file {file}", next_step="check the path") from None
    except OSError as error:
        raise BadInput(
            "unreadable_file", f"{file} cannot be read: {error.strerror}", next_step="name a file that can be"
        ) from None
    with stream:
        yield stream


@contextmanager
def _created(path: Path, source: BinaryIO) -> Iterator[BinaryIO]:
    try:
        if path.exists() and os.path.samestat(path.stat(), os.fstat(source.fileno())) and path.is_file():
            raise BadInput(
                "unwritable_file",
                f"{path} is the file that is taken in",
                next_step="name another file for the receipts",
            )
        stream = path.open("wb")
    except OSError as error:
        raise BadInput(
            "unwritable_file", f"{path} cannot be written: {error.strerror}", next_step="name another file"
        ) from None
    with stream:
        yield stream


@contextmanager
def _seekable(stream: BinaryIO) -> Iterator[BinaryIO]:
    """The stream, or a copy of it that can be read twice."""
    if stream.seekable():
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        while chunk := stream.read(1 << 20):
            copy.write(chunk)
        copy.seek(0)
        yield copy


def _size(file: str) -> int | None:
    return None if file == "-" else Path(file).stat().st_size or None
