"""Random expressions over a notebook full of traps: none of its code, and no builtin, ever runs."""

from __future__ import annotations

import builtins
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import math
import os
import random
import statistics
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbllm.notebook.prompts.interpolation import interpolate
from nbllm.notebook.prompts.rendered_values import rendered
from nbllm.notebook.prompts.value_kinds import words

SEED = 20261128
EXPRESSIONS = 3_000
"""Of one seed; 200,000 of others were tried when this was written."""
SECONDS = 5.0
SECRET = "fuzz-secret-0123456789abcdef"
CODE = "__import__('builtins').FIRED.append('code') or open('pwned', 'w')"

LOG: list[str] = []
_SHOWN = {"__repr__", "__str__"}
"""What may be asked of an object: its text, when it is shown."""
_DUNDERS = words(
    "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow matmul "
    "rmatmul lshift rlshift rshift and rand or ror xor rxor neg pos abs invert int float "
    "complex index round trunc floor ceil bool len length_hint iter next reversed contains "
    "getitem setitem delitem missing call enter exit eq ne lt le gt ge hash format bytes fspath "
    "dir sizeof reduce reduce_ex getstate copy deepcopy array_ufunc array_function dataframe "
    "instancecheck subclasscheck set_name get set delete await aiter anext getattribute getattr "
    "setattr delattr iadd imul ior iand"
)


def _logged(name: str) -> Any:
    def method(self: object, *arguments: object, **named: object) -> Any:
        LOG.append(name)
        default = getattr(object, name, None)
        if name in ("__getattribute__", "__setattr__", "__hash__", "__eq__", "__ne__"):
            return default(self, *arguments)
        if name in ("__len__", "__index__", "__int__", "__hash__", "__length_hint__"):
            return 1
        if name in ("__bool__", "__contains__", "__instancecheck__", "__subclasscheck__"):
            return True
        if name in ("__iter__", "__reversed__"):
            return iter(())
        if name == "__getattr__":
            raise AttributeError(arguments[0])
        if name in ("__format__", "__fspath__"):
            return CODE
        return self

    return method


def _dunders(leave: str = "") -> dict[str, Any]:
    names = [f"__{name}__" for name in _DUNDERS if name not in leave.split()]
    return {name: _logged(name) for name in names}


_META = {
    f"__{name}__": _logged(f"meta __{name}__")
    for name in words("call getitem contains iter len eq hash instancecheck bool or add")
}
_META["__hash__"] = lambda cls: LOG.append("meta __hash__") or 1
_META["__eq__"] = lambda cls, other: LOG.append("meta __eq__") or cls is other
Meta = type("Meta", (type,), {**_META, "__call__": type.__call__})


def spy(*arguments: object, **named: object) -> int:
    LOG.append("spy")
    return 1


async def spy_later() -> None:
    LOG.append("spy_later")


class Trap(metaclass=Meta):
    """Whatever is done with it is logged."""

    locals().update(_dunders("set_name get set delete"))
    method = spy

    @property
    def computed(self) -> int:
        LOG.append("property")
        return 1


class Quiet(metaclass=Meta):
    """The same, but not to be called, so that it gets further."""

    locals().update(_dunders("set_name get set delete call"))


class Descriptor(metaclass=Meta):
    locals().update(_dunders("set_name getattribute"))


class Holder:
    """Plain, with code of all kinds in and on it."""

    descriptor = Descriptor()
    run = eval
    plain = "plain"

    def __init__(self) -> None:
        self.data = [1, "two", {"k": 3.0}]
        self.run = eval
        self.os = os
        self.trap = Quiet()
        self.frame = pd.DataFrame({"a": [1, 2]})

    @property
    def computed(self) -> int:
        LOG.append("property")
        return 1

    @functools.cached_property
    def cached(self) -> int:
        LOG.append("cached_property")
        return 1


class Slotted:
    __slots__ = ("data", "run")

    def __init__(self) -> None:
        self.data, self.run = {"a": [1, 2]}, os.system


