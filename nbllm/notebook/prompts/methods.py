"""The methods that a prompt may call, by the kind of their owner.

Each is one of Python's own, numpy's or pandas', changes nothing, and takes plain data.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nbllm.notebook.prompts.evaluation import TEXT_CHARACTERS, Call, Refused
from nbllm.notebook.prompts.plain_data import check_keys, key, plain, weigh, weigh_scalar
from nbllm.notebook.prompts.table_methods import (
    Groups,
    call_array,
    call_groups,
    call_index,
    call_table,
)
from nbllm.notebook.prompts.table_reads import Accessor, call_accessor
from nbllm.notebook.prompts.value_kinds import kind_of, kinds_of, words

__all__ = ["call_method", "check_time_format"]

_TEXT = words(
    "capitalize casefold count endswith find index isalnum isalpha isdecimal isdigit islower "
    "isnumeric isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind "
    "rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"
)
_PADDED = words("center ljust rjust zfill")
_ENCODINGS = ("utf-8", "utf8", "utf-16", "ascii", "latin-1", "latin1", "cp1252")
_ERRORS = ("strict", "ignore", "replace")
_COMBINED = words(
    "union intersection difference symmetric_difference issubset issuperset isdisjoint"
)
_GATHERED = ("list", "tuple", "set", "dict")
_NUMBER = words("bit_length is_integer conjugate as_integer_ratio")
_TIME = words("date time isoformat timestamp total_seconds weekday isoweekday day_name month_name")
_TIME_FORMAT = re.compile(r"(?:[^%]|%[-_^#]?[aAbBcdDeFgGHIjklmMnpPQqrRsStTuUVwWxXyYzZ%])*")
_WIDTH = 1_000
_SEARCHED_AT_ONCE = 10


def call_method(owner: Any, call: Call) -> Any:
    """The method's result, if it is listed. Raises ``Refused``."""
    if type(owner) is Groups:
        return call_groups(owner, call)
    if type(owner) is Accessor:
        return call_accessor(owner, call)
    for each in (*call.given, *call.named.values()):
        call.budget.spend(weigh(each, call.budget))
    caller = _CALLERS.get(kind_of(owner))
    if caller is None:
        raise call.not_listed(owner)
    return caller(owner, replace(call, given=[plain(each) for each in call.given]))


def _call_text(text: Any, call: Call) -> Any:
    longest = max([0, *(len(each) for each in call.given if kind_of(each) in ("text", "bytes"))])
    call.budget.spend(weigh_scalar(text) * (1 + longest // _SEARCHED_AT_ONCE))
    text = plain(text)
    if call.name in _TEXT:
        return getattr(text, call.name)(*call.given, **call.named)
    if call.name in _PADDED:
        return _padded(text, call.name, *call.given, **call.named)
    if call.name in _MAKERS:
        return _MAKERS[call.name](text, *call.given, **call.named)
    raise call.not_listed(text)


def _padded(text: Any, name: str, width: Any, *fill: Any) -> Any:
    if type(width) is not int or width > _WIDTH:
        raise Refused(f"a text is padded to {_WIDTH:,} characters at most in a prompt")
    return getattr(text, name)(width, *fill)


def _join(glue: Any, texts: Any) -> Any:
    found = list(texts) if kind_of(texts) in (*_GATHERED, "text") else [texts]
    if kinds_of(found) - {kind_of(glue)}:
        raise Refused("only texts are joined in a prompt")
    _check_size(sum(map(len, found)) + len(glue) * len(found))
    return glue.join(found)


def _replace(text: Any, old: Any, new: Any, count: Any = -1) -> Any:
    _check_size(len(text) + text.count(old) * len(new))
    return text.replace(old, new, count)


def _check_size(characters: int) -> None:
    if characters > TEXT_CHARACTERS:
        raise Refused(f"a text of {characters:,} characters is not made in a prompt")


def _recoded(name: str) -> Callable[..., Any]:
    def call(text: Any, encoding: Any = "utf-8", errors: Any = "strict") -> Any:
        if encoding not in _ENCODINGS or errors not in _ERRORS:
            raise Refused(f"the encoding {encoding} is not used in a prompt")
        return getattr(text, name)(encoding, errors)

    return call


_MAKERS: dict[str, Callable[..., Any]] = {
    "join": _join,
    "replace": _replace,
    "encode": _recoded("encode"),
    "decode": _recoded("decode"),
}
"""What could make a text of any length."""


def _call_sequence(owner: Any, call: Call) -> Any:
    if call.name not in ("count", "index") or call.named:
        raise call.not_listed(owner)
    call.budget.spend(weigh(owner, call.budget))
    return getattr(owner, call.name)(*call.given)


def _call_set(owner: Any, call: Call) -> Any:
    if call.name not in _COMBINED or any(kind_of(each) not in _GATHERED for each in call.given):
        raise call.not_listed(owner)
    call.budget.spend(weigh(owner, call.budget))
    return getattr(owner, call.name)(*call.given, **call.named)


def _call_dict(owner: Any, call: Call) -> Any:
    call.budget.spend(1 if call.name == "get" else len(owner))
    match call.name, call.given:
        case "keys", []:
            return list(owner)
        case "values", []:
            return list(owner.values())
        case "items", []:
            return list(owner.items())
        case "get", [wanted, *default] if len(default) < 2:
            check_keys(owner, call.budget)
            return dict.get(owner, key(wanted), *default)
    raise call.not_listed(owner)


def _call_number(owner: Any, call: Call) -> Any:
    weigh_scalar(owner)
    if call.name not in _NUMBER or call.given or call.named:
        raise call.not_listed(owner)
    return getattr(plain(owner), call.name)()


def _call_time(owner: Any, call: Call) -> Any:
    weigh_scalar(owner)
    if call.name == "strftime":
        return owner.strftime(check_time_format(call.bound("format").get("format")))
    if call.name not in _TIME or call.named or (call.given and call.name != "isoformat"):
        raise call.not_listed(owner)
    return getattr(owner, call.name)(*call.given)


def check_time_format(spec: Any) -> str:
    """A format of dates without widths, which would make texts of any size of it."""
    if type(spec) is not str or len(spec) > _WIDTH or not _TIME_FORMAT.fullmatch(spec):
        raise Refused("this format of dates is not used in a prompt")
    return spec


_CALLERS: dict[str, Callable[[Any, Call], Any]] = {
    "text": _call_text,
    "bytes": _call_text,
    "list": _call_sequence,
    "tuple": _call_sequence,
    "set": _call_set,
    "dict": _call_dict,
    "number": _call_number,
    "time": _call_time,
    "array": call_array,
    "index": call_index,
    "series": call_table,
    "frame": call_table,
}
