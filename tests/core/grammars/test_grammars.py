"""GBNF as it is read, checked and followed: by hand-written grammars, and by hostile ones."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbllm.core.grammars.charsets import EVERYTHING, CharSet
from nbllm.core.grammars.gbnf import GrammarError, read_gbnf
from nbllm.core.grammars.grammar_automaton import Automaton
from nbllm.core.grammars.grammar_program import Program


def nothing(text: str) -> None:
    """No text is a token."""


def automaton(grammar: str) -> Automaton:
    return Automaton(Program(read_gbnf(grammar, nothing)))


def accepts(grammar: str, text: str | bytes) -> bool:
    machine = automaton(grammar)
    data = text if isinstance(text, bytes) else text.encode()
    state = machine.walk(machine.begin(), data)
    return state is not None and state.accepts


@pytest.mark.parametrize(
    ("grammar", "right", "wrong"),
    [
        ('root ::= "a" | "b" "c"', ["a", "bc"], ["", "b", "ac"]),
        ("root ::= [a-c]+ # a comment\n", ["a", "abc"], ["", "d"]),
        ('root ::= "a"{2,3} [^x]?', ["aa", "aaa", "aay"], ["a", "aaaaa", "aax"]),
        ('root ::= ("ab" |\n "c")* end\nend ::= "."', [".", "abc."], ["ab", "c"]),
        ('root ::= "[" root? "]"', ["[]", "[[[]]]"], ["[", "[[]"]),
        (r'root ::= "\x41\u00e9\U0001F600\n\"\\"', ['Aé😀\n"\\'], ["A"]),
        (r"root ::= [\]\\^\-a]", ["]", "\\", "^", "-", "a"], ["b"]),
        ("root ::= . .", ["é😀", "ab"], ["a", ""]),
        ("root ::= [^a-zé-ü]", ["A", "😀", "à"], ["b", "é", "ö"]),
        ('root ::= a b\na ::= "x"?\nb ::= a a "y"', ["y", "xxxy"], ["xxxxy"]),
        ('root ::= ("a"?)* "b"', ["b", "aaab"], ["a"]),
        ('root ::= "a" root "b" | ""', ["", "aabb"], ["aab", "abb"]),
    ],
)
def test_a_grammar_takes_its_texts_and_no_others(
    grammar: str, right: list[str], wrong: list[str]
) -> None:
    assert all(accepts(grammar, text) for text in right)
    assert not any(accepts(grammar, text) for text in wrong)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "does not contain a 'root' symbol"),
        ("rot ::= [0-9]", "does not contain a 'root' symbol"),
        ("root ::= [", "line 1, column 11: unexpected end of input"),
        ('root ::= "a', "unexpected end of input"),
        ('root ::= "a"\nb = "c"', "line 2, column 3: expecting ::= at '= \"c\"'"),
        ('root ::= ("a"', r"expecting '\)'"),
        ('root ::= "\\q"', r"unknown escape at '\\\\q"),
        (r'root ::= "\x4"', "expecting 2 hex chars"),
        ("root ::= other", "Undefined rule identifier 'other'"),
        ("root ::= * ", "expecting preceding item"),
        ('root ::= "a"{x}', "expecting an int"),
        ('root ::= "a"{3,2}', "at least 3 and at most 2"),
        ('root ::= "a"{1,2001}', "number of repetitions exceeds 2,000"),
        ('root ::= "a"' + "?" * 50_000, "nested repetitions"),
        ("root ::= " + "(" * 100_000, "nested groups"),
        ("root ::= root", "left recursion detected: rule 'root'"),
        ('root ::= a "x"\na ::= b | "c"\nb ::= root', "left recursion"),
        ('root ::= x root "x" | "y"\nx ::= y\ny ::= ""', "left recursion"),
        ('root ::= ("a"?)? root | "b"', "left recursion"),
        ("root ::= <nowhere>", "invalid token '<nowhere>'"),
        ('root ::= "\ud83d"', "lone surrogate"),
        ('root ::= "' + "a" * 1_100_000 + '"', "at most 1,000,000"),
        ("root ::= " + 'a{1,2000} "x"\na ::= "b"\n' + "".join(
            f"r{n} ::= a{{1,2000}}\n" for n in range(200)
        ), "more than 300,000 steps"),
    ],
)  # fmt: skip
def test_what_is_no_grammar_says_where_and_why(grammar: str, reason: str) -> None:
    began = time.process_time()
    with pytest.raises(GrammarError, match=reason):
        automaton(grammar)
    assert time.process_time() - began < 10


def test_a_chain_of_ten_thousand_rules_is_read_and_followed() -> None:
    chain = "".join(f'r{n} ::= r{n + 1} "x" | r{n + 1} "y"\n' for n in range(3_000))
    grammar = f'root ::= r0\n{chain}r3000 ::= "z"\n'
    assert accepts(grammar, "z" + "xy" * 1_500)
    assert not accepts(grammar, "z" + "xy" * 1_499 + "xz")


@pytest.mark.parametrize(
    ("grammar", "text", "right"),
    [  # each takes exponential time and memory if every way to read the text is kept
        ('root ::= "a" root "b" | "a" root "c" | ""', "a" * 1_000 + "bc" * 500, True),
        ('root ::= ("a"?){300}', "a" * 301, False),
        ('root ::= (("a"*)*)* "b"', "a" * 2_000, False),
        ('root ::= "a" | "a" root root', "a" * 99, True),
        ('root ::= (a | b)* "!"\na ::= "x" a | "x"\nb ::= "x" b | "x"', "x" * 300 + "!", True),
    ],
)
def test_ambiguity_costs_little(grammar: str, text: str, right: bool) -> None:
    machine = automaton(grammar)
    state = machine.begin()
    for byte in text.encode():
        after = machine.walk(state, bytes([byte]))
        machine.earn()
        if after is None:
            break
        state = after
    assert (after is not None and after.accepts) is right


def test_a_grammar_that_takes_too_long_is_given_up() -> None:
    machine = automaton('root ::= ("a"?){1000} "b"')
    began = time.process_time()
    with pytest.raises(GrammarError, match="too ambiguous"):
        machine.walk(machine.begin(), b"a" * 1_000)
    assert time.process_time() - began < 10


@given(st.text(max_size=20), st.data())
def test_characters_may_come_in_pieces(text: str, data: st.DataObject) -> None:
    encoded = text.encode()
    cut = data.draw(st.integers(0, len(encoded)))
    machine = automaton("root ::= [^\\x00]*")
    state = machine.walk(machine.begin(), encoded[:cut])
    end = None if state is None else machine.walk(state, encoded[cut:])
    assert (end is not None and end.accepts) == ("\0" not in text)


@given(st.binary(max_size=6))
def test_what_is_not_utf_8_is_not_allowed(data: bytes) -> None:
    machine = automaton("root ::= .*")
    try:
        whole = bool(data.decode()) and "\0" not in data.decode()
    except UnicodeDecodeError:
        whole = False
    state = machine.walk(machine.begin(), data)
    assert (state is not None and state.accepts) == (whole or not data)


@settings(max_examples=50)
@given(st.lists(st.text('abé"\n😀', min_size=1, max_size=4), max_size=30))
def test_all_allowed_texts_are_found_at_once(texts: list[str]) -> None:
    machine = automaton('root ::= ["aé]+ "😀"? | "b" "\\n"')
    encoded = sorted(text.encode() for text in texts)
    start = machine.begin()
    each = [n for n, text in enumerate(encoded) if machine.walk(start, text) is not None]
    assert machine.allowed(start, encoded) == each


ranges = st.lists(st.tuples(st.integers(0, 0x10FFFF), st.integers(0, 0x10FFFF)), max_size=4)


@given(ranges, st.integers(1, 0x10FFFF))
def test_sets_of_characters(pairs: list[tuple[int, int]], point: int) -> None:
    chars = CharSet.of(pairs)
    is_character = point in EVERYTHING
    assert (point in chars) == (is_character and any(a <= point <= b for a, b in pairs))
    assert (point in chars.complement()) == (is_character and point not in chars)
    assert chars.meets(point, point) == (point in chars)