_KEPT = "getattribute setattr init new call enter exit hash eq iter next"
Text = type("Text", (str,), _dunders(_KEPT))
Whole = type("Whole", (int,), _dunders(_KEPT))
Real = type("Real", (float,), _dunders(_KEPT))
Listed = type("Listed", (list,), _dunders(f"{_KEPT} len"))
Mapped = type("Mapped", (dict,), _dunders(f"{_KEPT} len"))
Pair = collections.namedtuple("Pair", "first second")
Zone = type(
    "Zone", (datetime.tzinfo,), {name: _logged(name) for name in ("utcoffset", "dst", "tzname")}
)


class Shade(enum.Enum):
    DARK = "dark"

    @property
    def light(self) -> str:
        LOG.append("property")
        return ""


@dataclasses.dataclass
class Point:
    x: int
    y: Any
    run: Any = eval


class Frame(pd.DataFrame):
    @property
    def _constructor(self) -> Any:
        LOG.append("Frame")
        return Frame

    def head(self, n: int = 5) -> Any:
        LOG.append("head")
        return self


def objects(values: list[Any]) -> Any:
    array = np.empty(len(values), dtype=object)
    for number, value in enumerate(values):
        array[number] = value
    return array


def _frames() -> dict[str, Any]:
    codes = pd.DataFrame({"n": [1, 2], "code": [CODE, "x"]}, index=[CODE, "b"])
    held = pd.DataFrame({"n": [1, 2], "run": objects([Trap(), Quiet()])})
    by_trap = pd.DataFrame({"n": [1, 2]}, index=pd.Index(objects([Quiet(), eval])))
    columns = pd.DataFrame([[1, 2]], columns=pd.Index(objects([eval, Trap()])))
    noted = pd.DataFrame({"n": [1, 2]})
    noted.attrs["trap"] = Quiet()
    wide = pd.DataFrame(np.zeros((3, 40)), columns=[f"c{n}" for n in range(40)])
    same = pd.DataFrame({"a": range(300)}, index=["k"] * 300)
    kinds = pd.DataFrame(
        {
            "text": ["b", "a", None],
            "n": [1, 2, 3],
            "x": [0.5, float("nan"), 2.0],
            "when": pd.date_range("2026-01-01", periods=3, tz="UTC"),
            "kind": pd.Categorical(["u", "v", "u"]),
            "maybe": pd.array([1, None, 3], dtype="Int64"),
        }
    )
    return {
        "codes": codes, "held": held, "by_trap": by_trap, "columns": columns, "noted": noted,
        "wide": wide, "same": same, "kinds": kinds, "frame": Frame({"a": [1, 2]}),
        "column": kinds["x"], "column_of_code": held["run"], "column_of_text": codes["code"],
    }  # fmt: skip


