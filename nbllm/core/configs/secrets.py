"""Finds what looks like an API key in a config, so that it can be refused unseen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

__all__ = ["looks_like_key", "walk", "where_is_key"]

_KEY_NAMES = re.compile(
    r".*(apikey|apitoken|accesstoken|authtoken|secretkey|apisecret|clientsecret)"
    r"|authorization|bearer|password|passwd|secret"
)

# The beginnings that vendors give their keys; long random tails where a short one may be a word.
_KEY_VALUES = re.compile(
    r"""(?<![A-Za-z0-9])(?:
        sk-[\w-]{6,}                       # OpenAI, Anthropic, OpenRouter, DeepSeek
      | AIza[\w-]{10,}                     # Google
      | AQ\.[\w-]{20,}                     # Google
      | ya29\.[\w-]{10,}                   # Google, OAuth
      | (?:gsk|hf|r8)_[A-Za-z0-9]{20,}     # Groq, Hugging Face, Replicate
      | (?:xai|pplx|nvapi|fw|csk)-[\w-]{20,}   # xAI, Perplexity, NVIDIA, Fireworks, Cerebras
      | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,}
      | AKIA[0-9A-Z]{16}                   # AWS
      | (?i:bearer)\s+[\w.~+/-]{8,}
    )
      | (?<=[\w-]{13})\.eyJ[\w-]{10,}      # JSON web tokens, from the first of their dots
    """,
    re.VERBOSE,
)


def where_is_key(entry: object) -> str | None:
    """The place of the first thing in ``entry`` that looks like an API key, else None.

    The place is a path such as "options.extra.headers"; it never shows the key, not even where
    the key is in the name of something.
    """
    for place, name, value in walk(entry):
        if looks_like_key(name):
            return place.rpartition(".")[0]
        if isinstance(value, str) and (_KEY_NAMES.fullmatch(_bare(name)) or looks_like_key(value)):
            return place
    return None


def looks_like_key(text: str) -> bool:
    """Whether a key of a known form is in ``text``, or an address with a password."""
    return bool(_KEY_VALUES.search(text)) or ("://" in text and _address_has_key(text))


def _address_has_key(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:  # no address at all
        return False
    names = (_bare(name) for name, value in parse_qsl(parts.query) if value)
    return parts.password is not None or any(
        name == "key" or _KEY_NAMES.fullmatch(name) for name in names
    )


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def walk(value: object) -> Iterator[tuple[str, str, object]]:
    """Every value inside a JSON value, at any depth: its path, its name, itself."""
    waiting: list[tuple[str, str, object]] = [("", "", value)]
    while waiting:
        place, name, value = waiting.pop()
        yield place, name, value
        if isinstance(value, dict):
            inner = [(f"{place}.{key}" if place else key, key, item) for key, item in value.items()]
            waiting.extend(reversed(inner))
        elif isinstance(value, list):
            items = enumerate(value)
            waiting.extend([(f"{place}[{number}]", "", item) for number, item in items][::-1])
