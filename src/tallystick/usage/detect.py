"""Whose answer is it? From its shape, and where many share one shape, from the name of its model.

A guess is only ever of the provider and its API, never of a price: a wrong provider has no model of that
name, and the answer stays `unpriced`. Naming the provider is always better.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.usage.reading import first, read_usage, walk
from tallystick.usage.table import Extractor, ExtractorTable

_ALIASES = {
    "amazon": "aws", "bedrock": "aws", "amazon-bedrock": "aws", "aws-bedrock": "aws", "aws.bedrock": "aws",
    "bedrock_converse": "aws",
    "gemini": "google", "google-gla": "google", "google-vertex": "google", "vertex": "google", "vertexai": "google",
    "vertex_ai": "google", "gcp.gemini": "google", "gcp.vertex_ai": "google", "gcp.gen_ai": "google",
    "azure-openai": "azure", "azure_openai": "azure", "azure-ai": "azure", "azure_ai": "azure",
    "azure.ai.openai": "azure", "az.ai.openai": "azure", "azure.ai.inference": "azure", "az.ai.inference": "azure",
    "claude": "anthropic", "mistralai": "mistral", "mistral_ai": "mistral", "moonshot": "moonshotai", "x_ai": "x-ai",
    "xai": "x-ai", "grok": "x-ai", "together-ai": "together", "together_ai": "together",
    "togetherai": "together", "voyage": "voyageai", "fireworks_ai": "fireworks",
    "z-ai": "zai", "z.ai": "zai", "fireworks-ai": "fireworks", "open-router": "openrouter",
}  # fmt: skip
"""Other names that people and their tools (OpenTelemetry, LiteLLM) give the providers of the table."""

_HOSTS = (
    ("api.openai.com", "openai"), ("api.anthropic.com", "anthropic"), ("googleapis.com", "google"),
    ("openrouter.ai", "openrouter"), ("api.groq.com", "groq"), ("api.mistral.ai", "mistral"),
    ("api.deepseek.com", "deepseek"), ("amazonaws.com", "aws"), ("api.aws", "aws"), ("azure.com", "azure"),
    ("api.x.ai", "x-ai"), ("cohere.com", "cohere"), ("cohere.ai", "cohere"), ("cerebras.ai", "cerebras"),
    ("perplexity.ai", "perplexity"), ("together.xyz", "together"), ("together.ai", "together"),
    ("voyageai.com", "voyageai"), ("moonshot.ai", "moonshotai"), ("moonshot.cn", "moonshotai"), ("z.ai", "zai"),
    ("fireworks.ai", "fireworks"), ("minimax.io", "minimax"), ("baseten.co", "baseten"),
)  # fmt: skip

_MODELS = (
    (r"((us|eu|jp|au|apac|global)\.)?(openai|anthropic|amazon|meta|mistral|cohere|ai21|deepseek|qwen|google)\.", "aws"),
    (r"claude", "anthropic"), (r"gemini|gemma", "google"), (r"grok", "x-ai"), (r"deepseek", "deepseek"),
    (r"(open-)?mi[sx]tral|magistral|codestral|ministral|pixtral|devstral|voxtral", "mistral"),
    (r"command|c4ai|embed-(english|multilingual|v)|rerank", "cohere"), (r"sonar", "perplexity"),
    (r"kimi|moonshot", "moonshotai"), (r"glm-", "zai"), (r"minimax", "minimax"), (r"voyage", "voyageai"),
)  # fmt: skip
"""How the names of models begin whose makers also serve them; no other provider's shape stood in the way."""

_FLAVOR_ORDER = {"default": 0, "chat": 1, "responses": 2}


def provider_of_host(host: str) -> str | None:
    """The provider behind a host name, or None."""
    name = host.lower().partition(":")[0]
    return next((provider for end, provider in _HOSTS if name == end or name.endswith(f".{end}")), None)


def provider_id(name: str) -> str:
    """The table's id of a provider, from the id itself or another usual name."""
    lowered = name.strip().lower()
    return _ALIASES.get(lowered, lowered)


def detect(body: Mapping[str, Any], model: str | None = None) -> str | None:
    """The provider that an answer's shape points to, or None when it has no usage in any known place."""
    name = next((text for text in (body.get("model"), body.get("modelVersion"), model) if isinstance(text, str)), "")
    for provider, is_it in _SHAPES:
        if is_it(body):
            return provider
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return None
    if _is_messages_usage(usage) or body.get("type") == "message":
        return _maker(name) if _maker(name) in {"minimax", "moonshotai", "deepseek", "zai"} else _claude_host(name)
    if "seconds" in usage:
        return "openai"
    if "prompt_tokens" in usage or "input_tokens" in usage:
        # Routers write vendor/model in small letters; Hugging Face and open weights do not.
        return _maker(name) or ("openrouter" if "/" in name and name == name.lower() else "openai")
    return "voyageai" if "total_tokens" in usage else None


