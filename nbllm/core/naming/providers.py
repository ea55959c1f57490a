"""What vendors and servers serve, by names: ``gpt-4o``, ``ollama/llama3.2``, ``http://gpu:8000``.

Nothing here asks a network. An entry without a ``model`` is completed by the server's list when
it is loaded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from nbllm.core.types import ModelInfo
from nbllm.core.vendors import VENDORS

__all__ = [
    "PREFIXES",
    "PROVIDERS",
    "Provider",
    "provider_at",
    "server_entry",
    "server_lines",
    "vendor_model",
]


@dataclass(frozen=True, slots=True)
class Provider:
    """Who serves models by OpenAI's protocol.

    ``prefixes`` stand in front of a model's name, the first of them in suggestions. Without a
    ``base_url`` the ``model_type`` tells where it usually is. ``start`` is the line that starts a
    server of one's own, ``fetch`` the one that gives it a ``{model}``.
    """

    name: str
    prefixes: tuple[str, ...]
    model_type: str = "openai-compatible"
    base_url: str | None = None
    api_key_env: str | None = None
    port: int | None = None
    start: str | None = None
    fetch: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is a program that people run themselves."""
        return self.port is not None

    @property
    def has_own_type(self) -> bool:
        """Whether configs name it by a ``model_type`` of its own."""
        return self.model_type != "openai-compatible"

    @property
    def usual_url(self) -> str:
        """Where it is if nothing else is said."""
        return self.base_url or f"http://localhost:{self.port}/v1"


def _cloud(name: str, prefixes: str, base_url: str, key: str = "") -> Provider:
    variable = key or f"{name.upper()}_API_KEY"
    return Provider(name, tuple(prefixes.split()), base_url=base_url, api_key_env=variable)


PROVIDERS = (
    Provider(
        "Ollama",
        ("ollama", "ollama_chat"),
        "ollama",
        port=11434,
        start="ollama serve",
        fetch="ollama pull {model}",
    ),
    Provider(
        "LM Studio",
        ("lmstudio", "lm-studio", "lm_studio"),
        "lm-studio",
        port=1234,
        start="lms server start",
        fetch="lms get {model}",
    ),
    Provider(
        "llama-server",
        ("llama-server", "llama_server", "llama.cpp", "llamacpp", "llama-cpp"),
        "llama-server",
        port=8080,
        start="llama-server -m FILE.gguf",
    ),
    Provider("vLLM", ("vllm", "hosted_vllm"), "vllm", port=8000, start="vllm serve ORG/REPO"),
    Provider(
        "OpenRouter",
        ("openrouter",),
        "openrouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
    ),
    _cloud("Groq", "groq", "https://api.groq.com/openai/v1"),
    _cloud("DeepSeek", "deepseek", "https://api.deepseek.com/v1"),
    _cloud("Mistral", "mistral", "https://api.mistral.ai/v1"),
    _cloud("xAI", "xai", "https://api.x.ai/v1"),
    _cloud("Together", "together together_ai", "https://api.together.xyz/v1"),
    _cloud("Fireworks", "fireworks fireworks_ai", "https://api.fireworks.ai/inference/v1"),
    _cloud("Cerebras", "cerebras", "https://api.cerebras.ai/v1"),
    _cloud("Perplexity", "perplexity", "https://api.perplexity.ai"),
    _cloud("NVIDIA", "nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY"),
    _cloud("Hugging Face", "huggingface", "https://router.huggingface.co/v1", "HF_TOKEN"),
)
PREFIXES = {prefix: provider for provider in PROVIDERS for prefix in provider.prefixes}
"""Who is meant by the word in front of a slash."""

