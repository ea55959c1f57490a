"""What a value is, decided by its type alone: nothing of the value's own code runs.

Types are compared by identity and looked up through ``type`` itself, since a class may answer
``==``, ``hash``, ``isinstance`` and ``getattr`` with code of its own.
"""

from __future__ import annotations

import datetime
import fractions
import sys
import types
import zoneinfo
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

__all__ = [
    "class_attribute",
    "is_a",
    "is_code",
    "is_stdlib",
    "kind_of",
    "kinds_of",
    "known_zone",
    "module_of",
    "mro_of",
    "type_name",
    "words",
]

_STDLIB = frozenset({*sys.stdlib_module_names, "builtins"}) - {"__main__"}
_MRO, _NAME, _MODULE, _DICT = (
    type.__dict__[name] for name in ("__mro__", "__name__", "__module__", "__dict__")
)

_BUILTIN: dict[str, tuple[type, ...]] = {
    "none": (type(None),),
    "number": (bool, int, float, complex, Decimal, fractions.Fraction),
    "text": (str,),
    "bytes": (bytes,),
    "time": (datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    "list": (list,),
    "tuple": (tuple,),
    "set": (set, frozenset),
    "dict": (dict, OrderedDict, defaultdict, Counter),
    "range": (range,),
}
_PYTHON = {id(each): kind for kind, listed in _BUILTIN.items() for each in listed}
_NUMPY = {
    "number": "bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 longlong ulonglong "
    "float16 float32 float64 longdouble complex64 complex128 clongdouble",
    "text": "str_",
    "bytes": "bytes_",
    "time": "datetime64 timedelta64",
    "array": "ndarray",
}
_PANDAS = {
    "time": "Timestamp Timedelta Period",
    "frame": "DataFrame",
    "series": "Series",
    "index": "Index RangeIndex DatetimeIndex TimedeltaIndex PeriodIndex IntervalIndex "
    "CategoricalIndex MultiIndex",
    "extension": "StringDtype BooleanDtype Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype "
    "UInt16Dtype UInt32Dtype UInt64Dtype Float32Dtype Float64Dtype DatetimeTZDtype PeriodDtype",
    "categories": "CategoricalDtype",
}


def words(text: str) -> tuple[str, ...]:
    """The words of a list that is written as a text, for many short names."""
    return tuple(text.split())


def kind_of(value: object) -> str:
    """What ``value`` is, where its very type is one of those listed here; else "".

    Subclasses are not: they may hold code of their own.
    """
    return _PYTHON.get(id(type(value))) or _libraries().get(id(type(value)), "")


def kinds_of(values: Iterable[object]) -> set[str]:
    """The kinds of many values, in a fraction of the time."""
    libraries = _libraries()
    types = {id(type(each)) for each in values}
    return {_PYTHON.get(each) or libraries.get(each, "") for each in types}


def _libraries() -> Mapping[int, str]:
    return _of_libraries(_is_loaded("numpy"), _is_loaded("pandas"))


def _is_loaded(module: str) -> bool:
    """Whether a library is there, and not just being imported by another thread."""
    return getattr(sys.modules.get(module), "__version__", None) is not None


@cache
def _of_libraries(has_numpy: bool, has_pandas: bool) -> Mapping[int, str]:  # noqa: FBT001 - a key
    kinds: dict[int, str] = {}
    if has_numpy:
        kinds.update(_of_library("numpy", _NUMPY))
    if has_pandas:
        kinds.update(_of_library("pandas", _PANDAS))
        pandas = sys.modules["pandas"]
        kinds.update({id(type(pandas.NaT)): "time", id(type(pandas.NA)): "none"})
    return kinds


def _of_library(module: str, kinds: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    for kind, names in kinds.items():
        for name in names.split():
            listed = vars(sys.modules[module]).get(name)
            if isinstance(listed, type):
                yield id(listed), kind


def mro_of(cls: type) -> tuple[type, ...]:
    """A class and its bases, without asking its metaclass."""
    mro: tuple[type, ...] = _MRO.__get__(cls)
    return mro


def type_name(value: object) -> str:
    """The name of the type of ``value``."""
    return str(_NAME.__get__(type(value)))


def module_of(cls: type) -> str:
    """The name of the module that defines a class; "" where the class hides it."""
    module = _MODULE.__get__(cls)
    return module if type(module) is str else ""


def is_stdlib(cls: type) -> bool:
    """Whether a class is of Python itself; such objects are systems, not a notebook's data."""
    return module_of(cls).partition(".")[0] in _STDLIB


def class_attribute(cls: type, name: str, default: Any = None) -> Any:
    """What a class or its bases hold as ``name``, as it stands there; else ``default``."""
    for each in mro_of(cls):
        held = _DICT.__get__(each)
        if name in held:
            return held[name]
    return default


def is_a(value: object, module: str, *names: str) -> bool:
    """Whether ``value`` is of one of these classes of a module, or of a subclass.

    A module that was not imported has no instances, and is not imported for this.
    """
    loaded = sys.modules.get(module)
    listed = [vars(loaded).get(name) for name in names] if loaded is not None else []
    return any(each is base for each in listed for base in mro_of(type(value)))


def is_code(value: object) -> bool:
    """Whether ``value`` is a module, a class, a function or whatever else can be called."""
    return callable(value) or any(base is types.ModuleType for base in mro_of(type(value)))


def known_zone(zone: object) -> bool:
    """Whether a time zone is one of Python's own, of pytz or of dateutil."""
    return (
        zone is None
        or type(zone) is datetime.timezone
        or type(zone) is zoneinfo.ZoneInfo
        or is_a(zone, "pytz", "UTC")
        or is_a(zone, "pytz.tzinfo", "BaseTzInfo")
        or is_a(zone, "dateutil.tz.tz", "tzutc", "tzlocal", "tzfile", "tzoffset")
    )
