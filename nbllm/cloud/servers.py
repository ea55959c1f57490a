"""Models on servers: those that somebody named in one word, and those that run on this machine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nbllm.cloud.addresses import located
from nbllm.cloud.cloud_model import unchecked_model
from nbllm.core.errors import (
    ApiConnectionError,
    ApiError,
    AuthenticationError,
    ModelLoadError,
    ModelNotFoundError,
    NbllmError,
    ProtocolError,
)
from nbllm.core.kinds import place_of
from nbllm.core.naming.name_answers import Way
from nbllm.core.naming.providers import (
    PREFIXES,
    PROVIDERS,
    Provider,
    provider_at,
    server_entry,
    server_lines,
)
from nbllm.core.paths import is_gguf
from nbllm.core.suggest import nearest
from nbllm.core.texts import quoted
from nbllm.core.types import ModelInfo
from nbllm.core.vendors import host_and_port

__all__ = ["chosen", "complete_entry", "running_models"]

_MOST_LISTED = 20
_WANTS_A_KEY = (
    'The server wants a key: write a config with its "base_url", and the name of the key\'s '
    'environment variable as "api_key_env", and load it with %llm_load NAME --config FILE.'
)


def complete_entry(info: ModelInfo) -> ModelInfo:
    """The entry with its address, and the model that is meant of those that its server lists.

    A cloud is asked for its list only where no model was named: not every model stands there.
    Raises ``ModelLoadError``, ``ModelNotFoundError`` and ``ApiError``.
    """
    info = located(info)
    if info.model is not None and place_of(info) == "cloud":
        return info
    return asyncio.run(_completed(info))


async def _completed(info: ModelInfo) -> ModelInfo:
    model = unchecked_model(info)
    try:
        listed = await model.offered()
    except AuthenticationError as error:
        if info.api_key_env is None and "allow_key" not in str(error):
            error.args = (f"{error}\n{_WANTS_A_KEY}",)
        raise
    except ApiError as error:
        return _without_list(info, error)
    finally:
        await model.aclose()
    return chosen(info, [each.name for each in listed])


def _without_list(info: ModelInfo, error: ApiError) -> ModelInfo:
    """What is left where no list came: the model that was named, if anybody answers at all."""
    is_reached = error.status is not None or isinstance(error, ProtocolError)
    if not is_reached:
        if not error.retryable:  # no such host, no trust: it says so
            raise error
        where = info.base_url or info.name
        words = f"no server answers at {where}. {server_lines(info)}"
        raise ApiConnectionError(info.name, words, retryable=True) from None
    if info.model is not None:
        return info
    reason = str(error).removeprefix(f"{info.name}: ")
    raise ModelLoadError(
        info.name,
        f"no list of models came from there ({reason}). If it is a server of models, name one: "
        f"%llm_load {quoted(_spelt(info, 'MODEL'))}",
    )


def chosen(info: ModelInfo, listed: Sequence[str]) -> ModelInfo:
    """The entry with the model of those ``listed`` that it means; the only one, if none is named.

    Raises ``ModelLoadError`` where none is named and there is not exactly one, and
    ``ModelNotFoundError`` where the one that is named is not there.
    """
    if info.model is None:
        return _only(info, listed)
    alike = _matching(info.model, listed)
    if len(alike) == 1:
        return _entry(info, alike[0])
    if not listed and _fetch_line(info, info.model) is None:
        return info
    raise _absent(info, info.model, alike, listed)


def _only(info: ModelInfo, listed: Sequence[str]) -> ModelInfo:
    if len(listed) == 1:
        return _entry(info, listed[0])
    host = host_and_port(info)
    if not listed:
        fetch = _fetch_line(info, "NAME")
        how = f" Give it one in a terminal:\n    {fetch}" if fetch else ""
        raise ModelLoadError(info.name, f"the server at {host} has no model.{how}")
    lines = [f"%llm_load {quoted(_spelt(info, each))}" for each in listed[:_MOST_LISTED]]
    left = len(listed) - _MOST_LISTED
    more = [f"and {left:,} more"] if left > 0 else []
    lead = f"the server at {host} has {len(listed):,} models. Name one of them"
    raise ModelLoadError(info.name, str(Way(lead, (*lines, *more))))


def _matching(model: str, listed: Sequence[str]) -> Sequence[str]:
    """Those that a name may mean: itself, its latest version, the end of a path, a beginning."""
    wanted = model.casefold()
    rules = (
        lambda each: each == model,
        lambda each: each.casefold() == wanted,
        lambda each: each.casefold() == f"{wanted}:latest",
        lambda each: _last_part(each).casefold() in (wanted, f"{wanted}.gguf"),
        lambda each: each.casefold().startswith(wanted),
        lambda each: _last_part(each).casefold().startswith(wanted),
    )
    found = ([each for each in listed if rule(each)] for rule in rules)
    return next(filter(None, found), [])


def _last_part(path: str) -> str:
    return re.split(r"[\\/]", path)[-1]


def _entry(info: ModelInfo, model: str) -> ModelInfo:
    """The entry of a model; one that was named by an address is called as the server calls it."""
    if not _is_address(info):
        return replace(info, name=info.name if info.model else _spelt(info, model), model=model)
    return replace(info, name=_last_part(model)[:-5] if is_gguf(model) else model, model=model)


def _is_address(info: ModelInfo) -> bool:
    return "://" in info.name


def _spelt(info: ModelInfo, model: str) -> str:
    """What to type for a model of this server."""
    if _is_address(info):
        return f"{info.base_url}#{model}"
    return f"{info.name.partition('/')[0]}/{model}"


def _absent(
    info: ModelInfo, model: str, alike: Sequence[str], listed: Sequence[str]
) -> ModelNotFoundError:
    names = ", ".join(listed[:_MOST_LISTED]) + ("" if len(listed) <= _MOST_LISTED else ", …")
    hint = f"The server at {host_and_port(info)} has {names or 'no model yet'}."
    fetch = _fetch_line(info, model)
    if fetch is not None and not alike:
        hint += f"\nGet it in a terminal, or with ! in a cell:\n    {fetch}"
    suggestions = tuple(_spelt(info, each) for each in alike[:5] or nearest(model, listed))
    return ModelNotFoundError(info.name, suggestions=suggestions, hint=hint)


def _fetch_line(info: ModelInfo, model: str) -> str | None:
    """The line that gives a model to a server of this kind."""
    provider = _provider(info)
    if provider is None or provider.fetch is None:
        return None
    return provider.fetch.format(model=model)


def _provider(info: ModelInfo) -> Provider | None:
    prefix = info.name.partition("/")[0].casefold()
    return PREFIXES.get(prefix) or provider_at(info.base_url or "")


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
