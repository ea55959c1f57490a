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
from nbllm.notebook.prompts.tracebacks import error_report
from nbllm.notebook.prompts.values import rendered

if TYPE_CHECKING:
    from nbllm.notebook.asking.pipeline import Question
    from nbllm.notebook.session import NotebookSession

__all__ = ["prepare_variables"]

_ERROR = "Err"
_IPYTHONS = {"get_ipython", "exit", "quit", "open", "_ih", "_oh", "_dh"}
_DUNDER = re.compile(r"__\w+__")
_OWN = object()
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
    told = [_with_values(session, question, each, allowed) for each in question.messages]
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
    session: NotebookSession, question: Question, message: Message, allowed: tuple[str, ...]
) -> Interpolated:
    return interpolate(
        message.text,
        _variables(session, question.scope, message.text),
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


def _variables(session: NotebookSession, scope: Mapping[str, Any], text: str) -> Mapping[str, Any]:
    """The reader's variables, and IPython's history as it was typed; ``scope`` comes first.

    Left out is what IPython itself put among them, by name: what it calls hidden holds the
    variables of startup files and of ``embed()`` too.
    """
    shell = session.shell
    hidden: Mapping[str, Any] = shell.user_ns_hidden
    variables = {
        name: value
        for name, value in shell.user_ns.items()
        if not (name in _IPYTHONS or _DUNDER.fullmatch(name)) or hidden.get(name, _OWN) is not value
    }
    history: Any = shell.history_manager
    if shell.user_ns.get("In") is history.input_hist_parsed:
        variables["In"] = history.input_hist_raw
    variables.update(scope)
    if f"{{{_ERROR}" in text and _ERROR not in variables:
        failure = session.failure
        if failure is not None:
            variables[_ERROR] = error_report(failure.error, session.shell.user_ns, failure.cell)
    return variables


def _words(replaced: tuple[Replaced, ...], left: tuple[Left, ...]) -> str:
    """For the status line: what was put in, and what could not be."""
    sources = [
        f"{each.source} ({each.left_out})" if each.left_out else each.source for each in replaced
    ]
    more = f" and {len(sources) - _TOLD} more" if len(sources) > _TOLD else ""
    with_words = [f"with {', '.join(sources[:_TOLD])}{more}"] if sources else []
    left_words = [f"{each.source} left as typed: {each.reason}" for each in left[:_TOLD]]
    return " · ".join([*with_words, *left_words])
