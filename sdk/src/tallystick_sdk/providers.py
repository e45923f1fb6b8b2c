"""Whose models are called: by the address that a client calls, by its class, or by what other tools call them."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

_HOSTS: Final = (
    ("api.openai.com", "openai"), ("openai.azure.com", "azure"), ("azure.com", "azure"),
    ("api.anthropic.com", "anthropic"),
    ("openrouter.ai", "openrouter"), ("googleapis.com", "google"), ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral"),
    ("api.deepseek.com", "deepseek"), ("amazonaws.com", "aws"), ("api.aws", "aws"), ("api.x.ai", "x-ai"),
    ("together.xyz", "together"), ("together.ai", "together"),
    ("fireworks.ai", "fireworks"), ("cerebras.ai", "cerebras"),
    ("perplexity.ai", "perplexity"), ("moonshot.ai", "moonshotai"), ("moonshot.cn", "moonshotai"), ("z.ai", "zai"),
    ("cohere.com", "cohere"), ("cohere.ai", "cohere"), ("novita.ai", "novita"), ("minimax.io", "minimax"),
)  # fmt: skip
_CLASSES: Final = (
    ("azure", "azure"), ("bedrock", "aws"), ("vertex", "google"), ("anthropic", "anthropic"), ("groq", "groq"),
    ("together", "together"), ("cerebras", "cerebras"), ("openai", "openai"),
)  # fmt: skip
_NAMES: Final = {
    "azure.ai.openai": "azure", "az.ai.openai": "azure", "azure.ai.inference": "azure", "az.ai.inference": "azure",
    "azure_ai": "azure", "azure_openai": "azure", "aws.bedrock": "aws", "aws_bedrock": "aws", "bedrock": "aws",
    "bedrock_converse": "aws", "sagemaker": "aws", "gcp.gemini": "google", "gcp.vertex_ai": "google",
    "gcp.gen_ai": "google", "gemini": "google", "vertex_ai": "google", "vertex_ai_beta": "google",
    "google_genai": "google",
    "google_vertexai": "google", "xai": "x-ai", "x_ai": "x-ai", "mistral_ai": "mistral", "mistralai": "mistral",
    "together_ai": "together", "fireworks_ai": "fireworks", "moonshot": "moonshotai", "cohere_chat": "cohere",
    "text-completion-openai": "openai", "anthropic_text": "anthropic", "zai": "zai", "z.ai": "zai",
}  # fmt: skip


def provider_named(name: str) -> str:
    """The id that rate cards have, from what OpenTelemetry, LiteLLM and others call a provider."""
    lowered = name.strip().lower()
    return _NAMES.get(lowered, lowered)


def provider_of_url(url: str) -> str | None:
    """Who answers at an address; None where it is not a known one."""
    host = (urlsplit(url).hostname or "").lower()
    return next((provider for end, provider in _HOSTS if host == end or host.endswith(f".{end}")), None)


def provider_of_client(client: Any) -> str | None:
    """Whom a client library calls: by its address, else by the name of its class.

    A wrong guess never gives a wrong price: the provider guessed has no model of that name, and it stays unpriced.
    """
    found = provider_of_url(str(getattr(client, "base_url", "") or ""))
    if found is not None:
        return found
    name = f"{type(client).__module__}.{type(client).__name__}".lower()
    return next((provider for word, provider in _CLASSES if word in name), None)
