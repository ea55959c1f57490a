"""Patterns of schemas: what they match, and the JSON strings that their grammars take."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.core.grammars.gbnf import read_gbnf
from nbllm.core.grammars.grammar_automaton import Automaton
from nbllm.core.grammars.grammar_program import Program
from nbllm.core.schemas.grammar_scalars import CHAR, CHAR_RULE, pattern_text, sized_text
from nbllm.core.schemas.patterns import read_pattern
from nbllm.core.schemas.string_rules import FORMATS
from nbllm.core.schemas.value_checks import found_in


def takes(expression: str, text: str) -> bool:
    grammar = f"root ::= {expression}\n{CHAR} ::= {CHAR_RULE}\n"
    machine = Automaton(Program(read_gbnf(grammar, lambda text: None)))
    state = machine.walk(machine.begin(), text.encode())
    return state is not None and state.accepts


def written(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        (r"^\d{3}$", ["123"], ["12", "1234", "12a"]),
        (r"^\w+$", ["a_Z9"], ["", "a b"]),
        (r"^\s\S$", [" a", "\tb", "\n😀"], ["ab", "  "]),
        (r"^[\D]$", ["a"], ["1"]),
        (r"^\W$", ["-", " "], ["a"]),
        (r"\.", ["a.b", "."], ["ab", ""]),
        ("b", ["abc"], ["ac"]),
        ("^a", ["ab"], ["ba"]),
        ("a$", ["ba"], ["ab"]),
        ("^a$|^b$", ["a", "b"], ["ab", "aa"]),
        ("(^a|b)c$", ["ac", "xxbc"], ["xac", "bca"]),
        ("^(a|b)?(c$)", ["c", "ac"], ["ab", "cc"]),
        ('^"a"$', ['"a"'], ["a"]),
        (r"^\\$", ["\\"], ["a"]),
        (r"^\[[0-9]+]$", ["[12]"], ["12"]),
        ("^}$", ["}"], ["{"]),
        ("^{$", ["{"], ["}"]),
        ("^a{,2}$", ["", "aa"], ["aaa"]),
        ("^a{x}$", ["a{x}"], ["ax"]),
        ("^[[:alpha:]]+$", ["a]]", ":]"], ["b]", "a"]),
        ("^[]a]+$", ["]a"], ["b"]),
        ("^[^]a]$", ["b"], ["]", "a"]),
        (r"^[a\-z-]+$", ["a-z"], ["b"]),
        (r"^[\d-x]+$", ["1-x"], ["y"]),
        ("^(?:ab)+$", ["abab"], ["aba"]),
        ("^(?P<n>a)(?<m>b)$", ["ab"], ["a"]),
        ("^a+?b*?c??$", ["aab", "ac"], ["b"]),
        (r"^\x41\u00e9\u{1F600}\ud83d\ude00$", ["Aé😀😀"], ["A"]),
        (r"^\t\n\v\f\r$", ["\t\n\v\f\r"], ["\t"]),
        (r"^[\b]$", ["\b"], ["b"]),
        (r"^\cJ$", ["\n"], ["J"]),
        ("^(?i)aB$", ["AB", "ab"], ["b"]),
        ("^(?i:a)B$", ["AB", "aB"], ["ab"]),
        ("^(?s).$", ["\n"], [""]),
        ("^.$", ["a", "é"], ["\n", ""]),
        (r"\Aab\Z", ["ab"], ["cab"]),
        (r"^\p{Lu}\p{Nd}\P{L}$", ["Ä1-"], ["ä1-", "Ä1a"]),
        ("^(a|)$", ["a", ""], ["b"]),
        ("^(?#a comment)a$", ["a"], [""]),
        ("", ["", "x\n"], []),
    ],
)
def test_a_pattern_and_its_grammar_take_the_same(
    pattern: str, right: list[str], wrong: list[str]
) -> None:
    assert all(found_in(pattern, text) for text in right)
    assert not any(found_in(pattern, text) for text in wrong)
    expression = pattern_text(pattern)
    assert all(takes(expression, written(text)) for text in right)
    assert not any(takes(expression, written(text)) for text in wrong)


@pytest.mark.parametrize(
    ("pattern", "right", "wrong"),
    [
        ("^(?=.{2,4}$)[a-c]+$", ["ab", "abca"], ["a", "abcab"]),
        ("^(?!admin)[a-z]+$", ["bob"], ["administrator"]),
        (r"(?<=a)b(?<!ab)", [], ["ab"]),
        (r"\bcat\b", ["a cat sat"], ["concat"]),
        (r"\Bat", ["cat"], ["at"]),
        ("a^b", [], ["ab"]),
        ("^((?!b).)*$", ["aca"], ["abc"]),
    ],
)
def test_what_a_grammar_cannot_say_is_found_out_afterwards(
    pattern: str, right: list[str], wrong: list[str]
) -> None:
    assert all(found_in(pattern, text) for text in right)
    assert not any(found_in(pattern, text) for text in wrong)
    assert all(takes(pattern_text(pattern), written(text)) for text in right)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("^*$", "nothing to repeat, at character 2"),
        ("a**", "nothing to repeat"),
        ("+", "nothing to repeat"),
        ("(", r"an unclosed '\('"),
        (")", r"an unmatched '\)'"),
        ("[a", r"an unclosed '\['"),
        ("[z-a]", "out of order"),
        ("a{3,2}", "at least 3 and at most 2"),
        ("a++", "possessive"),
        ("(?>a)", "not supported"),
        ("(?m)^a", "not supported"),
        (r"(a)\1", "backreference"),
        (r"(?<n>a)\k<n>", "backreference"),
        ("(?P<n>a)(?P=n)", "not supported"),
        (r"\q", "escape"),
        ("\\", "backslash"),
        (r"\p{Script=Greek}", "property"),
        (r"\ud83d", "which is not a character"),
        ("(" * 1_000, "nested groups"),
        ("a" * 30_000, "20,000 characters"),
    ],
)
def test_what_is_no_pattern_says_why(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_pattern(pattern)


ATOMS = st.sampled_from(
    ["a", "b", "0", ".", "\\d", "\\w", "\\s", "[ab]", "[^a]", "[0-9x]", '"', "\\\\", "\\.", " "]
)
REPEATS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,2}", "*?"])


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    items = st.lists(st.builds(str.__add__, inner, REPEATS), min_size=1, max_size=3)
    return items.map("".join).map(lambda text: f"(?:{text})") | st.builds(
        lambda a, b: f"({a}|{b})", inner, inner
    )


BODIES = st.recursive(ATOMS, joined, max_leaves=6)
PATTERNS = st.builds(
    lambda begin, body, end: f"{begin}{body}{end}",
    st.sampled_from(["", "^", "(?=a)"]),
    BODIES,
    st.sampled_from(["", "$", "\\b"]),
)


@settings(max_examples=400, deadline=None)
@given(PATTERNS, st.text('ab01x "\\.\n', max_size=6))
def test_patterns_match_as_they_do_in_python(pattern: str, text: str) -> None:
    python = pattern.removesuffix("$") + "\\Z" if pattern.endswith("$") else pattern
    expected = re.search(python, text) is not None
    assert found_in(pattern, text) is expected
    expression = pattern_text(pattern)
    if "(?=" not in pattern and "\\b" not in pattern:
        assert takes(expression, written(text)) is expected
    elif expected:
        assert takes(expression, written(text))


@settings(max_examples=300, deadline=None)
@given(st.text("ab0^$.|()[]{}*+?\\-,:=!<>'\"/dwsSDWbBxupPk1{}😀é", max_size=14))
def test_no_pattern_hangs_or_breaks_anything(pattern: str) -> None:
    began = time.process_time()
    with suppress(ValueError):
        found_in(pattern, "ab0" * 20)
        expression = pattern_text(pattern)
        assert not expression or takes(expression, "x") in (True, False)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(a?){500}b", "((a*)*)*c", "^(.*)*x$"])
def test_patterns_that_hang_others_take_little_time(pattern: str) -> None:
    began = time.process_time()
    assert not found_in(pattern, "a" * 2_000 + "!")
    assert time.process_time() - began < 5


def test_what_is_too_long_to_be_checked_says_so() -> None:
    with pytest.raises(ValueError, match="too complex"):
        found_in("(((a*b*)*c*)*d*)*$" + "|(ab?)*" * 50, "abcd" * 200_000)


GOOD = {
    "date": ["2024-02-29", "1999-12-31", "2000-02-29"],
    "time": ["12:00:00Z", "23:59:59.123+01:00"],
    "date-time": ["2024-01-01T00:00:00Z", "1999-12-31T23:59:59.5-05:30"],
    "duration": ["P1D", "PT5S", "P3DT4H5M6S", "P1Y2M", "PT1H", "P2W"],
    "email": ["a.b+c@d-e.org"],
    "hostname": ["localhost", "a-b.example"],
    "ipv4": ["1.2.3.4", "255.255.255.255"],
    "ipv6": ["::1", "2001:db8::1", "1:2:3:4:5:6:7:8", "::", "fe80::", "::ffff:1.2.3.4", "1::8"],
    "uri": ["https://a.b/c?d=e#f", "mailto:a@b.c", "http://localhost:8888/lab"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "byte": ["aGVsbG8=", "", "QUJD"],
}
BAD = {
    "date": ["2023-02-29", "1900-02-29", "2024-13-01", "0000-01-01", "2024-1-1"],
    "time": ["24:00:00Z", "12:00", "12:00:00"],
    "date-time": ["2024-01-01", "2024-01-01 00:00:00Z"],
    "duration": ["P", "PT", "1D"],
    "email": ["a@", "@b.org", "a b@c.org"],
    "hostname": ["-a", "a..b"],
    "ipv4": ["256.1.1.1", "1.2.3", "01.2.3.4"],
    "ipv6": ["1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "g::"],
    "uri": ["http://", "a b", "x"],
    "uuid": ["123e4567"],
    "byte": ["a", "ab=", "===="],
}


@pytest.mark.parametrize("name", GOOD)
def test_formats(name: str) -> None:
    expression = pattern_text(FORMATS[name])
    assert all(takes(expression, written(text)) for text in GOOD[name])
    assert not any(takes(expression, written(text)) for text in BAD[name])


@given(st.text(min_size=0, max_size=6))
def test_strings_of_a_length(text: str) -> None:
    shown = json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    assert takes(sized_text(2, 4), shown) == (2 <= len(text) <= 4)
    assert takes(sized_text(2, 4), json.dumps(text)) == (2 <= len(text) <= 4)


@pytest.mark.parametrize("half", [r'"\ud83d"', r'"\ude00"', r'"\ud83dx"', r'"\ud83d\ud83d"'])
def test_no_string_holds_half_a_character(half: str) -> None:
    assert not takes(sized_text(0, None), half)
    assert takes(sized_text(0, None), r'"\ud83d\ude00"')