def notebook() -> dict[str, Any]:
    """Variables of all kinds, most of them traps."""
    trap, called = Quiet(), Trap()
    cycle: list[Any] = [1]
    cycle.append(cycle)
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    twice: Any = [1, 2]
    for _ in range(40):
        twice = [twice, twice]
    data = {
        "n": 5, "x": 2.5, "word": "two words", "code": CODE, "raw": b"bytes", "none": None,
        "flag": True, "z": 1j, "d": decimal.Decimal("2.50"), "q": fractions.Fraction(1, 3),
        "numbers": [3, 1, 2], "pair": (1, "two"), "some": {1, 2}, "fixed": frozenset({1}),
        "table": {"k": [1, 2], "code": CODE, 1: "one"}, "tally": collections.Counter("aab"),
        "now": datetime.datetime(2026, 1, 2), "day": datetime.date(2026, 1, 2),
        "span": datetime.timedelta(days=1), "steps": range(10), "In": ["", CODE], "Out": {1: 2},
        "huge": 10**12, "long": "ab" * 400_000, "many": list(range(150_000)),
        "stamp": pd.Timestamp("2026-01-01"), "i": np.int64(3), "f": np.float32(0.1),
    }  # fmt: skip
    arrays = {
        "array": np.arange(12.0).reshape(3, 4), "whole": np.arange(6), "texts": np.array(["a"]),
        "objects_array": objects([eval, trap, 1]),
        "stretched": np.broadcast_to(1.0, (10**6, 10**6)),
        "picture": np.zeros((9, 9, 3), "uint8"),
    }  # fmt: skip
    traps = {
        "trap": trap, "called": called, "traps": [trap, 1, called], "keyed": {trap: 1, "k": trap},
        "holder": Holder(),
        "slotted": Slotted(), "text": Text("abc"), "number": Whole(3), "real": Real(0.5),
        "listed": Listed([1, 2]), "mapped": Mapped(a=1), "made": collections.defaultdict(spy, a=1),
        "fields": Pair(trap, eval), "point": Point(1, trap), "shade": Shade.DARK,
        "zoned": datetime.datetime(2026, 1, 1, tzinfo=Zone()), "cycle": cycle, "deep": deep,
        "twice": twice, "space": types.SimpleNamespace(a=1, run=eval, trap=trap),
        "error": ValueError(trap), "views": {"a": eval}.values(),
        "proxy": types.MappingProxyType({"a": 1}),
    }  # fmt: skip
    code = {
        "evaluate": eval, "execute": exec, "system": os.system, "importer": __import__,
        "opener": open, "sorted_": sorted, "len_": len, "len": spy, "spy": spy, "later": spy_later,
        "Trap": Trap, "Holder": Holder, "method": called.method,
        "partial": functools.partial(eval, CODE),
        "lambda_": lambda *_: LOG.append("lambda"), "os": os, "sys": sys, "builtins": builtins,
        "math": math, "statistics": statistics, "np": np, "pd": pd, "environ": os.environ,
        "modules": {"os": os, "eval": eval}, "generator": (LOG.append("next") for _ in range(3)),
        "iterator": iter([1]), "mapping": map(eval, [CODE]),
        "globals_": globals(), "property_": property(spy),
        "frame_": sys._getframe(), "compiled": compile("1", "", "eval"), "path": Path("x/y.txt"),
    }  # fmt: skip
    return {**data, **arrays, **traps, **code, **_frames()}


