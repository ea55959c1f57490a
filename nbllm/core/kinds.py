"""The kinds of models: on this machine, a server of one's own, a vendor's cloud; and routers.

What differs between kinds stands here, and whoever treats them differently asks for that property.
A further kind is one more line in ``KINDS``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from nbllm.core.vendors import SERVER_TYPES

if TYPE_CHECKING:
    from nbllm.core.types import ModelInfo

__all__ = ["KINDS", "Kind", "kind_of", "place_of"]

Place = Literal["server", "cloud", "router"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is the same for all models of a kind.

    Attributes:
        name: The word for it.
        includes: Whether an entry is of this kind, where no earlier kind includes it.
        opener: The module whose ``open_model`` opens it; see ``openers``.
        place: What answers for it in texts; None: this machine.
        takes_memory: It is loaded into the memory of this machine: loads are planned, wait for
            room and may evict others, and how it runs here can be measured.
        resumes_answers: It goes on with an assistant's message that ends the conversation.
        follows_grammars: Any grammar binds its answers, not only a vendor's subset of schemas.
        counts_freely: Counting the tokens of a prompt takes no request to anybody.
        keeps_prefixes: Prompts that begin alike are best sent after one of them was read.
        routes: Others answer for it, so that what is kept, counted and paid is theirs.
    """

    name: str
    includes: Callable[[ModelInfo], bool]
    opener: str
    place: Place | None = None
    takes_memory: bool = False
    resumes_answers: bool = False
    follows_grammars: bool = False
    counts_freely: bool = False
    keeps_prefixes: bool = False
    routes: bool = False


def kind_of(info: ModelInfo) -> Kind:
    """The kind of a model."""
    return next(kind for kind in KINDS if kind.includes(info))


def place_of(info: ModelInfo) -> Place | None:
    """What answers for a model that is not loaded here: a server of one's own, a cloud, a router.

    None: this machine. A server is what a config calls so, and whatever is on this machine or in a
    private network.
    """
    return kind_of(info).place


_CLOUD_TYPES = ("openrouter", "openai-compatible")
"""Those that do not tell whose server it is: its address does."""

_PRIVATE_NAMES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def _is_own_server(info: ModelInfo) -> bool:
    is_server = info.model_type in SERVER_TYPES and info.model_type not in _CLOUD_TYPES
    return is_server or _is_private(info.base_url or "")


def _is_private(address: str) -> bool:
    """Whether an address leads to this machine, or to a name or number of a private network."""
    from ipaddress import ip_address  # most sessions do not need it

    host = ""
    with suppress(ValueError):  # it is no number, or no address at all
        host = urlsplit(address).hostname or ""
        return ip_address(host).is_private
    return bool(host) and ("." not in host or host.endswith(_PRIVATE_NAMES))


_HTTP = "nbllm.cloud.cloud_model"

KINDS = (
    Kind(
        name="local",
        includes=lambda info: info.local,
        opener="nbllm.local.llama_cpp_model",
        takes_memory=True,
        resumes_answers=True,
        follows_grammars=True,
        counts_freely=True,
        keeps_prefixes=True,
    ),
    Kind(
        name="router",
        includes=lambda info: info.model_type == "router",
        opener="nbllm.core.routing.router",
        place="router",
        counts_freely=True,
        routes=True,
    ),
    Kind(name="server", includes=_is_own_server, opener=_HTTP, place="server"),
    Kind(name="vendor", includes=lambda info: True, opener=_HTTP, place="cloud"),
)
"""All kinds; the first that includes an entry is its kind."""
