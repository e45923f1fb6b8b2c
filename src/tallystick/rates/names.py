"""Which model a name means: strict, so that an unknown model is never priced as another one.

The source's clauses are generous: `starts_with claude-sonnet-4` also takes a model that does not exist yet.
A name that a clause takes counts here only when what the clause does not spell out is benign:

    before it   nothing, or a vendor, region or path ("us.", "anthropic.", "models/", an ARN)
    after it    nothing, or a dated snapshot (-20250929, @20250929, -2025-09-29, -09-2025, -05-20, -0613;
                but not Mistral's -2402, a year and month that name a version of its own),
                -latest, a revision (-001, -v1:0, :0); for a fine-tuned model, whose it is (:acme::id)

A clause may end inside such a suffix ("gemini-2.0-flash-0", "claude-sonnet-4-2025"); then the whole suffix
is looked at. A regular expression is trusted where it fixes the end of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from tallystick.rates.cardfile import AliasLine, Match, ModelLine, ProviderLine
from tallystick.usage.detect import provider_id

_EXACT = 10_000
"""Strength of a clause that spells the whole name out; other clauses have the length they spell out."""

_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATES = rf"20\d\d{_MONTH}{_DAY}|20\d\d-{_MONTH}-{_DAY}|{_MONTH}-20\d\d|{_MONTH}-{_DAY}|{_MONTH}{_DAY}"
_SNAPSHOT = rf"[-@](?:{_DATES}|latest|00\d)|@default"
_SUFFIX = re.compile(rf"(?:{_SNAPSHOT})?(?:-v\d+)?(?::\d+)?")
_FINE_TUNED = re.compile(_SUFFIX.pattern + r"(?::[a-z0-9_-]*){0,3}")
_REGION = r"(?:us|eu|apac|jp|au|in|ca|sa|me|af|il|uk|global|us-gov)"
_VENDOR = (
    r"(?:anthropic|amazon|meta|mistral|mistralai|cohere|ai21|deepseek|deepseek-ai|openai|google|qwen|moonshot|moonshotai"
    r"|nvidia|writer|stability|zai|z-ai|zai-org|minimax|minimaxai|xai|x-ai|meta-llama|microsoft)"
)
_PREFIX = re.compile(
    rf"(?:arn:[a-z0-9-]+:bedrock:[a-z0-9-]*:\d*:(?:foundation-model|inference-profile)/)?"
    rf"(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/{_VENDOR}/)?(?:models/)?"
    rf"(?:{_VENDOR}/)?(?:{_REGION}\.)?(?:{_VENDOR}\.)?"
)
_PATHS = re.compile(
    rf"arn:[a-z0-9-]+:bedrock:[a-z0-9-]*:\d*:(?:foundation-model|inference-profile)/"
    rf"|(?:projects/[^/]+/locations/[^/]+/)?publishers/{_VENDOR}/models/|models/"
)
_CUT_SUFFIX = re.compile(r"[-@](?:0\d?|20\d{0,6})?$")
"""How a clause ends that stops inside a snapshot or a revision."""
_OWN_FORMS = tuple(
    (provider, re.compile(form))
    for provider, form in (
        ("aws", rf"arn:[a-z0-9-]+:bedrock:|(?:{_REGION}\.)?{_VENDOR}\.[a-z]"),
        ("google", r"claude[a-z0-9-]*@"),
        ("openrouter", r"[^/]+/[^/:]+:(?:free|batch|thinking|extended|exacto|beta)$"),
        ("openai", r"text-embedding-(?:3|ada)-|chatgpt-|ft:(?:gpt|davinci|babbage)-|codex-mini-|computer-use-preview"),
        ("openai", r"(?:omni|text)-moderation-|(?:davinci|babbage)-002$"),
        ("cohere", r"embed-(?:english|multilingual|v\d)|rerank-"),
        ("perplexity", r"sonar(?:-|$)"),
    )
)
"""How names begin that only one provider writes so, where the source itself recognises none."""
_COMPACT_DATE = re.compile(rf"-(20\d\d)({_MONTH})({_DAY})(?=-|:|$)")


class Resolved(NamedTuple):
    """The card's own ids of what a name means. `provider` is the one whose prices apply."""

    provider: str
    model: str


def matches(clause: Match, name: str) -> bool:
    """Whether a clause takes a lower-case name, read as generously as the source reads it."""
    kind, value = next(iter(clause.items()))
    if kind == "or":
        return any(matches(part, name) for part in value)
    if kind == "and":
        return all(matches(part, name) for part in value)
    return _generous(kind, value, name)


def _generous(kind: str, value: str, name: str) -> bool:
    if kind == "regex":
        return re.search(value, name) is not None
    text = value.lower()
    if kind == "equals":
        return name == text
    if kind == "starts_with":
        return name.startswith(text)
    if kind == "ends_with":
        return name.endswith(text)
    return text in name


