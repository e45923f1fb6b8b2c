"""Calls that speak, listen or draw: they are priced by other meters than text, and often state no usage.

    speech           text in, sound out; by the character (`tts-…`) or by tokens of sound
    transcription    sound in, text out; by the length of the sound (`whisper-…`) or by its tokens
    images           text in, pictures out; by tokens (`gpt-image-…`), or by the picture

Models that are priced by tokens state their usage where their answer is JSON. What is left is estimated from what is
known: the characters of the text, the bytes of the file, the pictures in the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tallystick.wire.prompt_bound import AUDIO_BYTES_PER_TOKEN

IMAGE_TOKENS_OUT: Final = 6_700
"""One picture that is drawn: the largest at high quality has 6,240 tokens, and each partial one 100 more."""
SOUND_TOKENS_PER_CHARACTER: Final = 5
"""At most. Speech has about 12.5 characters and 21 tokens of sound a second; slow speech half as many characters."""
USUAL_SOUND_TOKENS_PER_100_CHARACTERS: Final = 167
LEAST_BYTES_PER_4_MS: Final = 3
"""Sound of 6 kbit/s, the least that carries speech."""
USUAL_BYTES_PER_MS: Final = 16
"""Sound of 128 kbit/s."""

MEDIA_KINDS: Final = frozenset({"speech", "transcription", "images"})
_BY_CHARACTER: Final = ("tts-",)
_BY_LENGTH: Final = ("whisper",)
_BY_TOKEN: Final = ("gpt-", "chatgpt-")


def worst_of_media(
    kind: str, model: str | None, *, answers: int, text_tokens: int, characters: int, file_bytes: int, tokens_out: int
) -> dict[str, int]:
    """The most of each meter that such a call may take.

    Args:
        answers: pictures asked for at most.
        text_tokens: the bound of the prompt's text.
        characters: of the text to speak.
        file_bytes: of the files in the request.
        tokens_out: the most tokens of text in the answer.
    """
    if kind == "speech":
        if _is(model, _BY_CHARACTER):
            return {"characters_in": characters}
        return {"tokens_in": text_tokens, "audio_tokens_out": characters * SOUND_TOKENS_PER_CHARACTER}
    if kind == "transcription":
        if _is(model, _BY_LENGTH):
            return {"audio_ms": file_bytes * 4 // LEAST_BYTES_PER_4_MS}
        sound = file_bytes // AUDIO_BYTES_PER_TOKEN + 1
        return {"tokens_in": text_tokens, "audio_tokens_in": sound, "tokens_out": tokens_out}
    if _is(model, _BY_TOKEN):
        return {"tokens_in": text_tokens, "image_tokens_out": IMAGE_TOKENS_OUT * answers}
    return {"images_generated": answers}


def estimate_of_media(
    kind: str, model: str | None, *, text_tokens: int, characters: int, file_bytes: int, answer: Mapping[str, Any]
) -> dict[str, int]:
    """What such a call has used as far as one can tell; empty where that is not at all.

    Args:
        answer: what came back, where it was JSON; empty for sound and pictures themselves.
    """
    if kind == "speech":
        if _is(model, _BY_CHARACTER):
            return {"characters_in": characters} if characters else {}
        sound = -(-characters * USUAL_SOUND_TOKENS_PER_100_CHARACTERS // 100)
        return {"tokens_in": text_tokens, "audio_tokens_out": sound} if characters else {}
    if kind == "transcription":
        if _is(model, _BY_LENGTH):
            length_ms = _length_ms(answer.get("duration")) or file_bytes // USUAL_BYTES_PER_MS
            return {"audio_ms": length_ms} if length_ms else {}
        return {"audio_tokens_in": file_bytes // USUAL_BYTES_PER_MS // 100} if file_bytes else {}
    pictures = answer.get("data") or answer.get("predictions")
    return {"images_generated": len(pictures)} if isinstance(pictures, list) and pictures else {}


def _length_ms(seconds: object) -> int:
    """The length that a transcription states in seconds, as a number or in quotes; 0 where it states none."""
    try:
        length = Decimal(str(seconds))
        return int(length * 1000) if 0 <= length < 10**6 else 0
    except InvalidOperation:
        return 0


def _is(model: str | None, beginnings: tuple[str, ...]) -> bool:
    return (model or "").rpartition("/")[2].lower().startswith(beginnings)