def fitting_extractor(
    table: ExtractorTable, body: Mapping[str, Any], provider: str, flavor: str | None, model: str | None = None
) -> Extractor | None:
    """The provider's extractor of that flavor, or the one that finds most of its fields in the answer.

    Raises:
        BadInput: `unknown_provider` or `unknown_flavor`; `invalid_quantity` for a field that is no count;
            when no flavor fits, what the first of them misses.
    """
    provider = provider_id(provider)
    if flavor is not None:
        return table.get(provider, flavor)
    name = next((text for text in (body.get("model"), model) if isinstance(text, str)), "").lower()
    best: tuple[tuple[int, ...], Extractor] | None = None
    nearly: BadInput | None = None
    for extractor in table.flavors(provider).values():
        usage = next(iter(walk(body, extractor.root)), None)
        if not isinstance(usage, Mapping):
            continue
        if nearly is not None and not all(walk(usage, field.steps) for field in extractor.fields if field.required):
            continue
        if extractor.flavor == "embeddings" and ("choices" in body or "completion_tokens" in usage):
            continue  # it would read the prompt and drop the rest
        try:
            read_usage(extractor, usage)
        except BadInput as error:
            if error.code not in {"missing_usage_field", "no_usage"}:
                raise  # a field of this provider's is wrong; another API that does not read it is no way out
            nearly = nearly or error
            continue
        rank = _rank(extractor, usage, name, body)
        if best is None or rank > best[0]:
            best = (rank, extractor)
    if best is None and nearly is not None:
        raise nearly
    return None if best is None else best[1]


def _rank(extractor: Extractor, usage: Mapping[str, Any], model: str, body: Mapping[str, Any]) -> tuple[int, ...]:
    """Better fits compare greater: required fields first, then how much of the answer is read."""
    required = any(field.required for field in extractor.fields)
    found = len({field.path for field in extractor.fields if walk(usage, field.steps)})
    annotated = extractor.flavor == "ocr_annotated" and body.get("document_annotation") is not None
    claude = "claude" in model and extractor.is_messages_api
    return (required, annotated, found, claude, -_FLAVOR_ORDER.get(extractor.flavor, 3))


def _maker(model: str) -> str | None:
    if "/" in model:
        return None
    return next((provider for start, provider in _MODELS if re.match(start, model, re.IGNORECASE)), None)


def _claude_host(model: str) -> str:
    # Bedrock names Claude with its vendor, Vertex with a date after @, and routers with a slash.
    if "anthropic." in model:
        return "aws"
    if "@" in model:
        return "google"
    return "openrouter" if "/" in model else "anthropic"


def _is_messages_usage(usage: Mapping[str, Any]) -> bool:
    return "input_tokens" in usage and bool(
        {"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "server_tool_use"} & set(usage)
    )


def _has(*paths: str) -> Any:
    return lambda body: any(first(body, path) is not None for path in paths)


_SHAPES: tuple[tuple[str, Any], ...] = (
    ("google", _has("usageMetadata")),
    ("aws", _has("usage.inputTokens")),
    ("cohere", _has("usage.billed_units", "usage.tokens", "meta.billed_units")),
    ("openrouter", _has("usage.cost_details", "usage.is_byok")),
    ("openrouter", lambda body: isinstance(body.get("provider"), str) and "model" in body),
    ("groq", _has("x_groq", "usage.queue_time", "usage.prompt_time")),
    ("cerebras", _has("time_info")),
    ("deepseek", _has("usage.prompt_cache_hit_tokens", "usage.prompt_cache_miss_tokens")),
    ("x-ai", _has("usage.cost_in_usd_ticks", "usage.num_sources_used")),
    ("perplexity", _has("usage.search_context_size", "usage.citation_tokens", "usage.cost.total_cost")),
    ("mistral", _has("usage_info.pages_processed", "usage.num_cached_tokens", "usage.prompt_audio_seconds")),
    ("cursor", _has("tokenUsage")),
    ("cloudflare", _has("result.usage")),
    ("openai", _has("response.usage")),
)
"""Shapes that only one provider gives."""
