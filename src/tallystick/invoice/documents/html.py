"""The document as one HTML file: no script, nothing from elsewhere, readable on a screen, on paper and aloud."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from tallystick.invoice.documents.view import View

_STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:2rem auto;max-width:48rem;padding:0 1rem;color:#1c2127;background:#fff;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;overflow-wrap:anywhere}
header,.parties{display:flex;gap:2rem;justify-content:space-between;flex-wrap:wrap}
.parties>*{flex:1 1 14rem}
h1{font-size:2rem;line-height:1.2;margin:0 0 .25rem;font-weight:600}
h2{font-size:1rem;margin:2rem 0 .5rem}
address{font-style:normal}address p{margin:0}address p:first-of-type{font-weight:600}
.label{color:#5b6470;font-size:.8rem;margin:0 0 .15rem}
.stamp{color:#a3302a;border:2px solid;border-radius:.3rem;padding:0 .6rem;font-weight:700;letter-spacing:.12em}
.due{margin:1.5rem 0;padding:.9rem 1.1rem;background:#f2f5f7;border-radius:.4rem}
.due strong{font-size:1.6rem;font-weight:600}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem;margin:0}
dt{color:#5b6470}dd{margin:0}
table{border-collapse:collapse;width:100%;margin-top:1.5rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;margin-bottom:.3rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .5rem;font-weight:inherit}
thead th{border-bottom:1.5px solid #1c2127;font-size:.8rem;color:#5b6470}
.n{text-align:right}
tbody tr.line>*{border-top:1px solid #dfe3e7;font-weight:500}
tr.group th{padding-top:1.2rem;font-weight:600}
tr.step>*,p.note,.group p{color:#5b6470;font-size:.87rem;font-weight:400;padding-top:0;margin:0}
tr.step th{padding-left:1.5rem}
tfoot tr>*{padding-top:.35rem}tfoot tr:last-child>*{border-top:1.5px solid #1c2127;font-weight:600;font-size:1.1rem}
.evidence{font-size:.8rem;color:#5b6470}.evidence dd{font-family:ui-monospace,Menlo,Consolas,monospace}
@media print{body{margin:0;max-width:none;font-size:10pt}thead{display:table-header-group}
tfoot{display:table-row-group}tr,.due{break-inside:avoid}.due{border:1px solid #dfe3e7}@page{margin:18mm}}
"""


def document_html(view: View) -> str:
    """The file's whole text, in UTF-8 to be; everything from outside is escaped."""
    return "\n".join(_file(view)) + "\n"


def _file(view: View) -> Iterator[str]:
    title = " ".join(filter(None, (view["title"], view["number"] or "draft")))
    yield "<!doctype html>"
    yield f'<html lang="en" data-template="{_text(view["template"])}">'
    yield '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{_text(title)}</title>"
    yield f"<style>{_STYLE}</style></head>"
    yield "<body><main>"
    yield from _head(view)
    yield from _lines(view)
    yield from _after(view)
    yield "</main></body></html>"


def _head(view: View) -> Iterator[str]:
    stamp = f'<p class="stamp">{_text(view["stamp"])}</p>' if view["stamp"] else ""
    yield f"<header><h1>{_text(view['title'])} <bdi>{_text(view['number'])}</bdi></h1>{stamp}</header>"
    yield '<div class="parties">'
    if view["seller"]["name"]:
        yield from _address("From", view["seller"])
    yield from _address("Billed to", view["bill_to"])
    yield "</div>"
    summary = view["summary"]
    note = f" {_text(summary['note'])}" if summary["note"] else ""
    yield (
        f'<p class="due"><span class="label">{_text(summary["label"])}</span><br>'
        f"<strong>{_text(summary['amount'])}</strong>{note}</p>"
    )
    yield from _pairs(view["facts"])


def _address(label: str, party: View) -> Iterator[str]:
    lines = "".join(f'<p dir="auto">{_text(line)}</p>' for line in (party["name"], *party["lines"]))
    yield f'<div><p class="label">{label}</p><address>{lines}</address></div>'


def _lines(view: View) -> Iterator[str]:
    yield "<table><caption>What is charged</caption><thead><tr>"
    yield '<th scope="col">Description</th><th scope="col" class="n">Quantity</th>'
    yield '<th scope="col" class="n">Price (USD)</th><th scope="col" class="n">Amount (USD)</th></tr></thead>'
    for group in view["groups"]:
        yield "<tbody>"
        if group["title"]:
            note = f"<p>{_text(group['note'])}</p>" if group["note"] else ""
            yield f'<tr class="group"><th colspan="4" scope="rowgroup">{_text(group["title"])}{note}</th></tr>'
        for line in group["lines"]:
            notes = "".join(f'<p class="note">{_text(note)}</p>' for note in line["notes"])
            yield _row("line", f"{_text(line['title'])}{notes}", line)
            yield from (_row("step", _text(row["label"]), row) for row in line["rows"])
        yield "</tbody>"
    if not view["groups"]:
        yield '<tbody><tr class="line"><td colspan="4">Nothing is due for this month.</td></tr></tbody>'
    yield "<tfoot>"
    for total in [*view["totals"], view["total"]]:
        label, amount = _text(total["label"]), _text(total["amount"])
        yield f'<tr><th scope="row" colspan="3">{label}</th><td class="n">{amount}</td></tr>'
    yield "</tfoot></table>"


def _row(kind: str, label: str, row: View) -> str:
    cells = "".join(f'<td class="n">{_text(row[name])}</td>' for name in ("quantity", "price", "amount"))
    return f'<tr class="{kind}"><th scope="row">{label}</th>{cells}</tr>'


def _after(view: View) -> Iterator[str]:
    pay = view["pay"]
    if pay["lines"] or pay["reference"]:
        yield "<h2>How to pay</h2>"
        yield from (f'<p class="pay" dir="auto">{_text(line)}</p>' for line in pay["lines"])
        if pay["reference"]:
            yield f"<p>Please name <strong>{_text(pay['reference'])}</strong> with your payment.</p>"
    if view["wallet"]:
        yield "<h2>Your credits this month</h2><table><tbody>"
        for label, amount in view["wallet"]:
            yield f'<tr class="line"><th scope="row">{_text(label)}</th><td class="n">{_text(amount)}</td></tr>'
        yield "</tbody></table>"
    if view["not_charged"]:
        yield "<h2>Measured and not charged</h2><ul>"
        yield from (f"<li>{_text(one)}</li>" for one in view["not_charged"])
        yield "</ul>"
    if view["customer_paid"]:
        yield f"<p>{_text(view['customer_paid'])}</p>"
    yield '<section class="evidence"><h2>How to check this invoice</h2>'
    yield from _pairs([*view["evidence"], ["Template", view["template"]]])
    yield "</section>"


def _pairs(pairs: Iterable[list[str]]) -> Iterator[str]:
    yield "<dl>" + "".join(f"<dt>{_text(label)}</dt><dd>{_text(value)}</dd>" for label, value in pairs) + "</dl>"


def _text(text: str) -> str:
    return escape(text)
