"""The chat template that a user gives in place of the one in a model's file."""

from __future__ import annotations

import errno
from pathlib import Path

from nbllm.core.errors import ModelFileError
from nbllm.core.load_options import LoadOptions, template_path
from nbllm.core.paths import read_text, reason

__all__ = ["read_template"]

_LONGEST_BYTES = 2**20


def read_template(options: LoadOptions) -> str | None:
    """The template that the options name or hold; None where they leave it to the model's file.

    Raises ``ModelFileError``.
    """
    if options.chat_template is None:
        return None
    path = template_path(options.chat_template)
    return options.chat_template if path is None else _read(path)


def _read(path: Path) -> str:
    try:
        return read_text(path, _LONGEST_BYTES)
    except (OSError, ValueError) as error:
        is_absent = getattr(error, "errno", None) in (errno.ENOENT, errno.ENAMETOOLONG)
        hint = "; give a file, or the template itself, which contains {% … %}" if is_absent else ""
        problem = f"the chat template cannot be read: {reason(error)}{hint}"
        raise ModelFileError(str(path), problem) from None
