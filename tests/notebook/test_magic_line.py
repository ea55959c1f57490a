import argparse

import pytest
from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from nbllm.notebook.magic_line import (
    Flags,
    parse,
    parse_flags,
    parse_known,
    scaled,
    unescaped,
    variable_name,
)


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = MagicArgumentParser("llm")
    parser.add_argument("name", nargs="?")
    parser.add_argument("-o", "--output", type=variable_name)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--system")
    parser.add_argument("--stop", action="append")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--some", dest="all", action="store_false")
    return parser


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("gpt-4o", {"name": "gpt-4o"}),
        ("gpt-4o -o answer", {"name": "gpt-4o", "output": "answer"}),
        ("-oanswer gpt-4o", {"name": "gpt-4o", "output": "answer"}),
        ('--system "Be brief." x', {"system": "Be brief.", "name": "x"}),
        ("--system='Be brief.'", {"system": "Be brief."}),
        ('--system "-v is a flag"', {"system": "-v is a flag"}),
        ('--system ""', {"system": ""}),
        ("--temperature -1", {"temperature": -1.0}),
        ("--temp -1 --sys=x", {"temperature": -1.0, "system": "x"}),
        ("--stop a --stop -b", {"stop": ["a", "-b"]}),
        ('"a name"', {"name": "a name"}),
        (r"C:\models\new.gguf", {"name": r"C:\models\new.gguf"}),
        ("C#model", {"name": "C#model"}),
    ],
)
def test_a_line_is_all_arguments(
    parser: argparse.ArgumentParser, line: str, expected: dict[str, object]
) -> None:
    given = {key: value for key, value in vars(parse(parser, line, Flags())).items() if value}
    assert given == {key: value for key, value in expected.items() if value}


@pytest.mark.parametrize(
    ("line", "flags", "text"),
    [
        ("What's up?", {}, "What's up?"),
        ("  --temperature 0.5   Say  'two  blanks'", {"temperature": 0.5}, "Say  'two  blanks'"),
        ('--system "a b" -o x {"a": 1}', {"system": "a b", "output": "x"}, '{"a": 1}'),
        ("-- --all of it", {}, "--all of it"),
        ("-5 + 3", {}, "-5 + 3"),
        ("- a list", {}, "- a list"),
        ("--all --", {"all": True}, ""),
        ("Use --flags freely", {}, "Use --flags freely"),
    ],
)
def test_text_behind_the_flags_stays_as_typed(
    parser: argparse.ArgumentParser, line: str, flags: dict[str, object], text: str
) -> None:
    args, rest = parse_flags(parser, line, Flags())
    assert {key: value for key, value in vars(args).items() if value} == flags
    assert rest == text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--temprature 1", r"%llm has no flag --temprature. Did you mean '--temperature'\?"),
        ("--nothing=1", "has no flag --nothing."),
        ("-x", r"has no flag -x. %llm\? shows all that it has"),
        ("--temperature", r"%llm: --temperature needs a value; see %llm\?"),
        ("--temperature warm", r"%llm: --temperature must be a number \(got 'warm'\)"),
        ("-o", "%llm: --output needs a value"),
        ("one two", "unrecognized arguments: two"),
        ("-o 1x", "'1x' is not a valid variable name"),
        ("-o class", "'class' is not a valid variable name"),
        ('--system "open', "unclosed quotation mark"),
        ("--all=yes", r"%llm: --all takes no value \(got 'yes'\)"),
        ("--temperature 1 --temperature 1", "%llm: --temperature is given twice; give it once"),
        ("--temp 1 gpt --temperature=2", "--temperature is given twice"),
        ("--all --all", "--all is given twice"),
        ("-oa -o b", "-o is given twice"),
        ("-oa --output=b", "-o and --output set the same; give one of them"),
        ("--some --all", "--some and --all set the same; give one of them"),
    ],
)
def test_a_wrong_line_is_told_in_one_line(
    parser: argparse.ArgumentParser, line: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(parser, line, Flags())
    assert "\n" not in str(caught.value)


def test_a_flag_in_front_of_a_prompt_is_given_once_and_the_prompt_is_not_read(
    parser: argparse.ArgumentParser,
) -> None:
    _, rest = parse_flags(parser, "--all why --all --all?", Flags())
    assert rest == "why --all --all?"
    with pytest.raises(UsageError, match="--system is given twice"):
        parse_flags(parser, "--system a --system b why", Flags())
    with pytest.raises(UsageError, match="--system is given twice"):
        parse_known(parser, "gpt-4o --system a --system b", Flags())


def test_escapes_in_a_stop_text() -> None:
    assert unescaped(r"a\nb\t\\n \x") == "a\nb\t\\n \\x"


@pytest.mark.parametrize(
    ("word", "pair"),
    [
        ("poet.gguf", ("poet.gguf", 1.0)),
        ("poet.gguf=0.5", ("poet.gguf", 0.5)),
        ("a=b.gguf", ("a=b.gguf", 1.0)),
        ("a=b.gguf=-2", ("a=b.gguf", -2.0)),
        ("=1", ("=1", 1.0)),
    ],
)
def test_a_scale_stands_behind_the_last_equals_sign(word: str, pair: tuple[str, float]) -> None:
    assert scaled(word) == pair
