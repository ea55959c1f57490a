"""Which Claude models choose their own sampling, and refuse to be told.

From these versions on every temperature, top_p and top_k is a 400, the default values too:
https://platform.claude.com/docs/en/about-claude/models/migration-guide. So they are left out, and
the answer says so. What is refused beyond this table is learnt from the refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import replace

from nbllm.cloud.vendors.refused_options import refused_sampling
from nbllm.core.errors import BadRequestError, ModelError
from nbllm.core.layers.layer import Events, Next, Place
from nbllm.core.types import Completed, Event, GenerationOptions, GenerationRequest, ModelInfo
from nbllm.core.words import listed_words

__all__ = ["LearntRefusals", "refuses_sampling", "sampling_note", "unwanted_sampling"]

_SAMPLING = ("temperature", "top_p", "top_k")

_FIRST = {"opus": (4, 7)}
_USUAL = (5, 0)
# "claude-opus-4-7-20260401", "anthropic.claude-opus-4.7-v1:0"; a date is no version.
_NAME = re.compile(r"claude-([a-z]+)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


def refuses_sampling(model: str) -> bool:
    """Whether the model of this name takes no sampling options, as far as its name tells."""
    found = _NAME.search(model.lower())
    if found is None:
        return False
    family, major, minor = found.groups()
    return (int(major), int(minor or 0)) >= _FIRST.get(family, _USUAL)


def unwanted_sampling(info: ModelInfo, options: GenerationOptions) -> tuple[str, ...]:
    """The options that are set and that the model refuses."""
    if not refuses_sampling(info.model or info.name):
        return ()
    return tuple(name for name in _SAMPLING if getattr(options, name) is not None)


def sampling_note(names: Iterable[str]) -> tuple[str, ...]:
    """The note about options that were not sent; empty if there are none."""
    left_out = tuple(names)
    if not left_out:
        return ()
    return (f"{listed_words(left_out)} not sent: the model chooses its own sampling",)


class LearntRefusals:
    """What a loaded model has refused, to be left out of every later request to it.

    As a layer it sends what was refused once more without that, at once.
    """

    place = Place.REFUSED_OPTIONS

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()

    async def __call__(self, request: GenerationRequest, following: Next) -> Events:
        """The events of the request that the model takes; its result tells what was left out."""
        delivered, is_refused = False, True
        while is_refused:
            is_refused = False
            sent, notes = self.without(request)
            try:
                async with aclosing(following(sent)) as events:
                    async for event in events:
                        delivered = True
                        yield _with_notes(event, notes)
            except ModelError as error:
                if delivered or not self.learn(request.model, error, sent):
                    raise
                is_refused = True

    def learn(self, info: ModelInfo, failure: ModelError, request: GenerationRequest) -> bool:
        """Whether a failure is a refusal of sampling options that this request has."""
        is_claude = "claude" in (info.model or info.name).lower()
        if not isinstance(failure, BadRequestError) or not is_claude:
            return False
        refused = frozenset(refused_sampling(str(failure)))
        if not self._set(request, refused):
            return False
        self._names |= refused
        return True

    def without(self, request: GenerationRequest) -> tuple[GenerationRequest, tuple[str, ...]]:
        """The request as the model takes it, and what its result says of that."""
        left_out = self._set(request, self._names)
        if not left_out:
            return request, ()
        options = replace(request.options, **dict.fromkeys(left_out))
        return replace(request, options=options), sampling_note(left_out)

    @staticmethod
    def _set(request: GenerationRequest, names: Iterable[str]) -> tuple[str, ...]:
        known = set(names)
        return tuple(
            name
            for name in _SAMPLING
            if name in known and getattr(request.options, name) is not None
        )


def _with_notes(event: Event, notes: tuple[str, ...]) -> Event:
    if not notes or not isinstance(event, Completed):
        return event
    return Completed(replace(event.result, notes=(*event.result.notes, *notes)))
