"""What is typed becomes what is sent: variables, files and the last error in place of braces."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nbllm.core.types import GenerationResult, Message
from nbllm.notebook.prompts.files import read_file
from nbllm.notebook.prompts.interpolation import Interpolated, Left, Replaced, interpolate
from nbllm.notebook.prompts.last_error import last_error
from nbllm.notebook.prompts.tracebacks import error_report
from nbllm.notebook.prompts.typed_cells import TypedCells
from nbllm.notebook.prompts.values import rendered

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Question
    from nbllm.notebook.session import NotebookSession

__all__ = ["prepare_variables"]

_ERROR = "Err"
_TOLD = 3
_SECRET = re.compile(r"(?i)(key|token|secret|passw(or)?d|credentials?)s?$|^(key|token|secret)")
_SHORTEST_SECRET = 12
"""In characters; a shorter one may be a word of the prompt."""
_SECRET_BEGINNING = 24


def prepare_variables(session: NotebookSession, question: Question) -> Question:
    """Put variables and files into prompt and system prompt, unless ``--raw`` is given."""
    if question.args.raw:
        return question
    allowed = (*session.settings.prompt_files, *(question.args.allow_file or ()))
    told = [
        _with_values(session, message, question.scope, allowed) for message in question.messages
    ]
    messages = tuple(
        Message(message.role, each.content)
        for message, each in zip(question.messages, told, strict=True)
    )
    replaced = tuple(one for each in told for one in each.replaced)
    left = tuple(one for each in told for one in each.left)
    remark = _words(replaced, left)

    def tell(_: GenerationResult) -> str:
        return remark

    remarks = (*question.remarks, tell) if remark else question.remarks
    return replace(question, messages=messages, replaced=replaced, left=left, remarks=remarks)


def _with_values(
    session: NotebookSession,
    message: Message,
    scope: Mapping[str, Any],
    allowed: tuple[str, ...],
) -> Interpolated:
    return interpolate(
        message.text,
        _with_error(session, message.text, scope),
        render=rendered,
        read=partial(read_file, allowed=allowed),
        secrets=_secrets(),
    )


def _secrets() -> list[str]:
    """What environment variables hold that are called keys, tokens, secrets or passwords.

    The beginnings of it, since a table's cells are cut.
    """
    return [
        value[:_SECRET_BEGINNING]
        for name, value in os.environ.items()
        if _SECRET.search(name) and len(value) >= _SHORTEST_SECRET
    ]


def _with_error(session: NotebookSession, text: str, scope: Mapping[str, Any]) -> Mapping[str, Any]:
    """The variables, with the last error where the text names it and no variable is called so."""
    error = last_error(session) if f"{{{_ERROR}" in text and _ERROR not in scope else None
    if error is None:
        return scope
    cells = TypedCells(session.shell, session.last_cell)
    return {**scope, _ERROR: error_report(error, session.shell.user_ns, cells)}


def _words(replaced: tuple[Replaced, ...], left: tuple[Left, ...]) -> str:
    """For the status line: what was put in, and what could not be."""
    sources = [
        f"{each.source} ({each.left_out})" if each.left_out else each.source for each in replaced
    ]
    more = f" and {len(sources) - _TOLD} more" if len(sources) > _TOLD else ""
    with_words = [f"with {', '.join(sources[:_TOLD])}{more}"] if sources else []
    left_words = [f"{each.source} left as typed: {each.reason}" for each in left[:_TOLD]]
    return " · ".join([*with_words, *left_words])
