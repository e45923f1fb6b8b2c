"""Tools that a provider ran and bills by the call, where the answer lists them instead of counting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.usage.reading import first

_RESPONSES_CALLS = {"web_search_call": "web_searches", "file_search_call": "storage_searches"}


def counted_searches(provider: str, flavor: str, model: str | None, body: Mapping[str, Any]) -> dict[str, int]:
    """Searches by meter, from the items of an answer; empty when the API counts them itself or lists none."""
    if flavor == "responses" and provider in {"openai", "azure", "openai-decisions"}:
        return responses_searches(body)
    if provider == "google" and flavor == "default":
        return _grounding_searches(model or "", body)
    return {}


def responses_searches(body: Mapping[str, Any]) -> dict[str, int]:
    """Searches of an OpenAI response: its own count, else the items of its output.

    Opening a page and finding in it are steps of a search that OpenAI does not bill.
    """
    counts: dict[str, int] = {}
    for item in _items(body.get("output")):
        meter = _RESPONSES_CALLS.get(str(item.get("type")))
        if meter and (first(item, "action.type") or "search") == "search":
            counts[meter] = counts.get(meter, 0) + 1
    stated = first(body, "tool_usage.web_search.num_requests")
    if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0:
        counts["web_searches"] = stated
    return counts


def _grounding_searches(model: str, body: Mapping[str, Any]) -> dict[str, int]:
    """Searches of a Gemini answer: each query from Gemini 3 on, one for the whole answer before."""
    listed = [first(candidate, "groundingMetadata.webSearchQueries") for candidate in _items(body.get("candidates"))]
    queries = [
        query
        for queries in listed
        if isinstance(queries, list)
        for query in queries
        if isinstance(query, str) and query.strip()
    ]
    if not queries:
        return {}
    by_answer = any(f"gemini-{generation}" in model for generation in ("1", "2"))
    return {"web_searches": 1 if by_answer else len(queries)}


def _items(value: Any) -> list[Mapping[str, Any]]:
    items = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()
    return [item for item in items if isinstance(item, Mapping)]
