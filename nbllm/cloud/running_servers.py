"""Servers of models that run on this machine, asked side by side for what they offer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from nbllm.cloud.addresses import located
from nbllm.cloud.cloud_model import unchecked_model
from nbllm.core.errors import NbllmError
from nbllm.core.naming.providers import PROVIDERS, Provider, server_entry
from nbllm.core.types import ModelInfo

__all__ = ["running_models"]

_SECONDS = 0.3
"""For all of them together; a server that runs here answers within milliseconds."""
_MOST_MODELS = 500


async def running_models(
    providers: Iterable[Provider] = PROVIDERS, seconds: float = _SECONDS
) -> list[ModelInfo]:
    """The models of servers that answer at their usual ports, or where their variables point.

    Whoever does not answer within ``seconds``, or with something else, is not there.
    """
    own = [provider for provider in providers if provider.is_own]
    asked = [asyncio.create_task(_models_of(provider)) for provider in own]
    done, late = await asyncio.wait(asked, timeout=seconds) if asked else (set(), set())
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return [info for task in asked if task in done for info in task.result()]


async def _models_of(provider: Provider) -> list[ModelInfo]:
    entry = server_entry(f"{provider.prefixes[0]}/")
    if entry is None:
        return []
    try:
        model = unchecked_model(located(entry))
    except NbllmError:  # its variable holds no address
        return []
    try:
        offered = await model.offered()
    except NbllmError:
        return []
    finally:
        await model.aclose()
    return [
        replace(info, name=f"{provider.prefixes[0]}/{info.name}", source="server")
        for info in offered[:_MOST_MODELS]
    ]
