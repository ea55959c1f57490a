"""Colours for code: the theme's own in JupyterLab, and others that suit light and dark elsewhere.

A language says what its comments, strings and words look like. Each alternative of a pattern takes
all that it has looked at (none looks ahead by more than two characters, none can fail behind a
repetition), so that a search over any text is linear.

One regular expression a language finds comments, strings, numbers and words in linear
time, whatever the code is. Pygments does not: the time of its lexers for Makefiles and Markdown
grows with the square of the text, and a kernel cannot interrupt a regular expression.

Colours are inline styles. A front end that doesn't trust a notebook takes style sheets away, and
values with variables too, so a plain colour stands before the theme's.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from nbllm.core.rendering.escaping import code_html

if TYPE_CHECKING:
    import re

__all__ = [
    "Language",
    "coloured_code",
    "language_named",
]


@dataclass(frozen=True, slots=True)
class Language:
    """``pattern`` has the groups comment, string, number, word and more, which are kinds.

    The word after one of ``definers`` is a name that is defined. A word or a string before one of
    ``key_marks`` is a key.
    """

    pattern: re.Pattern[str]
    keywords: frozenset[str] = frozenset()
    builtins: frozenset[str] = frozenset()
    definers: frozenset[str] = frozenset()
    key_marks: str = ""
    ignores_case: bool = False


@dataclass(frozen=True, slots=True)
class _Family:
    """What the patterns of related languages are made of."""

    comment: str
    string: str
    word: str = r"[^\W\d]\w*"
    more: str = ""
    definers: str = ""
    key_marks: str = ""
    ignores_case: bool = False
    builtins: str = ""


_DOUBLE, _SINGLE = r'"(?:[^"\\\n]|\\.)*"?', r"'(?:[^'\\\n]|\\.)*'?"
_DOUBLE_LINES, _SINGLE_LINES = r'"(?:[^"\\]|\\.)*"?', r"'[^']*'?"
_TRIPLES = (
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:""")?',
    r"'''(?:[^'\\]|\\.|'(?!''))*(?:''')?",
)
_BACKTICKS = r"`(?:[^`\\]|\\.)*`?"
_SLASHES, _STARS = r"//[^\n]*", r"/\*(?:[^*]|\*(?!/))*(?:\*/)?"
_HASH, _DASHES = r"\#[^\n]*", r"--[^\n]*"
_NUMBER = r"(?<!\w)\d\w*(?:\.\d\w*)?"

_PYTHON_BUILTINS = """abs all any bool bytes callable dict dir enumerate filter float format getattr
    hasattr hash id input int isinstance issubclass iter len list map max min next object open ord
    pow print property range repr reversed round self set setattr sorted staticmethod str sum super
    tuple type zip"""
_PYTHON = _Family(
    _HASH,
    rf"(?:\b[rRbBuUfFtT]{{1,2}})?(?:{'|'.join((*_TRIPLES, _DOUBLE, _SINGLE))})",
    definers="def class",
    builtins=_PYTHON_BUILTINS,
)
_HASHES = _Family(_HASH, f"{_DOUBLE}|{_SINGLE}", definers="def class module function struct sub")
_BRACES = _Family(
    f"{_SLASHES}|{_STARS}",
    f"{_DOUBLE}|{_SINGLE}|{_BACKTICKS}",
    more=r"(?P<directive>\#(?:include|define|undef|ifdef|ifndef|if|else|elif|endif|pragma)\b)",
    definers="class struct enum interface trait fn func fun function type namespace record",
)
_RUST = _Family(
    f"{_SLASHES}|{_STARS}",
    rf"{_DOUBLE_LINES}|'(?:[^'\\\n]|\\.)'",  # 'a without a second quote is a lifetime
    definers="fn struct enum trait mod type",
)
_SHELL = _Family(
    r"(?<![^\s;(|&])\#[^\n]*",
    f"{_DOUBLE_LINES}|{_SINGLE_LINES}",
    word=r"[^\W\d][\w-]*",
    more=r"(?P<name>\$\{?\w{1,100}\}?|\$[@*?!-])",
)
_SQL = _Family(f"{_DASHES}|{_STARS}", f"{_SINGLE}|{_DOUBLE}", ignores_case=True)
_LUA = _Family(_DASHES, f"{_DOUBLE}|{_SINGLE}", definers="function")
_MARKUP = _Family(
    r"<!--(?:[^-]|-(?!->))*(?:-->)?",
    r'(?<==)"[^"]*"?' + r"|(?<==)'[^']*'?",
    word=r"[\w:-]+",
    more=r"(?P<tag></?[A-Za-z][\w:.-]*|/?>)",
    key_marks="=",
)
_JSON = _Family(f"{_SLASHES}|{_STARS}", _DOUBLE, key_marks=":")
_KEYED = _Family(
    r"(?<!\S)\#[^\n]*|(?<!\S);[^\n]*", f"{_DOUBLE}|{_SINGLE}", word=r"[\w.-]+", key_marks=":="
)
_CSS = _Family(
    _STARS, f"{_DOUBLE}|{_SINGLE}", word=r"[\w-]+", more=r"(?P<directive>@\w+)", key_marks=":"
)
_TEX = _Family(r"(?<!\\)%[^\n]*", r"(?!)", more=r"(?P<directive>\\[A-Za-z]+)")

