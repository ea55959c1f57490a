import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from nbllm.notebook.questions import keep_questions


@pytest.fixture
def transform() -> TransformerManager:
    manager = TransformerManager()
    manager.cleanup_transforms.append(keep_questions)
    return manager


PIECES = ["%llm Why?", "%llm It's (\n", "x = ", "if a: ", "'", '"""', "(", ")", "\n", "# ", "llm "]
APOSTROPHE = "Don't ["


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
        ("d['k'] = %llm What?", f"d['k'] = {call('What?')}"),
        ('d["a=b"], e = %llm What?', f'd["a=b"], e = {call("What?")}'),
        ("x: str = %llm What?", f"x: str = {call('What?')}"),
        ("def f():\n    a.b = %llm x", f"def f():\n    a.b = {call('x')}"),
        ("def f():\n    return %llm What?", f"def f():\n    return {call('What?')}"),
        ("if True: %llm Why?", f"if True: {call('Why?')}"),
        ("for c in d: %llm Tell {c}?", f"for c in d: {call('Tell {c}?')}"),
        ("a = 1; %llm Why?", f"a = 1; {call('Why?')}"),
        ("%llm Hi # x; y!", call("Hi # x; y!")),
        ("%llm Is :( it?\n%llm And?", f"{call('Is :( it?')}\n{call('And?')}"),
        ("%llm Don't [\n%llm Why?\nx = 1", f"{call(APOSTROPHE)}\n{call('Why?')}\nx = 1"),
        ('t = """\n%llm a?\n"""\n%llm b?', f't = """\n%llm a?\n"""\n{call("b?")}'),
        ("%llm a \\\nb?\nx = 1", f"{call('a  b?')}\nx = 1"),
        ("%llm_fix Why?", "get_ipython().run_line_magic('llm_fix', 'Why?')"),
    ],
)
def test_a_question_reaches_the_magic(transform: TransformerManager, cell: str, code: str) -> None:
    assert transform.transform_cell(cell).strip("\n") == code
    compile(transform.transform_cell(cell), "cell", "exec")


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
        "x == %llm",
        "llm?",
        "print('a: %llm Why?')",
        "# x = %llm Why?",
        "llm = 3\nx = (7\n     %llm)",
        "!echo x = %llm",
    ],
)
def test_everything_else_stays_ipythons(transform: TransformerManager, cell: str) -> None:
    assert transform.transform_cell(cell) == TransformerManager().transform_cell(cell)


def test_below_a_bracket_that_is_never_closed_questions_stay_whole(
    transform: TransformerManager,
) -> None:
    assert call("Why?") in transform.transform_cell("print(1,\n%llm Why?\n")


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join))
def test_every_line_of_python_stays_itself(cell: str) -> None:
    lines = cell.splitlines(keepends=True)
    kept = keep_questions(lines)
    try:
        ast.parse(cell)
    except (SyntaxError, ValueError):
        assert [line for line in kept if "run_line_magic" not in line] == [
            line for line in lines if line in kept
        ]
    else:
        assert kept == lines
