import time
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from nbllm.notebook.typed_questions import keep_questions


@pytest.fixture
def transform() -> TransformerManager:
    manager = TransformerManager()
    manager.cleanup_transforms.append(keep_questions)
    return manager


def call(text: str) -> str:
    return f"get_ipython().run_line_magic('llm', {text!r})"


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("%llm What is recursion?", call("What is recursion?")),
        ("%llm What's up?", call("What's up?")),
        ("%llm Is it 5% or so ??", call("Is it 5% or so ??")),
        ("x = 1\n%llm What?\ny = 2", f"x = 1\n{call('What?')}\ny = 2"),
        ("for i in range(2):\n    %llm Why?", f"for i in range(2):\n    {call('Why?')}"),
        ("x = %llm Tell me.", f"x = {call('Tell me.')}"),
        ("x = %llm What?", f"x = {call('What?')}"),
        ("def f():\n    a.b = %llm x", f"def f():\n    a.b = {call('x')}"),
        ("a['k'] = %llm Is it?", f"a['k'] = {call('Is it?')}"),
        ("a, b = %llm Two?", f"a, b = {call('Two?')}"),
        ("x: str = %llm Hi!", f"x: str = {call('Hi!')}"),
        ("x += %llm Hi;", f"x += {call('Hi;')}"),
        ("if True: %llm Why?", f"if True: {call('Why?')}"),
        ("x = 1; %llm a # b", f"x = 1; {call('a # b')}"),
        ("def f(): return %llm a", f"def f(): return {call('a')}"),
        ("%llm Sad :(\n%llm Now?", f"{call('Sad :(')}\n{call('Now?')}"),
        ('%llm Say """\nx = %llm b?', f"{call('Say ' + chr(34) * 3)}\nx = {call('b?')}"),
        ("# (\n%llm Now?", f"# (\n{call('Now?')}"),
        ("%llm a \\\n  b?\ny = 2", f"{call('a    b?')}\n\ny = 2"),
        ("%time %llm Why?", "get_ipython().run_line_magic('time', \"" + call("Why?") + '")'),
        ("%%llm tiny", "get_ipython().run_cell_magic('llm', 'tiny', '\\n')"),
        ("%llm_load phi?", "get_ipython().run_line_magic('llm_load', 'phi?')"),
    ],
)
def test_a_question_reaches_the_magic(transform: TransformerManager, cell: str, code: str) -> None:
    assert transform.transform_cell(cell).strip("\n") == code
    compile(transform.transform_cell(cell), "cell", "exec")


def test_names_in_an_inner_function_are_known_there(transform: TransformerManager) -> None:
    cell = "def f(n):\n    def g():\n        %llm {n} {a.b:.2f} {'k': 1}?\n    return g"
    code = transform.transform_cell(cell)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    assert namespace["f"](1).__code__.co_freevars == ("n",)


def test_a_line_without_a_percent_sign_keeps_its_question_mark() -> None:
    assert keep_questions(["llm What is it?\n"], automagic=True) == [f"{call('What is it?')}\n"]
    assert keep_questions(["llm?\n"], automagic=True) == ["llm?\n"]
    assert keep_questions(["llm What is it?\n"]) == ["llm What is it?\n"]


@pytest.mark.parametrize("cell", ['x = """a" ' * 5000, "(" * 20_000, "x='\\\n" * 5000])
def test_a_large_cell_is_read_in_a_moment(cell: str) -> None:
    began = time.perf_counter()
    keep_questions(f"{cell}%llm a".splitlines(keepends=True))
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "cell",
    [
        "%llm?",
        "%llm??",
        "%llm ?",
        "%%llm?",
        "?%llm",
        "%llm Tell me.",
        "%llm_load?",
        "x = '%llm Why?'",
        'text = """\n%llm Why?\n"""',
        "%%writefile notes.txt\n%llm Why?",
        "%%llm\n%llm Why?",
        "# %llm Why?",
        "llm?",
        "llm = 5\nllm\n",
        "x = 5 %llm",
        "x = (1,\n%llm What?",
        "print('%s' %llm )",
        "f(%llm)",
    ],
)
def test_everything_else_stays_ipythons(transform: TransformerManager, cell: str) -> None:
    assert transform.transform_cell(cell) == TransformerManager().transform_cell(cell)