_ATTRIBUTES = words(
    "data run os trap frame computed cached descriptor plain x y first second name value light "
    "n a real imag year days shape size T index columns dtypes values loc iloc str dt cat attrs "
    "plot style at iat flat base environ system path modules gi_frame gi_code f_globals "
    "f_builtins func args keywords __class__ __dict__ __globals__ _data io common method fget "
    "stem parent ctypes"
)
_METHODS = words(
    "upper lower split join replace format format_map center ljust zfill encode decode count "
    "find strip translate startswith title append pop clear sort get keys values items "
    "setdefault update copy union head tail sample describe sort_values sort_index nlargest "
    "groupby sum mean median std min max quantile corr cumsum apply map applymap agg aggregate "
    "transform pipe query eval assign filter where mask combine rename reindex to_csv to_pickle "
    "to_json to_dict tolist item astype reshape transpose repeat resize fill tofile dump unique "
    "value_counts nunique isin fillna round idxmax reset_index set_index drop insert rolling "
    "resample merge pivot_table stack explode iterrows itertuples strftime isoformat replace "
    "timestamp bit_length to_bytes method __call__ __getattribute__ mode diff all any first "
    "size between duplicated"
)
_FUNCTIONS = words(
    "abs all any ascii bin bool bytes callable chr compile delattr dict dir divmod enumerate "
    "eval exec exit filter float format frozenset getattr globals hasattr hash help hex id "
    "input int isinstance iter len list locals map max memoryview min next object oct open ord "
    "pow print property range repr reversed round set setattr slice sorted str sum super tuple "
    "type vars zip __import__ breakpoint"
)
_KEYWORDS = words(
    "key by func inplace out axis default reverse n sep start columns ascending numeric_only "
    "value decimals path_or_buf engine index args q periods"
)
_CONSTANTS = words(
    "0 1 2 -1 3 10 300 10**4 10**9 10**12 1.5 None True 'a' 'k' 'n' 'code' 'x' '' ' ' 'sum' "
    "'eval' b'a' [] () 'text' 'run' 'kind' 'first' 99999999"
)
_OPERATORS = words("+ - * / // % ** @ & | ^ << >> == != < <= > >= is in and or")
_SOUND = words(
    "kinds.sort_values(by=#) kinds.groupby(#).sum() kinds.groupby('kind')[#].mean() kinds[#] "
    "kinds[kinds.n>#] kinds.loc[#,#] kinds.iloc[#] kinds.nlargest(#,'n') kinds.n+# column*# "
    "column[#] column.fillna(#) kinds.describe() codes.head(#) held.head(#) held.run "
    "held['run'][#] held.iloc[#,#] by_trap.loc[#] columns[#] noted.n noted.head(#) wide.T "
    "same+same same.a+same.a same.loc[#] codes.groupby('code').sum() codes.code.value_counts() "
    "held.run.value_counts() held.run.sum() held.sum() held.groupby('run').sum() "
    "held.sort_values('run') array+# array[#] array.reshape(#) array.sum(#) "
    "objects_array.tolist() objects_array[#] objects_array+# numbers+# numbers*# numbers[#] "
    "numbers.count(#) sorted(#) sum(#) max(#) min(#,#) set(#) str(#) list(#) repr(#) any(#) "
    "round(#,#) abs(#) int(#) float(#) range(#) zip(#,#) enumerate(#) sorted(#,reverse=#) "
    "sorted(#,key=#) traps[#] traps+# traps*2 traps.count(#) #~in~traps traps==# keyed[#] "
    "keyed.get(#) keyed.items() keyed==# table[#] table.get(#,#) made[#] mapped[#] listed[#] "
    "modules[#] holder.# holder.data[#] holder.trap point.y point.run fields.first "
    "fields.second fields[#] slotted.run slotted.data[#] shade.name shade.light space.trap "
    "space.run now-# now.strftime(#) zoned.isoformat() zoned-now stamp+# span*# word.split(#) "
    "word.replace(#,#) word.center(#) word*# ','.join(#) code.upper() long.rfind(long) "
    "long.replace('a',long) n**# n*# q**# d**# q+# x%# word%# (#)or~In (#)and~n #~if~#~else~# "
    "math.floor(#) statistics.mean(#) np.mean(#) pd.DataFrame(#) os.getcwd() environ[#] "
    "error.args len_(#) sorted_(#) spy(#) partial() text.upper() number+1 real*2 text+word "
    "text[#] trap==trap trap~is~# not~trap huge*# sum(range(#)) ((n**300)**300)**300 many+many "
    "many*# twice==twice twice+twice cycle==cycle str(twice) max(deep) deep==deep steps[#] "
    "some|# fixed&# tally+tally picture[#] stretched[#] stretched.sum() stretched+1 path.name "
    "path.parent globals_[#] In[#] Out[#]"
)
_TAILS = (
    *("", "", "", "", "", "!r", "!s", "!a", ":.2f", ":>10", ":99999999", ":.99999999f", ":%Y"),
    *(":%999999999d", "=", ":,", ":{n}", "!r:.4"),
)


