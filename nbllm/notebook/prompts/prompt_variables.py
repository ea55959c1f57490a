"""What is typed becomes what is sent: variables, files and the last error in place of braces."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from nbllm.core.types import GenerationResult, Message
from nbllm.notebook.asking.question import Question
from nbllm.notebook.asking.step import Step
from nbllm.notebook.prompts.interpolation import Interpolated, Left, Replaced, interpolate
from nbllm.notebook.prompts.last_error import LastError
from nbllm.notebook.prompts.prompt_files import read_file
from nbllm.notebook.prompts.rendered_values import rendered
from nbllm.notebook.prompts.tracebacks import error_report
from nbllm.notebook.prompts.typed_cells import TypedCells

__all__ = ["PromptVariables"]

_ERROR = "Err"
_NAMED = 3
_SECRET = re.compile(r"(?i)(key|token|secret|passw(or)?d|credentials?)s?$|^(key|token|secret)")
_SHORTEST_SECRET = 12
"""In characters; a shorter one may be a word of the prompt."""
_SECRET_BEGINNING = 24


class PromptVariables(Step):
    """Variables, files and the last error in the braces of prompt and system prompt."""

    def prepare(self, question: Question) -> Question:
        """Put them in, unless ``--raw`` is given."""
        if question.flags.raw:
            return question
        filled = [self._filled(message, question) for message in question.messages]
        return replace(
            question,
            messages=tuple(
                Message(message.role, each.content)
                for message, each in zip(question.messages, filled, strict=True)
            ),
            replaced=tuple(one for each in filled for one in each.replaced),
            left=tuple(one for each in filled for one in each.left),
        )

    def remark(self, question: Question, result: GenerationResult) -> str:
        """What was put in, and what could not be."""
        return "" if question.begun else _remark(question.replaced, question.left)

    def _filled(self, message: Message, question: Question) -> Interpolated:
        return interpolate(
            message.text,
            self._with_error(message.text, question.scope),
            render=rendered,
            read=partial(
                read_file,
                allowed=(*self.session.settings.prompt_files, *question.flags.allow_file),
            ),
            secrets=_secrets(),
        )

    def _with_error(self, text: str, scope: Mapping[str, Any]) -> Mapping[str, Any]:
        """The variables, with the last error where the text names it and no variable does."""
        if f"{{{_ERROR}" not in text or _ERROR in scope:
            return scope
        last = self.session.part(LastError)
        error, shell = last.shown_in(self.session.shell), self.session.shell
        if error is None:
            return scope
        cells = TypedCells(shell, last.cell)
        return {**scope, _ERROR: error_report(error, shell.user_ns, cells)}


def _secrets() -> list[str]:
    """What environment variables hold that are called keys, tokens, secrets or passwords.

    The beginnings of it, since a table's cells are cut.
    """
    return [
        value[:_SECRET_BEGINNING]
        for name, value in os.environ.items()
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET
    ]


def _remark(replaced: tuple[Replaced, ...], left: tuple[Left, ...]) -> str:
    sources = [
        f"{each.source} ({each.left_out})" if each.left_out else each.source for each in replaced
    ]
    more = f" and {len(sources) - _NAMED} more" if len(sources) > _NAMED else ""
    filled = [f"with {', '.join(sources[:_NAMED])}{more}"] if sources else []
    unfilled = [f"{each.source} left as typed: {each.reason}" for each in left[:_NAMED]]
    return " · ".join([*filled, *unfilled])
