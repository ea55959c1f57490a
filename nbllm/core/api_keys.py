"""API keys: what looks like one, and where each may go: a vendor's own to its own hosts.

A config may come from a stranger, and names both a variable and an address. So its word counts for
nothing here: either the address is known to belong to whoever gave out the keys that are kept in
variables of this name, or the person has allowed this variable for this address. What was allowed
is kept in the person's own folder, or comes from the environment variable ``NBLLM_ALLOW_KEYS``.

An address is a scheme, a host and a port, such as "https://lab.example" or "http://10.1.2.3:8000".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from nbllm.core import saved_files
from nbllm.core.errors import ConfigError, InvalidOptionError
from nbllm.core.paths import read_text, reason
from nbllm.core.vendors import VENDORS

__all__ = [
    "PERMISSIONS_VARIABLE",
    "allow_key",
    "disallow_key",
    "is_allowed",
    "looks_like_key",
    "walk",
    "where_is_key",
]

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


PERMISSIONS_VARIABLE = "NBLLM_ALLOW_KEYS"
"""Holds "VARIABLE@address" pairs, with commas between them, for runs without a person."""

_OWN_HOSTS = {
    "CEREBRAS": {"api.cerebras.ai"},
    "DEEPSEEK": {"api.deepseek.com"},
    "FIREWORKS": {"api.fireworks.ai"},
    "GROQ": {"api.groq.com"},
    "HF": {"router.huggingface.co", "huggingface.co", "hf.co"},
    "MISTRAL": {"api.mistral.ai"},
    "NVIDIA": {"integrate.api.nvidia.com"},
    "OPENROUTER": {"openrouter.ai"},
    "PERPLEXITY": {"api.perplexity.ai"},
    "TOGETHER": {"api.together.ai", "api.together.xyz"},
    "XAI": {"api.x.ai"},
}
"""The word that variables with a cloud's keys begin with, and the hosts of this cloud alone.

A host on which customers have names of their own, such as Azure's, is no vendor's own.
"""
_ALIASES = {"GOOGLE_API_KEY": "GEMINI_API_KEY"}
_ADDRESS_VARIABLES = {"HF_TOKEN": "HF_ENDPOINT", "OPENAI_API_KEY": "OPENAI_BASE_URL"}
"""The variables that say for what address a key is: as the key, they are the person's own."""
_VENDORS_VARIABLE = re.compile(r"([A-Z]+)(?:_[A-Z0-9]+)*_(?:API_KEY|TOKEN)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(
    r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?(?:/[\w./~-]*)?",
    re.IGNORECASE | re.ASCII,
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_USUAL_PORTS = {"http": 80, "https": 443}


def allow_key(variable: str, address: str) -> None:
    """Let the key in the environment variable ``variable`` go to ``address``, from now on.

    Only to this scheme, host and port; of an address such as "http://10.1.2.3:8000/v1" the path
    does not matter. With http the key crosses the network in clear text. It is kept for the
    user, on this machine; ``disallow_key`` takes it back.

    Raises ``InvalidOptionError``, and ``ConfigError`` where it cannot be kept.
    """
    _change(_checked_variable(variable), _checked_address(address), allowed=True)


def disallow_key(variable: str, address: str) -> None:
    """Take back what ``allow_key`` allowed; counts for models that are loaded from now on."""
    _change(_checked_variable(variable), _checked_address(address), allowed=False)


def is_allowed(variable: str, address: str) -> bool:
    """Whether the key in ``variable`` may go to ``address``, a scheme with a host and maybe a port.

    Raises ``ConfigError`` where what was allowed cannot be read.
    """
    if _is_own(variable, address) or address == _named_beside(variable):
        return True
    return (variable, address) in _from_environment() or address in _kept().get(variable, ())


def _is_own(variable: str, address: str) -> bool:
    named = _VENDORS_VARIABLE.fullmatch(_ALIASES.get(variable, variable))
    hosts = _hosts_of(named[1]) if named else set()
    return address.removeprefix("https://") in hosts and address.startswith("https://")


def _hosts_of(word: str) -> set[str]:
    own = (vendor.hosts for vendor in VENDORS.values() if vendor.key_variable == f"{word}_API_KEY")
    return _OWN_HOSTS.get(word) or set(next(own, ()))


def _named_beside(variable: str) -> str | None:
    """The address that the environment has beside a key; with http, only one on this machine."""
    told = os.environ.get(_ADDRESS_VARIABLES.get(variable, ""), "").strip()
    try:
        address = _checked_address(told)
    except InvalidOptionError:
        return None
    host = urlsplit(address).hostname
    return address if address.startswith("https:") or host in _LOOPBACK else None


def _checked_variable(variable: str) -> str:
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        raise InvalidOptionError(
            "variable", f"{variable!r} is not the name of an environment variable"
        )
    return variable


def _checked_address(address: str) -> str:
    """The scheme, host and port, as they are compared."""
    parts = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if parts is None or int(parts[3] or 1) not in range(1, 2**16):
        raise InvalidOptionError(
            "address",
            f"{address!r} is not an address such as https://lab.example or http://10.1.2.3:8000",
        )
    scheme, host = parts[1].lower(), parts[2].lower()
    port = int(parts[3] or _USUAL_PORTS[scheme])
    return f"{scheme}://{host}" + (f":{port}" if port != _USUAL_PORTS[scheme] else "")


def _from_environment() -> Iterator[tuple[str, str]]:
    for pair in os.environ.get(PERMISSIONS_VARIABLE, "").split(","):
        if pair.strip():
            yield _pair(pair.strip())


def _pair(written: str) -> tuple[str, str]:
    variable, _, address = written.partition("@")
    try:
        return _checked_variable(variable), _checked_address(address)
    except InvalidOptionError as error:
        problem = f"{written!r} is not VARIABLE@address, such as LAB_KEY@https://lab.example"
        raise InvalidOptionError(PERMISSIONS_VARIABLE, problem) from error


def _change(variable: str, address: str, *, allowed: bool) -> None:
    file = _file()

    def changed(text: str | None) -> str:
        kept = {name: set(addresses) for name, addresses in _parsed(text, file).items()}
        addresses = kept.setdefault(variable, set())
        addresses.discard(address)
        if allowed:
            addresses.add(address)
        rest = {name: sorted(kept[name]) for name in sorted(kept) if kept[name]}
        return json.dumps(rest, indent=2) + "\n"

    try:
        saved_files.update(file, changed)
    except (OSError, UnicodeError) as error:
        problem = f"the file cannot be written: {getattr(error, 'strerror', None) or error}"
        raise ConfigError(problem, file=file) from None


def _kept() -> Mapping[str, list[str]]:
    file = _file()
    try:
        text = read_text(file, saved_files.MOST_BYTES)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problem = f"the file cannot be read: {reason(error)}"
        raise ConfigError(problem, file=file) from None
    return _parsed(text, file)


def _parsed(text: str | None, file: Path) -> Mapping[str, list[str]]:
    try:
        kept = json.loads(text or "{}")
    except (ValueError, RecursionError):
        kept = None
    if isinstance(kept, dict) and all(map(_is_list_of_texts, kept.values())):
        return kept
    raise ConfigError(
        "this is not a list of key permissions as written by allow_key. Fix or delete the file",
        file=file,
    )


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _file() -> Path:
    from platformdirs import user_config_path

    return user_config_path("nbllm") / "allowed_keys.json"
