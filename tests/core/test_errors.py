"""Every error survives a pickle, a copy and a process pool, with all that it carries."""

from __future__ import annotations

import copy
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbllm.core import errors
from nbllm.core.errors import (
    ContextLengthError,
    MissingDependencyError,
    ModelError,
    ModelFileError,
    NbllmError,
)

REALISTIC: dict[str, Any] = {
    "reasons": {"a": "rate limit", "b": "it broke"},
    "alternatives": ("from conda-forge",),
    "available_bytes": 2**33,
    "budget": "today's budget",
    "code": "insufficient_quota",
    "context_length": 8192,
    "conversation": "plan",
    "entry": "gpt-4o",
    "exit_status": -11,
    "extra": "local",
    "file": Path("models.json"),
    "form": "JSON",
    "hint": "%llm_models lists all.",
    "install": "--no-deps pandas",
    "installed": "2.0",
    "key": "base_url",
    "left": 0.25,
    "log": ("loading", "ggml_abort"),
    "model": "phi",
    "name": "ph",
    "needed": 1.5,
    "needed_bytes": 2**34,
    "option": "max_tokens",
    "package": "pandas",
    "partial_text": "Once upon \\ud83d a time",
    "problem": "it broke",
    "prompt_tokens": 9001,
    "purpose": "a table",
    "remedies": ("a smaller context",),
    "request_id": "req_1",
    "retry_after_seconds": 2.5,
    "retryable": True,
    "status": 429,
    "suggestions": ("phi",),
    "text": "{",
    "unit": "usd",
    "was_sent": False,
}


def tree(root: type[NbllmError] = NbllmError) -> Iterator[type[NbllmError]]:
    yield root
    for kind in root.__subclasses__():
        yield from tree(kind)


def nbllm_errors() -> list[type[NbllmError]]:
    """Those of the package, without the ones that tests derive."""
    return [kind for kind in tree() if kind.__module__.startswith("nbllm.")]


def an_error(kind: type[NbllmError]) -> NbllmError:
    """One with every argument that its constructor has; a new argument needs a value above."""
    parameters = inspect.signature(kind).parameters
    if "messages" in parameters:  # no constructor of its own
        return kind("it broke")
    return kind(**{name: REALISTIC[name] for name in parameters})


def same(one: BaseException, other: BaseException) -> None:
    assert type(one) is type(other)
    assert (str(one), repr(one), one.args) == (str(other), repr(other), other.args)
    assert vars(one) == vars(other)


COPIES: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle {protocol}": lambda error, protocol=protocol: pickle.loads(
            pickle.dumps(error, protocol)
        )
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def test_the_tree_is_the_module() -> None:
    assert {kind.__name__ for kind in nbllm_errors()} == set(errors.__all__)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", nbllm_errors(), ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_it_was(kind: type[NbllmError], way: str) -> None:
    error = an_error(kind)
    vars(error)["__notes__"] = ["while loading"]  # add_note, which Python 3.10 has not
    again = COPIES[way](error)
    same(error, again)
    same(error, COPIES[way](again))


def test_a_changed_message_and_an_attribute_of_somebody_else_stay() -> None:
    error = ContextLengthError("phi", "too long", prompt_tokens=9)
    error.args = ("phi: scrubbed",)
    error.seen_by = "a layer"  # type: ignore[attr-defined]
    same(error, pickle.loads(pickle.dumps(error)))


def test_what_the_builtin_base_knows_stays_too() -> None:
    error = MissingDependencyError("pandas", purpose="a table", extra="x")
    assert pickle.loads(pickle.dumps(error)).msg == error.msg


class CustomError(ModelError):
    """Somebody else's class, with a constructor of its own and no thought of pickles."""

    def __init__(self, one: int, *, two: dict[str, list[int]]) -> None:
        self.one, self.two = one, two
        super().__init__("phi", "it broke", partial_text="Once")


@given(st.integers(), st.dictionaries(st.text(max_size=5), st.lists(st.integers(), max_size=3)))
def test_a_class_that_others_derive_comes_back_as_well(one: int, two: dict[str, list[int]]) -> None:
    error = CustomError(one, two=two)
    again = copy.deepcopy(error)
    same(error, again)
    assert again.two is not error.two
    assert copy.copy(error).two is error.two
    same(error, pickle.loads(pickle.dumps(error)))


POOL = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from nbllm.core.errors import ContextLengthError, DoesNotFitError, InvalidOptionError
from nbllm.core.model_config import load_config

def fail(number):
    if number == 0:
        raise ContextLengthError("phi", "too long", prompt_tokens=9, partial_text="Once")
    if number == 1:
        raise DoesNotFitError("phi", "too large", needed_bytes=2, available_bytes=1)
    if number == 2:
        raise InvalidOptionError("max_tokens", "must be at least 1 (got 0)")
    load_config(Path("absent.json"))

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        errors = [pool.submit(fail, number).exception(60) for number in range(4)]
        print([type(error).__name__ for error in errors])
        print(errors[0].prompt_tokens, errors[0].partial_text, errors[1].needed_bytes, errors[2])
        print(errors[3].file.name, pool.submit(len, "alive").result(60))
"""


def test_a_process_pool_outlives_errors(tmp_path: Path) -> None:
    """In a process of its own, since multiprocessing's helper stays until its parent ends."""
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    shown = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert shown.stderr == ""
    assert shown.stdout.splitlines() == [
        "['ContextLengthError', 'DoesNotFitError', 'InvalidOptionError', 'ConfigError']",
        "9 Once 2 max_tokens must be at least 1 (got 0)",
        "absent.json 5",
    ]


def test_an_error_of_a_file_is_a_sentence_whose_problem_stands_alone() -> None:
    error = pickle.loads(pickle.dumps(ModelFileError("a.gguf", "is empty", log=("engine",))))
    assert str(error) == "a.gguf is empty\nLast lines of the engine's log:\n  engine"
    assert error.problem == "is empty"
    assert str(ModelFileError("a.gguf", "no memory")) == "a.gguf: no memory"
