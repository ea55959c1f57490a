"""The table of shapes: what each kind of name that leads to no model is answered with.

The first shape that recognizes a name answers. A new kind is one more function here.
"""

from __future__ import annotations

import os

from nbllm.core.api_keys import looks_like_key
from nbllm.core.errors import ModelNotFoundError
from nbllm.core.naming.answers import Answer, Known, Shape, Way, quoted
from nbllm.core.naming.files import other_weights, path_like, windows_path
from nbllm.core.naming.hubs import hub_address, hub_repository, ollama_address, web_file
from nbllm.core.naming.providers import vendor_model
from nbllm.core.naming.words import hosted, open_weights, packaged, provider_prefix, vendor_family

__all__ = ["SHAPES", "not_found"]

_LONGEST = 300


def _several(name: str, known: Known) -> Answer | None:
    """Several names in one line, each of which would do."""
    words = name.split()
    begun = tuple(name.casefold() for name in known.names)
    if len(words) < 2 or not all(vendor_model(w) or _begins(w, begun) for w in words):
        return None
    lines = tuple(f"%llm_load {quoted(word)}" for word in words)
    return Answer(ways=(Way("These are several names; load one model at a time", lines),))


def _begins(word: str, names: tuple[str, ...]) -> bool:
    return any(name.startswith(word.casefold()) for name in names)


def _misspelt(name: str, known: Known) -> Answer | None:
    """Everything else: what is near, and what is here."""
    return Answer(suggestions=known.near(name))


SHAPES: tuple[Shape, ...] = (
    hub_address,
    ollama_address,
    web_file,
    windows_path,
    other_weights,
    path_like,
    _several,
    packaged,
    hosted,
    vendor_family,
    provider_prefix,
    hub_repository,
    open_weights,
    _misspelt,
)
"""In this order: addresses, paths, then words; ``llama3:8b`` is a word, ``a/b:8b`` a repository."""


def _own_server() -> str:
    """What the server in the environment is loaded by, "" where none is set."""
    address = os.environ.get("OPENAI_BASE_URL", "").strip()
    return f"To load from the server in OPENAI_BASE_URL: %llm_load {address}" if address else ""


def not_found(name: str, known: Known) -> ModelNotFoundError:
    """The error for a name that leads to no model, with the way to one."""
    if looks_like_key(name):
        hint = (
            "This looks like an API key, so it is not shown. Put keys into environment "
            'variables: import getpass, os; os.environ["OPENAI_API_KEY"] = getpass.getpass(), '
            "and then %llm_load gpt-5-mini."
        )
        return ModelNotFoundError("(a key)", hint=hint)
    if not name.strip():
        return ModelNotFoundError("", hint=f"The model's name is empty. {known.here}")
    answer = next(filter(None, (shape(name, known) for shape in SHAPES)))
    parts = [answer.what, *map(str, answer.ways), _own_server(), known.here]
    hint = "\n".join(filter(None, parts))
    cut = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    return ModelNotFoundError(cut, suggestions=answer.suggestions, hint=hint)