_WITH_SCHEME = re.compile(r"https?://[^\s/]", re.IGNORECASE)
_WITHOUT_SCHEME = re.compile(
    r"""(?:
        (?:localhost|\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]+\])(?::\d{1,5})?  # this machine, a number
      | [a-z][\w.-]*:\d{2,5}                                                # a name with a port
    )(?:[/#]\S*)?""",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
_EVERYWHERE = re.compile(r"\A(?:0\.0\.0\.0|\[::\])(?=:|\Z)")
"""Where a server listens, as its own messages write it; it is asked on this machine."""
_ENDPOINTS = re.compile(
    r"(?:/(?:chat/completions|completions|responses|embeddings|models|docs))?/*\Z", re.IGNORECASE
)
_OLLAMAS_OWN = re.compile(r"/api(?:/(?:chat|generate|tags|show|pull|embed))?/*\Z", re.IGNORECASE)


def vendor_model(name: str) -> ModelInfo | None:
    """The entry for "vendor/model", or for a name of a vendor's family in any case; else None."""
    vendor, slash, model = name.partition("/")
    if slash and model and vendor in VENDORS and not _is_open(vendor, model):
        return ModelInfo(name=name, model_type=vendor, local=False, model=model, source="vendor")
    lowered = name.lower()
    for family, facts in VENDORS.items():
        if facts.ids.match(lowered):
            return ModelInfo(name=lowered, model_type=family, local=False, source="vendor")
    return None


def _is_open(vendor: str, model: str) -> bool:
    """Whether the name is that of open weights, which OpenAI itself does not serve."""
    elsewhere = os.environ.get("OPENAI_BASE_URL", "").strip()
    return vendor == "openai" and model.lower().startswith("gpt-oss") and not elsewhere


def server_entry(name: str) -> ModelInfo | None:
    """The entry for a server's address, or for a word in front of a slash; None for other names.

    ``http://gpu:8000/v1#qwen3`` is one of the models at an address, ``ollama/qwen3`` one of a
    server of a kind. What stands behind ``/v1`` in an address that was copied from elsewhere
    (``/chat/completions``, ``/models``) is left out.
    """
    if _WITH_SCHEME.match(name):
        return _at_address(name)
    if _WITHOUT_SCHEME.fullmatch(name):
        return _at_address(f"http://{name}")
    prefix, slash, model = name.partition("/")
    provider = PREFIXES.get(prefix.casefold())
    if provider is None or not (slash or provider.is_own):
        return None
    return _entry(name, provider, provider.base_url, model)


def _at_address(written: str) -> ModelInfo | None:
    address, _, model = written.partition("#")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or "@" in parts.netloc:
        return None
    path = _ENDPOINTS.sub("", _OLLAMAS_OWN.sub("", parts.path))
    netloc = _EVERYWHERE.sub("localhost", parts.netloc.lower())
    base_url = f"{parts.scheme.lower()}://{netloc}{path}"
    provider = provider_at(base_url)
    name = f"{base_url}#{model}" if model else base_url
    if provider is not None:
        return _entry(name, provider, base_url, model)
    usual = (vendor for vendor, facts in VENDORS.items() if facts.hosts[0] == host.lower())
    kind = next(usual, "openai-compatible")
    own = os.environ.get("OPENAI_BASE_URL", "").strip().lower()
    if own.partition("://")[2].partition("/")[0] == netloc:
        kind = "openai"  # whose key is meant for this address
    return _entry(name, Provider("", (), kind), base_url, model)


def _entry(name: str, provider: Provider, base_url: str | None, model: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        model_type=provider.model_type,
        local=False,
        base_url=base_url,
        api_key_env=provider.api_key_env,
        model=model or None,
        source="server",
    )


def provider_at(address: str) -> Provider | None:
    """Who is known to be at an address: a cloud by its host, a program by its usual port."""
    parts = urlsplit(address)
    for provider in PROVIDERS:
        if provider.base_url and urlsplit(provider.base_url).hostname == parts.hostname:
            return provider
    # vLLM's and llama-server's ports are everybody's.
    shared = ("vllm", "llama-server")
    by_port = (each for each in PROVIDERS if each.is_own and each.model_type not in shared)
    return next((each for each in by_port if each.port == parts.port), None)


def server_lines(info: ModelInfo) -> str:
    """How to start what does not answer, as the end of a message."""
    port = urlsplit(info.base_url or "").port
    for each in PROVIDERS:
        if each.start and (each.model_type == info.model_type or each.port == port):
            return f"Start {each.name} in a terminal, and load it again:\n    {each.start}"
    return "Is the server running, and is this its address?"
