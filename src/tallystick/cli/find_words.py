"""A request's story in lines."""

from __future__ import annotations

from typing import Any

Members = dict[str, Any]


def story_lines(text: str, story: Members) -> list[str]:
    """The story of one org, as a person reads it."""
    found_as = ", ".join(one.replace("_", " ") for one in story["found_as"])
    lines = [f"{text} of {story['org_id']}, by its {found_as}"]
    for step in story["steps"]:
        head, *more = _LINES.get(step["step"], _other)(step)
        lines.append(f"  {step['at']}  {step['step']}: {head}")
        lines += [f"      {line}" for line in more]
    lines += [f"  {_entry(one)}" for one in story["entries"]]
    if story["not_in_ledger"]:
        lines.append("  not all of it is in the ledger; `tally settlements` and `tally spool` show what waits")
    lines.append(f"  in all: {_usd(story['cost_usd'])}, {story['charged_credits']} credits charged")
    if story["wallet"]:
        lines.append(f"  {_wallet(story)}")
    lines += [f"  {_invoice(one)}" for one in story["invoices"]]
    return lines


def _decision(step: Members) -> list[str]:
    verdict = "allowed" if step["allow"] else f"denied, {step['code']}"
    if step["shadow"] and step["enforced"] is not None and not step["enforced"]["allow"]:
        verdict += f" (in shadow: enforcement would have said {step['enforced']['code']})"
    what = " ".join(str(one) for one in (step["provider"], step["model"]) if one)
    lines = [f"{verdict}: {step['message']}"]
    asked = f"{step['feature']} in {step['environment']}"
    asked += f", action {step['action']}" if step["action"] else ""
    asked += f", {what}" if what else ""
    asked += f", work {step['work_key']}" if step["work_key"] else ""
    lines.append(f"asked: {asked} (request {step['request_id']})")
    quote = step["quote"]
    lines.append(f"quote: {quote['credits']} credits, {quote['reserve_credits']} to reserve")
    for one in step["limits"]:
        most = "no limit" if one["max"] is None else f"of {one['max']:,}"
        lines.append(
            f"limit {one['name']}: {one['used']:,} used, {one['held']:,} held, {one['requested']:,} asked, {most}"
        )
    for one in step["budgets"]:
        lines.append(f"budget {one['name']}: {one['used_usd']} used, {one['held_usd']} held, of {one['max_usd']} USD")
    lines.append(f"under {step['contract']}@{step['contract_version']}, plan {step['plan'] or 'none'}")
    if not step["allow"] and step["next_step"]["kind"] != "none":
        lines.append(f"next: {step['next_step']['text']}")
    return lines


def _hold(step: Members) -> list[str]:
    lots = ", ".join(f"{one['credits']} of {one['grant_id']}" for one in step["held_from"]) or "no credits"
    return [f"{step['hold_id']}, {lots}, until {step['expires_at']}", _wallet(step)]


def _call(step: Members) -> list[str]:
    known = f", known there as {step['provider_request_id']}" if step["provider_request_id"] else ""
    took = "" if step["latency_ms"] is None else f", {step['latency_ms']:,} ms"
    status = f", status {step['provider_status']}" if step["provider_status"] else ""
    paid = ", paid by the customer's own key" if step["paid_by"] == "customer" else ""
    how = "" if step["usage_status"] == "final" else f", usage {step['usage_status']}"
    return [f"{step['provider'] or 'no provider'} {step['model']}: {step['outcome']}{status}{took}{how}{paid}{known}"]


def _usage(step: Members) -> list[str]:
    meters = ", ".join(f"{quantity:,} {meter}" for meter, quantity in step["meters"].items()) or "nothing"
    return [f"{meters} (request {step['request_id']}, entry {step['seq']})"]


def _price(step: Members) -> list[str]:
    about = f" of entry {step['refers_to']}" if step["refers_to"] else ""
    lines = [f"{_usd(step['cost_usd'])}{about}, {step['cost_status']}, by rate card {step['rate_version']}"]
    for line in step["lines"]:
        rate = "no rate" if line["rate_usd"] is None else f"{line['rate_usd']} USD per {line['per']:,}"
        row = line["row"]
        since = "" if row is None else f" (row of {row['version']}, valid from {row['valid_from'] or 'ever'})"
        lines.append(f"{line['quantity']:,} {line['meter']}: {rate} = {line['amount_usd'] or 'unknown'} USD{since}")
    if step["why"]:
        lines.append(f"why: {step['why']}")
    return lines


def _other(step: Members) -> list[str]:
    lines = [str(step["what"])]
    if step.get("why"):
        lines.append(f"why: {step['why']}")
    if step.get("by"):
        lines.append(f"by: {step['by']}")
    for part in ("charged_from", "returned_to"):
        moved = ", ".join(f"{one['credits']} of {one['grant_id']}" for one in step.get(part, ()))
        if moved:
            lines.append(f"{part.replace('_', ' ')}: {moved}")
    return [*lines, _wallet(step)] if step.get("wallet") else lines


def _queued(step: Members) -> list[str]:
    lines = [f"a {step['kind']} in the {step['where']} of this machine, not in the ledger yet"]
    if step["step"] == "refused":
        lines = [f"a {step['kind']} in the {step['where']} of this machine: {step['reason']} [{step['code']}]"]
    for each in step["usage"]:
        meters = ", ".join(f"{quantity:,} {meter}" for meter, quantity in each["meters"].items()) or "nothing"
        lines.append(f"request {each['request_id']}: {meters} of {each['model']}")
    return lines


_LINES = {
    "decision": _decision, "hold": _hold, "call": _call, "usage": _usage, "price": _price, "correction": _price,
    "queued": _queued, "refused": _queued,
}  # fmt: skip


def _wallet(told: Members) -> str:
    before, after = told["wallet"]["before"], told["wallet"]["after"]
    return (
        f"wallet: {before['available']} available and {before['held']} held before, "
        f"{after['available']} and {after['held']} after"
    )


def _entry(one: Members) -> str:
    block = "not sealed yet" if one["block"] is None else f"sealed in block {one['block']}"
    return f"entry {one['entry_id']}, a {one['kind']}: leaf {one['leaf']}, {block}"


def _invoice(one: Members) -> str:
    covers = ", ".join(map(str, one["covers"]))
    late = ", ".join(map(str, one["too_late_for_it"]))
    said = [f"covers {covers}"] if covers else []
    said += [f"was closed before {late}"] if late else []
    return f"invoice {one['invoice_id']} of {one['period']} " + ", and ".join(said)


def _usd(amount: str | None) -> str:
    return "no price yet" if amount is None else f"{amount} USD"
