"""Where a path leads: what is free is known to be free, and everything else is metered."""

from __future__ import annotations

import pytest

from tallystick.wire.routes import route_of

OPENAI = {
    "/v1/chat/completions": "chat",
    "/v1/chat/completions/": "chat",
    "/openai/deployments/gpt-4o/chat/completions": "chat",
    "/v1/responses": "responses",
    "/v1/responses/compact": "responses",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
    "/v1/images/generations": "images",
    "/v1/audio/speech": "speech",
    "/v1/audio/transcriptions": "transcription",
    "/v1/moderations": "list",
    "/v1/files": "list",
    "/v1/responses/resp_1/cancel": "list",
    "/v1/responses/input_tokens": "count",
    "/v1/batches": "deferred",
    "/v1/videos": "deferred",
    "/v1/threads/thread_1/runs": "deferred",
    "/v1/realtime/sessions": "deferred",
    "/v1/something/new": "other",
}
ANTHROPIC = {
    "/v1/messages": "messages",
    "/v1/messages/count_tokens": "count",
    "/v1/messages/batches": "deferred",
    "/v1/complete": "completions",
    "/v1/unknown": "other",
}
GEMINI = {
    "/v1beta/models/gemini-2.5-flash:generateContent": "generate",
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent": "generate",
    "/v1beta/tunedModels/mine-1:generateContent": "generate",
    "/v1beta1/projects/p/locations/global/publishers/google/models/gemini-3:generateContent": "generate",
    "/v1beta/models/text-embedding-004:embedContent": "embeddings",
    "/v1beta/models/text-embedding-004:batchEmbedContents": "embeddings",
    "/v1beta/models/gemini-2.5-flash:countTokens": "count",
    "/v1beta/models/imagen-4:predict": "images",
    "/v1beta/models/veo-3:predictLongRunning": "deferred",
    "/v1beta/models/gemini-2.5-flash:batchGenerateContent": "deferred",
    "/upload/v1beta/files": "list",
    "/v1beta/cachedContents": "other",
    "/v1beta/models/gemini-9:somethingNew": "other",
}


@pytest.mark.parametrize(
    ("flavor", "path", "kind"),
    [
        (flavor, path, kind)
        for flavor, table in (("openai", OPENAI), ("anthropic", ANTHROPIC), ("gemini", GEMINI))
        for path, kind in table.items()
    ],
)
def test_each_endpoint_is_known_by_the_end_of_its_path(flavor, path, kind):
    route = route_of(flavor, "POST", path)
    assert (route.kind, route.api) == (kind, flavor)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS", "get"])
def test_what_only_reads_is_free(method):
    assert route_of("openai", method, "/v1/models").free
    assert route_of("openai", method, "/v1/chat/completions").free


@pytest.mark.parametrize("path", ["/v1/something/new", "/v1/batches", "/v1/chat/completions", "/v1/embeddings"])
def test_what_is_not_known_to_be_free_is_not(path):
    assert not route_of("openai", "POST", path).free


@pytest.mark.parametrize(
    "path",
    [
        "/v1/conversations/../chat/completions",
        "/v1/conversations/x/chat/completions",
        "/v1/chat/completions/..",
        "/v1/chat/completions/%2e%2e",
        "/v1/files/../responses",
        "/v1/responses/../chat/completions/cancel/..",
        "/v1/messages/count_tokens/../../messages",
    ],
)
def test_no_detour_of_dots_makes_a_billed_path_free(path):
    assert not route_of("openai", "POST", path).free
    assert not route_of("anthropic", "POST", path).free


def test_what_is_too_long_for_a_path_is_unknown():
    assert route_of("gemini", "POST", "/models/" * 8000 + "x:countTokens").kind == "other"
    assert route_of("openai", "POST", "/v1/files\n").kind == "other"


def test_another_providers_shape_is_known_at_its_path():
    assert route_of("anthropic", "POST", "/v1/chat/completions").api == "openai"
    assert route_of("gemini", "POST", "/v1beta/openai/chat/completions") == ("chat", "openai", None, "")
    assert route_of("openai", "POST", "/anthropic/v1/messages").api == "anthropic"
    # Free it is only where it is the provider's own.
    assert not route_of("openai", "POST", "/v1/messages/count_tokens").free


def test_gemini_names_its_model_in_the_path_also_when_it_is_escaped():
    path = "/v1beta/models/gemini%2D2.5-flash:streamGenerateContent"
    route = route_of("gemini", "POST", path)
    assert (route.model, route.method) == ("gemini-2.5-flash", "streamGenerateContent")
