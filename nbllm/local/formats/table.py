"""The table of formats, and which of them a chat template has."""

from __future__ import annotations

from collections.abc import Iterator

from nbllm.local.formats.addressed import FUNCTIONARY_RECIPIENTS, FUNCTIONARY_TAGS, HARMONY
from nbllm.local.formats.base import Call, CallFormat, NoCallError
from nbllm.local.formats.json_calls import HERMES, LISTED, decoded
from nbllm.local.formats.literal_calls import FUNCTION_GEMMA, GEMMA, LFM2, LLAMA4, MINICPM, OLMO
from nbllm.local.formats.llama import BARE_LIST, GENERIC, LLAMA
from nbllm.local.formats.minimax_m3 import MINIMAX_M3
from nbllm.local.formats.named import (
    DEEPSEEK_V3,
    DEEPSEEK_V31,
    KIMI,
    MISTRAL,
    MISTRAL_NAMED,
    SOLAR,
)
from nbllm.local.formats.tagged import (
    DSML,
    GLM,
    HUNYUAN,
    KIMI_K3,
    MINICPM5,
    MINIMAX,
    MUSE,
    QWEN_CODER,
    SEED,
)

__all__ = ["FORMATS", "PROBE", "call_format", "format_named"]

FORMATS: tuple[CallFormat, ...] = (
    HARMONY,
    *(MUSE, DSML, KIMI_K3, MINIMAX_M3, *HUNYUAN),
    *(DEEPSEEK_V3, DEEPSEEK_V31, KIMI, SOLAR),
    *(GEMMA, FUNCTION_GEMMA),
    *(MINICPM, LFM2, LLAMA4, OLMO),
    *(FUNCTIONARY_RECIPIENTS, FUNCTIONARY_TAGS, MINICPM5),
    *(SEED, MINIMAX, GLM, QWEN_CODER, HERMES),
    *(MISTRAL_NAMED, MISTRAL),
    *LISTED,
    *(LLAMA, BARE_LIST, GENERIC),
)
"""All formats; of two that may read the same text, the one whose marks say more stands first."""

PROBE = Call("nbllm_probe", '{"nbllm_key": "nbllm value"}')
"""The call that is rendered as a past one, to see how a template writes calls."""

_HEAD, _TAIL = 40, 64  # how far brackets may stand from the name and the value, in characters
_BY_NAME = {each.name: each for each in FORMATS}


def format_named(name: str) -> CallFormat:
    """The format of this name."""
    return _BY_NAME[name]


def call_format(template: str, written: str | None) -> CallFormat:
    """The format in which a model with this chat template writes calls.

    ``written`` is what the template makes of ``PROBE`` as a past call; None where it loses the
    call, or refuses it. Where nothing tells, it is ``GENERIC``: the template must not be given
    the tools then, since nobody would know how its calls read.
    """
    hinted = [f for f in FORMATS if f.hints and all(hint in template for hint in f.hints)]
    if HARMONY in hinted:
        return HARMONY
    if written is None:
        return next((f for f in hinted if f is not LLAMA or "<|python_tag|>" in template), GENERIC)
    others = [f for f in FORMATS if f not in (*hinted, LLAMA, GENERIC)]
    return next((f for f in (*hinted, *others) if _reads(f, written)), GENERIC)


def _reads(form: CallFormat, written: str) -> bool:
    """Whether the format finds exactly the probe in what the template wrote."""
    return any(_is_probe(form, body) for body in _bodies(form, written))


def _bodies(form: CallFormat, written: str) -> Iterator[str]:
    """What may be the body of the probe's call."""
    value = written.rfind("nbllm value")  # the tool itself may be described before the call
    at = written.rfind(PROBE.name, 0, max(value, 0))
    if at < 0:
        return
    for opening, closing in form.blocks:
        start = written.rfind(opening, 0, at)
        if start >= 0 and closing:
            end = written.find(closing, value)
            yield written[start + len(opening) : end] if end >= 0 else ""
            yield written[start : end + len(closing)] if end >= 0 else ""
        elif start >= 0:
            yield from (written[start + len(opening) : end] for end in _ends(written, value))
    if form.bare == "anywhere":
        starts = [n for n in range(max(0, at - _HEAD), at) if written[n] in "[{"]
        yield from (written[start:end] for start in starts for end in _ends(written, value))


def _ends(written: str, value: int) -> list[int]:
    """Where brackets close behind the probe's value; the outermost first."""
    near = range(value, min(len(written), value + _TAIL))
    return [n + 1 for n in near if written[n] in ")]}"][::-1]


def _is_probe(form: CallFormat, body: str) -> bool:
    try:
        parts = form.read(body, {})
        calls = [(c.name, decoded(c.arguments)) for c in parts if isinstance(c, Call)]
        return len(parts) == 1 and calls == [(PROBE.name, decoded(PROBE.arguments))]
    except NoCallError:
        return False