def strength(clause: Match, name: str) -> int:
    """How much of a lower-case name a clause spells out, when all the rest is benign; 0 when it does not match."""
    kind, value = next(iter(clause.items()))
    if kind == "or":
        return max((strength(part, name) for part in value), default=0)
    if kind == "and":
        return max((strength(part, name) for part in value), default=0) if matches(clause, name) else 0
    if kind == "regex":
        return _regex_strength(value, name)
    if kind == "equals":
        return _EXACT if name == value.lower() else 0
    if not _generous(kind, value, name):
        return 0
    text = value.lower()
    start = 0 if kind == "starts_with" else name.rfind(text)
    return len(text) if _benign(name, start, start + len(text)) else 0


def _regex_strength(pattern: str, name: str) -> int:
    match = re.search(pattern, name)
    if match is None or match.end() == match.start():
        return 0
    if pattern.startswith("^") and pattern.endswith("$"):
        return _EXACT
    return match.end() - match.start() if _benign(name, match.start(), match.end()) else 0


def _benign(name: str, start: int, end: int) -> bool:
    """Whether nothing outside name[start:end] can make it another model."""
    if _PREFIX.fullmatch(name, 0, start) is None:
        return False
    suffix = _FINE_TUNED if name.startswith("ft:") else _SUFFIX
    if suffix.fullmatch(name, end) is not None:
        return True
    cut = _CUT_SUFFIX.search(name[start:end])
    return cut is not None and suffix.fullmatch(name, start + cut.start()) is not None


class Names:
    """Finds the model a name means among the providers and models of one version of the card.

    Args:
        providers: by id.
        models: the models that the source lists at this version.
        retired: models that it listed once; they are only looked at when no listed one fits.
        aliases: further names of models, listed or retired.
    """

    def __init__(
        self,
        providers: Mapping[str, ProviderLine],
        models: Iterable[ModelLine],
        retired: Iterable[ModelLine],
        aliases: Iterable[AliasLine] = (),
    ) -> None:
        self._providers = dict(sorted(providers.items()))
        self._listed = _by_provider(models)
        self._retired = _by_provider(retired)
        for alias in aliases:
            for group in (self._listed, self._retired):
                entries = group.get(alias.provider, {})
                if alias.model in entries:
                    entries[alias.model] = (*entries[alias.model], alias.match)
        self.resolve = lru_cache(maxsize=65_536)(self._resolve)

    def _resolve(self, provider: str | None, model: str) -> Resolved | None:
        name = model.strip().lower()
        if not name or len(name) > 512:
            return None
        if provider is not None and provider.strip().lower() != "litellm":
            line = self.provider(provider)
            return None if line is None else self._within(line, name)
        head, slash, rest = name.partition("/")
        if slash and (line := self.provider(head, exact=True)) is not None and (found := self._within(line, rest)):
            return found
        for host, form in _OWN_FORMS:
            line = self._providers.get(host)
            if line is not None and form.match(name) and (found := self._within(line, name)):
                return found
        for line in self._providers.values():
            if line.model_match is not None and matches(line.model_match, name):
                return self._within(line, name)
        return None

    def provider(self, name: str, *, exact: bool = False) -> ProviderLine | None:
        """The provider of that id or usual name, or (unless `exact`) the first that the source knows by such a name."""
        wanted = name.strip().lower()
        line = self._providers.get(wanted) or self._providers.get(provider_id(wanted))
        if line is not None or exact:
            return line
        for line in self._providers.values():
            if line.match is not None and matches(line.match, wanted):
                return line
        return None

    def _within(self, provider: ProviderLine, name: str) -> Resolved | None:
        spellings = tuple(_spellings(provider.provider, name))
        for group in (self._listed, self._retired):
            for spelling in spellings:
                for offering in (provider.provider, *provider.fallbacks):
                    if model := _best(group.get(offering, {}), spelling):
                        return Resolved(offering, model)
        return None


_Clauses = dict[str, tuple[Match, ...]]
"""The clauses of each model of one provider, by model."""


def _by_provider(lines: Iterable[ModelLine]) -> dict[str, _Clauses]:
    found: dict[str, _Clauses] = {}
    for line in sorted(lines, key=lambda line: (line.provider, line.model)):
        found.setdefault(line.provider, {})[line.model] = (line.match,)
    return found


def _best(models: _Clauses, name: str) -> str | None:
    """The model of that id, or the one whose clause spells out the most of a name."""
    for model in models:  # nothing is stronger, and clauses take a hundred times as long to look at
        if model.lower() == name:
            return model
    best, best_strength = None, 0
    for model, clauses in models.items():
        here = max(strength(clause, name) for clause in clauses)
        if here > best_strength:
            best, best_strength = model, here
    return best


def _spellings(provider: str, name: str) -> Iterator[str]:
    """The name as it is, then without a path or its provider's own prefix, then with its date written out."""
    yield name
    short = _PATHS.sub("", name, count=1) if _PATHS.match(name) else name
    head, slash, rest = short.partition("/")
    if slash and provider_id(head) == provider:
        short = rest
    if short != name:
        yield short
    dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", short)
    if dashed != short:
        yield dashed