_C = """auto bool break case char const continue default do double else enum extern false float for
    goto if inline int long nullptr NULL register return short signed sizeof static struct switch
    true typedef union unsigned void volatile while"""
_CPP = f"""{_C} catch class concept constexpr delete explicit export friend namespace new noexcept
    operator override private protected public requires template this throw try typename using
    virtual"""
_JAVA = """abstract boolean break byte case catch char class const continue default do double else
    enum extends false final finally float for if implements import instanceof int interface long
    new null package private protected public return short static super switch this throw throws
    true try var void while"""
_CSHARP = (
    f"{_JAVA} async await base bool decimal foreach in is namespace object out ref string using"
)
_JS = """async await break case catch class const continue debugger default delete do else export
    extends false finally for from function if import in instanceof let new null of return static
    super switch this throw true try typeof undefined var void while with yield"""
_TS = f"{_JS} abstract any as boolean declare enum implements interface keyof never number private"
_GO = """break case chan const continue default defer else fallthrough false for func go goto if
    import interface map nil package range return select struct switch true type var string int
    error bool byte"""
_RUST_WORDS = """as async await break const continue crate dyn else enum extern false fn for if impl
    in let loop match mod move mut pub ref return self Self static struct super trait true type
    unsafe use where while"""
_KOTLIN = """abstract class companion data else false for fun if import in interface is null object
    override package private return sealed super this true val var when while"""
_SWIFT = """case class default else enum extension false for func guard if import in init let nil
    private protocol public return self static struct switch true var while"""
_SCALA = """abstract case class def else extends false final for given if import match new null
    object override package private return sealed this trait true type val var while with yield"""
_PHP = """abstract array as break case catch class const continue echo else elseif extends false
    final for foreach function if implements interface namespace new null private protected public
    return static switch this throw true try use while"""
_BASH = """if then else elif fi for in do done while until case esac function return export local
    echo cd exit set unset source sudo true false"""
_SQL_WORDS = """add all alter and as asc begin between by case check column commit constraint create
    cross database default delete desc distinct drop else end exists foreign from full group having
    if in index inner insert into is join key left like limit not null offset on or order outer
    over partition primary references right rollback select set table then union unique update
    using values view when where with"""
_R = "break else FALSE for function if in library next NULL repeat require return TRUE while NA Inf"
_JULIA = """abstract begin break catch const continue do else elseif end export false finally for
    function global if import in let local macro module mutable nothing quote return struct true try
    using where while"""
_RUBY = """alias and begin break case class def do else elsif end ensure false for if in module next
    nil not or raise require rescue return self super then true unless until when while yield"""
_PERL = "else elsif for foreach if last my next our package print return sub unless use while"
_LUA_WORDS = """and break do else elseif end false for function goto if in local nil not or repeat
    return then true until while"""
_DOCKER = "from run cmd label expose env add copy entrypoint volume user workdir arg as"
_MAKE = "define endef ifeq ifneq ifdef ifndef else endif include export override"
_LITERALS = "true false null yes no on off none"

