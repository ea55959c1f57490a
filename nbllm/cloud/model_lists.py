"""What a server lists: all its models, and which of them is meant."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import anyio

from nbllm.cloud.adapter import Adapter, HttpRequest
from nbllm.cloud.transport.http_failures import silence
from nbllm.core.errors import NotFoundError
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import SERVER_TYPES

__all__ = ["list_all", "needs_description", "served_model"]

_MOST_PAGES = 100


async def list_all(
    adapter: Adapter,
    info: ModelInfo,
    fetch: Callable[[HttpRequest], Awaitable[bytes]],
    seconds: float,
) -> list[ModelInfo]:
    """The models on all pages of the server's list, which may take ``seconds`` together."""
    models: list[ModelInfo] = []
    page: str | None = None
    with anyio.move_on_after(seconds):
        for _ in range(_MOST_PAGES):
            more, page = adapter.parse_list(info, await fetch(adapter.list_request(info, page)))
            models += more
            if page is None:
                break
        return models
    raise silence(info.name, seconds, first=True)


def needs_description(info: ModelInfo) -> bool:
    """Whether the server has to be asked what it serves."""
    return info.model_type in SERVER_TYPES and not (info.model and info.context_length)


def served_model(info: ModelInfo, listed: Sequence[ModelInfo]) -> ModelInfo:
    """``info`` with the model's id and context length, as far as the server tells them.

    A server of one model serves that one, whatever it is called here. Raises ``NotFoundError``
    where there are several and none has the name.
    """
    names = [served.name for served in listed]
    wanted = info.model or info.name
    if wanted in names:
        found = listed[names.index(wanted)]
    elif len(listed) == 1 and info.model is None:
        found = listed[0]
    elif not listed:
        return info
    else:
        raise NotFoundError(
            info.name,
            f"the server has no model {wanted!r}. It has {', '.join(names[:20])}: put one of them "
            "into the config as its model.",
        )
    return replace(
        info, model=found.name, context_length=info.context_length or found.context_length
    )
