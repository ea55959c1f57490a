"""What the notebook's process and a worker say to each other.

Each message is one JSON object on one line. The parent writes to the worker's standard input,
the worker to a pipe that was its standard output. ``op`` names the message.

========== =====================================================================================
to worker
========== =====================================================================================
load       the fields of ``loading.Settings``, and ``steady``: whether fewer threads are used
           while others need the cores, ``kept_bytes`` for prompts outside the context,
           ``adapters``, each a path and a scale, ``chat_template``: the one to use in place of
           the file's, and ``draft``: such fields of the draft model; ``file_bytes``, the size of
           the model; the first message
bench      ``id, load, plan``: the first and only message of a benchmark (``bench_process.py``)
generate   ``id, messages, options, suffix``; answered by progress, steps, and done or failed
cancel     ``id``
tokenize   ``id, text``; answered by reply ``tokens``
detokenize ``id, tokens``; answered by reply ``text``
count      ``id, messages, raw``; answered by reply ``tokens``
embed      ``id, texts``; answered by reply ``vectors, tokens``
rerank     ``id, query, documents``; answered by reply ``scores``
close      leave at once
========== =====================================================================================

========== =====================================================================================
to parent
========== =====================================================================================
beat       every second, whatever else the worker does: a sign of life. ``overdue``: for how many
           seconds longer than allowed it has been at the same thing, by stage (``stages.py``)
loading    ``fraction``
ready      ``context_length, parallel, threads, memory_bytes``, and
           ``can_write, can_fill, is_reranker``: what the model is good for
unloadable ``problem``; the worker leaves
prompt     ``id, blocks, style, thinking``: what to look for in the answer (``output_format.py``)
progress   ``id, processed, total, cached``
step       ``texts``: id, new text, and the tokens that it took, of each answer
done       ``id, text, tokens``: the last of a text, ``reason, stop, seed``, all the counts
           (``…_tokens``) and times (``…_seconds``), and ``logprobs``: for each token its bytes as
           characters up to U+00FF, its log-probability, and such pairs of the likeliest
reply      ``id`` and what was asked for
fraction   ``id, fraction``: how much of a benchmark is done
failed     ``id, kind, problem`` and details by kind; of the kind "option", ``option`` is its name
========== =====================================================================================
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

__all__ = [
    "Frame",
    "RefusedOptionError",
    "UnsendableError",
    "decode",
    "encode",
    "failure_words",
]

Frame: TypeAlias = dict[str, Any]


class RefusedOptionError(ValueError):
    """The model cannot follow a request's ``option``; the text says why."""

    def __init__(self, option: str, problem: str) -> None:
        self.option = option
        super().__init__(problem)


class UnsendableError(ValueError):
    """A frame that JSON cannot hold; the text says why."""


def encode(frame: Frame) -> bytes:
    """A message as one line. Raises ``UnsendableError``.

    Half a surrogate pair, as in the name of a file that is not UTF-8, arrives as it is.
    """
    try:
        text = json.dumps(frame, ensure_ascii=False, separators=(",", ":"))
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(frame, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsendableError(str(error)) from None


def decode(line: bytes) -> Frame:
    """A line as a message. Raises ``ValueError`` for what is none."""
    try:
        frame = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a message ({error}): {line[:80]!r}") from None
    if not isinstance(frame, dict) or not isinstance(frame.get("op"), str):
        raise ValueError(f"not a message: {line[:80]!r}")
    return frame


def failure_words(error: Exception) -> str:
    """The ``problem`` of a request that ended with an error which nobody foresaw."""
    return f"it failed in this request ({type(error).__name__}: {error}); others are not affected"
