"""``--schema`` with a type as it is written in an annotation."""

from __future__ import annotations

import dataclasses
import enum
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from IPython.core.error import UsageError
from pydantic import BaseModel, Field

from nbllm.core.errors import InvalidOptionError
from nbllm.notebook.asking.ask_magics import ASK
from nbllm.notebook.flags import parser_of, with_help
from nbllm.notebook.forms.type_expressions import TypeExpression, named_type
from nbllm.notebook.magic_line import Flags, parse, parse_flags


class Person(BaseModel):
    name: str


@dataclasses.dataclass
class Point:
    x: int


class Colour(enum.Enum):
    RED = "red"


class Module:
    """As a module is."""

    Person = Person
    _hidden = Person


class Evil:
    def __class_getitem__(cls, key: Any) -> Any:
        raise RuntimeError("boom\nand more")


NAMESPACE = {
    "P": Person,
    "Q": Point,
    "Colour": Colour,
    "my": Module,
    "Evil": Evil,
    "adults": {"type": "object"},
    "Age": Annotated[int, Field(ge=0)],
}


class Magics:
    @with_help(ASK)
    def llm(self, line: str) -> None:
        """Ask."""


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("P", Person),
        ("adults", {"type": "object"}),
        ("list[P]", list[Person]),
        ("P | Q", Person | Point),
        ("P|Q|None", Person | Point | None),
        ("P |Q", Person | Point),
        ("dict[str, int]", dict[str, int]),
        ("dict[ str , list[ P ] ]", dict[str, list[Person]]),
        ("Optional[P]", Optional[Person]),  # noqa: UP045 - as people write it
        ("Union[P, Q]", Union[Person, Point]),  # noqa: UP007
        ('Literal["a", "b c"]', Literal["a", "b c"]),
        ("Literal['it']", Literal["it"]),
        ("Literal[-1, True, None]", Literal[-1, True, None]),
        ("Literal[Colour.RED]", Literal[Colour.RED]),
        ("tuple[int, ...]", tuple[int, ...]),
        ("my.Person", Person),
        ("list[my.Person]", list[Person]),
        ("Age", NAMESPACE["Age"]),
        ("int", int),
    ],
)
@pytest.mark.parametrize("form", ["--schema {} -o x model", "-o x --schema={} model"])
def test_a_type_is_read_as_it_is_written(form: str, written: str, meant: object) -> None:
    args = parse(parser_of(Magics(), "llm"), form.format(written), Flags())
    assert (args.output, args.name) == ("x", "model")
    assert named_type(args.schema, NAMESPACE) == meant


def test_quotes_around_all_of_it_and_text_behind_it() -> None:
    parser = parser_of(Magics(), "llm")
    args, text = parse_flags(parser, '--schema "P | Q" Who? | What?', Flags())
    assert (args.schema, text) == ("P | Q", "Who? | What?")
    args, text = parse_flags(parser, "--schema list[P]  two  blanks", Flags())
    assert (args.schema, text) == ("list[P]", "two  blanks")
    with pytest.raises(UsageError, match="--schema"):
        parse(parser, "--schema", Flags())


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("Nobody", "there is no variable Nobody"),
        ("Colur", "Did you mean 'Colour'"),
        ("list[P", "is not a type; write it as in an annotation"),
        ("list[", "is not a type"),
        ("1 +", "is not a type"),
        ("my._hidden", "my._hidden is not allowed in a type; assign it to a variable"),
        ("__import__('os').system('touch pwned')", "is not allowed in a type"),
        ("[eval for eval in [P]]", "is not allowed in a type"),
        ("list[eval('P')]", "is not allowed in a type"),
        ("Annotated[int, Field(ge=0)]", "is not allowed in a type; assign it to a variable"),
        ("eval", "there is no variable eval"),
        ("P[int]", "is not a type"),
        ("my.Nobody", "has no attribute 'Nobody'"),
        ("3 | P", "unsupported operand"),
        ("Evil[1]", "boom"),
        ("[" * 3000, "is not a type"),
    ],
)
def test_what_is_no_type_is_refused_in_one_line(written: str, problem: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        named_type(written, NAMESPACE)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_word_ends_where_its_brackets_do() -> None:
    assert TypeExpression.first_word("a b") == ("a", "b")
    assert TypeExpression.first_word("a]b c") == ("a]b", "c")
    assert TypeExpression.first_word("") == ("", "")
