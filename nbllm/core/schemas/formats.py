"""Formats of strings as patterns: what a text of them looks like.

Sources: RFC 3339 (dates and times), RFC 5322 in the form that people use (email), RFC 3986 (URIs),
RFC 4291 (IPv6), RFC 4648 (base64), RFC 9562 (UUIDs), RFC 1123 (host names).
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FORMATS"]

_YEAR = r"(000[1-9]|00[1-9]\d|0[1-9]\d\d|[1-9]\d{3})"
_LEAP_YEAR = r"(\d\d(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_LONG, _SHORT = r"(0[13578]|1[02])-(0[1-9]|[12]\d|3[01])", r"(0[469]|11)-(0[1-9]|[12]\d|30)"
_DAY = rf"({_LONG}|{_SHORT}|02-(0[1-9]|1\d|2[0-8]))"
_DATE = rf"({_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
_ZONE = r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_DAYS = r"(\d{1,4}Y(\d{1,2}M(\d{1,4}D)?)?|\d{1,4}M(\d{1,4}D)?|\d{1,4}D)"
_HOURS = r"T(\d{1,4}H(\d{1,4}M(\d{1,4}S)?)?|\d{1,4}M(\d{1,4}S)?|\d{1,4}S)"
_NAME = "[A-Za-z0-9_+-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,9}}"
_BYTE = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4 = rf"{_BYTE}(\.{_BYTE}){{3}}"
_WORD = "[0-9A-Fa-f]{1,4}"
_IPV6 = "|".join(
    [
        f"({_WORD}:){{7}}{_WORD}",
        f"({_WORD}:){{1,7}}:",
        *(f"({_WORD}:){{1,{7 - n}}}(:{_WORD}){{1,{n}}}" for n in range(1, 7)),
        f":((:{_WORD}){{1,7}}|:)",
        f"::([Ff]{{4}}:)?{_IPV4}",
        f"({_WORD}:){{6}}{_IPV4}",
    ]
)
_HOST_AND_PATH = rf"{_HOST}(:\d{{1,5}})?(/([A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-F]{{2}})*)?"
_QUERY = r"(\?([A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-F]{2})*)?"
_HTTP = rf"(https?|wss?|ftp)://{_HOST_AND_PATH}{_QUERY}(#[A-Za-z0-9\-._~!$&'()*+,;=:@/?]*)?"
_OTHER_URI = r"(mailto|urn|tel|data|file):[A-Za-z0-9\-._~:/?@!$&'()*+,;=%]+"
_BASE64 = r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"

FORMATS: Mapping[str, str] = {
    name: f"^({pattern})$"
    for name, pattern in {
        "date": _DATE,
        "time": rf"{_CLOCK}{_ZONE}",
        "date-time": rf"{_DATE}T{_CLOCK}{_ZONE}",
        "duration": rf"P(\d{{1,4}}W|{_DAYS}({_HOURS})?|{_HOURS})",
        "email": rf"{_NAME}(\.{_NAME}){{0,5}}@{_LABEL}(\.{_LABEL}){{0,5}}\.[A-Za-z]{{2,12}}",
        "hostname": _HOST,
        "ipv4": _IPV4,
        "ipv6": _IPV6,
        "uri": f"{_HTTP}|{_OTHER_URI}",
        "url": _HTTP,
        "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
        r"|[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}",
        "byte": _BASE64,
        "base64": _BASE64,
    }.items()
}
"""By the names that JSON Schema and OpenAPI give them; others say nothing of the text."""
