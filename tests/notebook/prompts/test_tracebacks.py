"""What a model is told of an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from IPython.core.interactiveshell import InteractiveShell

from nbllm.notebook.prompts.tracebacks import error_report, failed_source, versions


@pytest.fixture
def fail(shell: InteractiveShell) -> Callable[..., BaseException]:
    """Runs cells; gives the error of the last one."""

    def run(*cells: str) -> BaseException:
        for cell in cells:
            ran = shell.run_cell(cell)
        error = ran.error_in_exec or ran.error_before_exec
        assert error is not None
        return error

    return run


@pytest.mark.usefixtures("capsys")
def test_the_lines_around_the_failure_are_told_in_every_own_frame(shell, fail) -> None:
    error = fail("def half(n):\n    # by two\n    return n / 0", "a = 1\nhalf(a)\nb = 2")
    assert error_report(error, shell.user_ns) == (
        "In a notebook cell, line 2, in <module>:\n"
        "     1 | a = 1\n>    2 | half(a)\n     3 | b = 2\n"
        "In a notebook cell, line 3, in half:\n"
        "     1 | def half(n):\n     2 |     # by two\n>    3 |     return n / 0\n"
        "ZeroDivisionError: division by zero"
    )
    assert failed_source(error, shell.user_ns) == "a = 1\nhalf(a)\nb = 2"


@pytest.mark.usefixtures("capsys")
def test_a_syntax_error_has_a_source_too(shell, fail) -> None:
    error = fail("x = 1\ny = = 2")
    assert "y = = 2" in error_report(error, shell.user_ns)
    assert failed_source(error, shell.user_ns) == "x = 1\ny = = 2"


@pytest.mark.usefixtures("capsys")
def test_libraries_take_a_line_each(shell, fail) -> None:
    error = fail("secret = 'do not tell'\nimport pandas as pd\npd.DataFrame({'a': [1]})['b']")
    report = error_report(error, shell.user_ns)
    *_, last = report.split("another error was raised:\n\n")
    assert last.startswith("In a notebook cell, line 3, in <module>:\n")
    assert 1 <= last.count("In pandas.") <= 4
    assert report.endswith("KeyError: 'b'")
    assert "pandas " in versions(error)
    assert "numpy" not in versions(error)


@pytest.mark.usefixtures("capsys")
def test_chains_are_told_in_order_and_a_suppressed_one_is_not(shell, fail) -> None:
    told = error_report(
        fail("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('x') from e"), shell.user_ns
    )
    assert told.index("ZeroDivisionError") < told.index("While that was handled")
    assert told.endswith("KeyError: 'x'")
    alone = error_report(
        fail("try:\n    1/0\nexcept Exception:\n    raise KeyError('x') from None"), shell.user_ns
    )
    assert "ZeroDivisionError" not in alone


@pytest.mark.usefixtures("capsys")
def test_keys_are_taken_out_and_length_is_bounded(shell, fail) -> None:
    error = fail("raise ValueError('wrong key: sk-abcdefghijklmnop ' + 'long ' * 5000)")
    report = error_report(error, shell.user_ns)
    assert "wrong key: [key removed]" in report
    assert "sk-abc" not in report
    assert len(report) < 9_000


@pytest.mark.usefixtures("capsys")
def test_nbllms_own_frames_are_left_out(shell, fail) -> None:
    error = fail("from nbllm import GenerationOptions\nGenerationOptions(top_p=3)")
    report = error_report(error, shell.user_ns)
    assert "_check_number" not in report
    assert report.splitlines()[-1].endswith(
        "InvalidOptionError: top_p must be between 0 and 1 (got 3)"
    )