class Writer:
    """Writes expressions that mostly parse, of names that mostly are there."""

    def __init__(self, seed: int, names: list[str]) -> None:
        self.random = random.Random(seed)
        self.names = names

    def placeholder(self) -> str:
        pick = self.random
        return f"{{{self.expression(pick.choice((1, 2, 2, 3, 4)))}{pick.choice(_TAILS)}}}"

    def expression(self, depth: int) -> str:
        pick = self.random
        if depth <= 0:
            return pick.choice(self.names) if pick.random() < 0.7 else pick.choice(_CONSTANTS)
        return pick.choice(self._kinds)(self, depth - 1)

    def _sound(self, depth: int) -> str:
        """An expression that would work, with one of any kind inside it."""
        text = self.random.choice(_SOUND).replace("~", " ") if depth else "n"
        head, *rest = text.split("#")
        return head + "".join(f"{self.expression(depth - 1)}{each}" for each in rest)

    def _attribute(self, depth: int) -> str:
        return f"{self.owner(depth)}.{self.random.choice(_ATTRIBUTES)}"

    def _subscript(self, depth: int) -> str:
        return f"{self.owner(depth)}[{self._index(depth)}]"

    def _index(self, depth: int) -> str:
        inner = self.expression(depth)
        kinds = (inner, inner, f"{inner}:", f"::{inner}", f"{inner}, {inner}", f"[{inner}]")
        return self.random.choice(kinds)

    def _call(self, depth: int) -> str:
        return f"{self.random.choice(_FUNCTIONS)}({self._arguments(depth)})"

    def _method(self, depth: int) -> str:
        return f"{self.owner(depth)}.{self.random.choice(_METHODS)}({self._arguments(depth)})"

    def _called(self, depth: int) -> str:
        return f"{self.owner(depth)}({self._arguments(depth)})"

    def _arguments(self, depth: int) -> str:
        pick = self.random
        given = [self.expression(depth) for _ in range(pick.choice((0, 0, 1, 1, 2)))]
        if pick.random() < 0.25:
            given.append(f"{pick.choice(_KEYWORDS)}={self.expression(depth)}")
        if pick.random() < 0.03:
            given.append(pick.choice(("*pair", "**table")))
        return ", ".join(given)

    def owner(self, depth: int) -> str:
        return (
            self.expression(depth) if self.random.random() < 0.3 else self.random.choice(self.names)
        )

    def _operator(self, depth: int) -> str:
        operator = self.random.choice(_OPERATORS)
        return f"({self.expression(depth)} {operator} {self.expression(depth)})"

    def _other(self, depth: int) -> str:
        one, other = self.expression(depth), self.expression(depth)
        return self.random.choice((
            f"(-{one})", f"(not {one})", f"(~{one})", f"({one} if {other} else n)",
            f"[{one}, {other}]", f"({one}, {other})", f"(lambda: {one})",
            f"[{one} for e in {other}]",
            f"({{{one}: {other}}})", f"f'{one}'", f"({one} < {other} < n)", f"(e := {one})",
        ))  # fmt: skip

    _kinds = (
        *(_attribute, _subscript, _subscript, _call, _method, _method, _method, _called),
        *(_operator, _operator, _other, *(_sound,) * 12),
    )


@pytest.fixture
def fired(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    fired: list[str] = []
    monkeypatch.setattr(builtins, "FIRED", fired, raising=False)
    monkeypatch.setenv("FUZZ_API_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    yield fired
    assert not list(tmp_path.iterdir())


def survivors(seed: int, count: int, fired: list[str]) -> list[str]:
    """The placeholders that ran code, took long, gave the secret away or grew without limit."""
    variables = notebook()
    writer, found = Writer(seed, list(variables)), []
    LOG.clear()
    for _ in range(count):
        text = writer.placeholder()
        began = time.thread_time()
        told = interpolate(text, variables, render=rendered, secrets=[SECRET])
        took = time.thread_time() - began
        calls = [name for name in LOG if name not in _SHOWN]
        if calls or fired or SECRET in told.text or took > SECONDS or len(told.text) > 2 << 20:
            found.append(f"{text} {calls} {fired} {took:.1f} s, {len(told.text):,} characters")
        LOG.clear()
        fired.clear()
    return found


def test_no_expression_runs_code_of_the_notebook_or_a_builtin(fired: list[str]) -> None:
    assert survivors(SEED, EXPRESSIONS, fired) == []
