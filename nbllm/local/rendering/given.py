"""The chat template that a user gives in place of the one in a model's file."""

from __future__ import annotations

import stat
from pathlib import Path

from nbllm.core.errors import ModelFileError
from nbllm.core.load_options import LoadOptions, template_path

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
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise ModelFileError(str(path), "it is not a file to take a chat template from")
        with path.open("rb") as file:
            data = file.read(_LONGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = f"the chat template cannot be read: {reason}"
        raise ModelFileError(str(path), problem) from None
    if len(data) > _LONGEST_BYTES:
        raise ModelFileError(str(path), f"a chat template has at most {_LONGEST_BYTES:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        problem = f"the chat template is not UTF-8 (byte {error.start})"
        raise ModelFileError(str(path), problem) from None