_TABLE: dict[str, tuple[_Family, str]] = {
    "python py python3 ipython pycon": (_PYTHON, " ".join(keyword.kwlist)),
    "json jsonc json5 jsonl": (_JSON, _LITERALS),
    "bash sh shell zsh": (_SHELL, _BASH),
    "javascript js jsx mjs node": (_BRACES, _JS),
    "typescript ts tsx": (_BRACES, _TS),
    "c h": (_BRACES, _C),
    "cpp c++ cc cxx hpp cuda": (_BRACES, _CPP),
    "java": (_BRACES, _JAVA),
    "csharp cs c#": (_BRACES, _CSHARP),
    "go golang": (_BRACES, _GO),
    "rust rs": (_RUST, _RUST_WORDS),
    "kotlin kt": (_BRACES, _KOTLIN),
    "swift": (_BRACES, _SWIFT),
    "scala": (_BRACES, _SCALA),
    "php": (_BRACES, _PHP),
    "sql sqlite postgresql mysql": (_SQL, _SQL_WORDS),
    "r": (_HASHES, _R),
    "julia jl": (_HASHES, _JULIA),
    "ruby rb": (_HASHES, _RUBY),
    "perl pl": (_HASHES, _PERL),
    "lua": (_LUA, _LUA_WORDS),
    "html xml svg xhtml vue": (_MARKUP, ""),
    "css scss less": (_CSS, ""),
    "yaml yml": (_KEYED, _LITERALS),
    "toml ini cfg conf properties dotenv env": (_KEYED, _LITERALS),
    "makefile make cmake": (_HASHES, _MAKE),
    "dockerfile docker": (_Family(_HASH, f"{_DOUBLE}|{_SINGLE}", ignores_case=True), _DOCKER),
    "latex tex": (_TEX, ""),
}
_NAMES = {name: names for names in _TABLE for name in names.split()}
_DIFF = Language(
    re.compile(r"^(?:(?P<added>\+[^\n]*)|(?P<removed>-[^\n]*)|(?P<hunk>@@[^\n]*))", re.MULTILINE)
)


def language_named(name: str) -> Language | None:
    """The language that a fence calls ``name``; None for one that is not known."""
    name = name.lower()
    if name in ("diff", "patch"):
        return _DIFF
    return _built(_NAMES[name]) if name in _NAMES else None


@cache
def _built(names: str) -> Language:
    family, keywords = _TABLE[names]
    groups = [
        f"(?P<comment>{family.comment})",
        f"(?P<string>{family.string})",
        *([family.more] if family.more else []),
        f"(?P<number>{_NUMBER})",
        f"(?P<word>{family.word})",
    ]
    return Language(
        re.compile("|".join(groups), re.DOTALL),
        frozenset(keywords.split()),
        frozenset(family.builtins.split()),
        frozenset(family.definers.split()),
        family.key_marks,
        family.ignores_case,
    )


_GREEN, _RED, _BLUE, _GREY = "#2e8540", "#c8514b", "#3b7dd8", "#567f7f"
_COLOURS = {  # kind -> the name that JupyterLab has for it, and a colour that needs no theme
    "comment": ("comment", _GREY),
    "string": ("string", _RED),
    "number": ("number", _GREEN),
    "keyword": ("keyword", _GREEN),
    "builtin": ("builtin", _GREEN),
    "directive": ("keyword", _GREEN),
    "tag": ("tag", _GREEN),
    "name": ("def", _BLUE),
    "key": ("property", _BLUE),
    "hunk": ("property", _BLUE),
    "added": ("keyword", _GREEN),
    "removed": ("string", _RED),
}
_FACES = {"keyword": ";font-weight:bold", "comment": ";font-style:italic"}


def coloured_code(code: str, language: str) -> str:
    """``code`` as HTML for ``<pre><code>``; ``language`` is a fence's word, known or not."""
    known = language_named(language)
    if known is None:
        return code_html(code)
    runs = groupby(filter(itemgetter(1), _pieces(code, known)), key=itemgetter(0))
    return "".join(_painted(kind, "".join(text for _, text in run)) for kind, run in runs)


def _painted(kind: str, text: str) -> str:
    return f"{_opening(kind)}{code_html(text)}</span>" if kind else code_html(text)


@cache
def _opening(kind: str) -> str:
    name, colour = _COLOURS[kind]
    theme = f"color:var(--jp-mirror-editor-{name}-color,{colour})"
    return f'<span style="color:{colour};{theme}{_FACES.get(kind, "")}">'


def _pieces(code: str, language: Language) -> Iterator[tuple[str, str]]:
    """The whole of ``code`` as (kind, text), with "" for what has no colour."""
    position, previous = 0, ""
    for match in language.pattern.finditer(code):
        yield "", code[position : match.start()]
        kind = _kind(match, language, previous)
        yield kind, match[0]
        position, previous = match.end(), match[0]
    yield "", code[position:]


def _kind(match: re.Match[str], language: Language, previous: str) -> str:
    kind = match.lastgroup or ""
    if language.key_marks and kind in ("word", "string") and _is_key(match, language.key_marks):
        return "key"
    if kind != "word":
        return kind
    word = match[0].lower() if language.ignores_case else match[0]
    if word in language.keywords:
        return "keyword"
    if previous in language.definers:
        return "name"
    return "builtin" if word in language.builtins else ""


def _is_key(match: re.Match[str], marks: str) -> bool:
    following = match.string[match.end() : match.end() + 2].lstrip(" ")[:1]
    return bool(following) and following in marks
