"""What is typed becomes what is sent: variables, files and the last error in place of braces.

A prompt may hold text from anywhere, so a path in it is no wish of the reader's. Read are regular
files of the notebook's folder and below, none that is hidden or in a hidden folder, and none to
which a link leads out. Anything else needs the reader's word: the flag ``--allow-file`` or the
setting ``prompt_files``, which name the file or a folder around it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nbllm.core.api_keys import looks_like_key
from nbllm.core.errors import InvalidOptionError
from nbllm.core.messages import image
from nbllm.core.texts import quoted
from nbllm.core.types import GenerationResult, ImagePart, Message
from nbllm.notebook.asking.question import Question, Step
from nbllm.notebook.prompts.interpolation import Interpolated, Left, Replaced, interpolate
from nbllm.notebook.prompts.rendered_values import rendered
from nbllm.notebook.prompts.scope import variables_in_scope
from nbllm.notebook.prompts.tracebacks import error_report
from nbllm.notebook.prompts.typed_cells import LastError, TypedCells

__all__ = ["PromptVariables", "read_file"]

FILE_BYTES = 1 << 20
IMAGE_BYTES = 20 << 20
_PRIVATE_KEY = "PRIVATE KEY-----"
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}
_SYSTEMS = ("/proc", "/sys", "/dev")
"""What lies here are no files, although some say that they are regular ones."""
_RAW = "--raw sends the braces as they are"


def read_file(path: str, allowed: Sequence[str] = ()) -> str | ImagePart:
    """The text of a file, or the image in it.

    ``allowed`` are files and folders that the reader has named. Raises ``InvalidOptionError``
    with the remedy.
    """
    option = f"{{file:{path}}}"
    try:
        file = _resolved(path)
        _check_allowed(option, path, file, allowed)
        is_image = file.suffix.lower() in _IMAGE_SUFFIXES
        data = _bytes(option, file, IMAGE_BYTES if is_image else FILE_BYTES)
    except InvalidOptionError:
        raise
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise InvalidOptionError(option, f"{problem}; {_RAW}") from None
    return _image(option, data) if is_image else _text(option, data)


def _resolved(path: str) -> Path:
    """The file itself, behind all links. Asks no other machine on Windows."""
    if os.name == "nt" and path.startswith(("\\\\", "//")):
        raise ValueError("a file of another machine is not read")
    return Path(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111 - for "~nobody" too


def _check_allowed(option: str, path: str, file: Path, allowed: Sequence[str]) -> None:
    if any(file.is_relative_to(system) for system in _SYSTEMS):
        raise InvalidOptionError(option, "only regular files are read")
    here = Path(os.path.realpath(Path.cwd()))
    typed = Path(os.path.normpath(here / os.path.expanduser(path)))  # noqa: PTH111
    folders = [_resolved(each) for each in allowed]
    if any(_is_open(file, folder) for folder in folders):
        return
    if here == Path(here.anchor) or not file.is_relative_to(here):
        problem = f"{file} is outside the notebook's folder {here}"
    elif _is_open(file, here) and (not typed.is_relative_to(here) or _is_open(typed, here)):
        return
    else:
        problem = f"{file} is hidden"
    raise InvalidOptionError(
        option,
        f"{problem}, so reading it needs your permission: %%llm --allow-file "
        f"{quoted(str(file))} for one prompt, or "
        f"%llm_config prompt_files={quoted(str(file))} for this kernel",
    )


def _is_open(file: Path, folder: Path) -> bool:
    """Whether ``file`` is ``folder`` itself, or below it and not hidden there."""
    return file.is_relative_to(folder) and not any(map(_is_hidden, file.relative_to(folder).parts))


def _is_hidden(part: str) -> bool:
    return part.startswith((".", "_netrc")) or part.lower().endswith(".env")


def _bytes(option: str, file: Path, limit: int) -> bytes:
    """What is in a regular file. A pipe or device is never waited for, nor opened where known."""
    _check_regular(option, file.lstat())
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(file, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as opened:
        found = os.fstat(opened.fileno())
        _check_regular(option, found)
        data = opened.read(limit + 1)
    if len(data) > limit:
        raise InvalidOptionError(
            option,
            f"the file has {max(found.st_size, len(data)) / 2**20:,.1f} MiB, and a prompt takes "
            f"{limit >> 20} MiB at most; read the part that matters into a variable",
        )
    return data


def _check_regular(option: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise InvalidOptionError(option, f"Is a directory; {_RAW}")
    if not stat.S_ISREG(found.st_mode):
        raise InvalidOptionError(option, "only regular files are read")


def _image(option: str, data: bytes) -> ImagePart:
    try:
        return image(data)
    except InvalidOptionError:
        raise InvalidOptionError(
            option, "the file is neither PNG, JPEG, GIF nor WebP; rename it if it is a text"
        ) from None


def _text(option: str, data: bytes) -> str:
    if data.startswith(b"%PDF"):
        raise InvalidOptionError(
            option, "a PDF is not read; put its text into a variable, for example with pypdf"
        )
    text = _decoded(data, option)
    if _PRIVATE_KEY in text or looks_like_key(text):
        raise InvalidOptionError(
            option,
            "the file holds a key, which is not sent to a model; read the part that matters into "
            "a variable",
        )
    return text


def _decoded(data: bytes, option: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidOptionError(
            option,
            f"the file is not text in UTF-8: byte {error.start} cannot be read; "
            "images are taken as PNG, JPEG, GIF and WebP",
        ) from None


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
        if question.flags.raw or not any("{" in message.text for message in question.messages):
            return question
        scope = variables_in_scope(self.session.shell)
        filled = [self._filled(message, question, scope) for message in question.messages]
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

    def _filled(
        self, message: Message, question: Question, scope: Mapping[str, Any]
    ) -> Interpolated:
        return interpolate(
            message.text,
            self._with_error(message.text, scope),
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
