"""Vectors of texts and scores of documents, on a thread and in a context of their own.

So neither a text of many tokens nor a thousand short ones hold up the answers that are being
written, or a cancel. llama.cpp's contexts share nothing but the weights, which nobody changes.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from nbllm.local.ipc.events import Embedded, Scores, TextExceeded
from nbllm.local.ipc.liveness import TOKEN_SECONDS, Stage
from nbllm.local.ipc.operations import Embed, Rerank
from nbllm.local.ipc.protocol import Event, Failed
from nbllm.local.ipc.threads import start_thread
from nbllm.local.llama.native import NativeModel, NotLoadableError
from nbllm.local.llama.token_batch import TokenBatch
from nbllm.local.request_refusals import RefusedOptionError, unforeseen

__all__ = ["Embedder", "Job"]

_CELLS = 512  # a text must fit into one batch whole, so a longer one needs a larger context
_SEQUENCES = 16


@dataclass(slots=True, eq=False)
class Job:
    """Texts as tokens, none empty nor longer than ``Embedder.longest``, all from one request.

    ``reply`` makes the last event from one row a text.
    """

    id: int
    texts: Sequence[Sequence[int]]
    reply: Callable[[NDArray[np.float32]], Event]
    cancelled: bool = False


class Embedder:
    """Answers embedding and reranking requests in the order in which they come.

    Texts are pooled as the model's file says, else by the mean over their tokens, several of them
    in one batch. ``send`` takes the events; all methods may be called from any
    thread. ``stage`` is where its thread tells what it is at.
    """

    def __init__(self, model: NativeModel, send: Callable[[Event], None], stage: Stage) -> None:
        self._model = model
        self._send = send
        self._stage = stage
        self._jobs: deque[Job] = deque()
        self._wake = threading.Condition()
        self._context: object = None
        self._cells = 0
        self._runs = False

    @property
    def longest(self) -> int:
        """The longest text, in tokens."""
        return min(self._model.context_length, self._model.trained_length)

    def embed(self, request: Embed) -> Event | None:
        """Queue a request; its reply is sent, or why there is none. What is refused is returned."""
        vocabulary = self._model.vocabulary
        if not request.texts or not all(request.texts):
            raise RefusedOptionError(
                "texts", "must not contain an empty text, which has no embedding"
            )
        if refusal := self._long_at_sight(request.id, request.texts):
            return refusal
        texts = [
            vocabulary.tokenize(text, add_special=True, parse_special=False)
            for text in request.texts
        ]
        if not all(texts):
            raise RefusedOptionError(
                "texts", "must not contain a text without tokens, which has no embedding"
            )
        tokens = sum(map(len, texts))
        return self._submit(
            Job(
                request.id,
                texts,
                lambda rows: Embedded(request.id, rows.tobytes(), tokens),
            )
        )

    def rerank(self, request: Rerank) -> Event | None:
        """The same, with the score of each document for a reply."""
        whole = [request.query + document for document in request.documents]
        if refusal := self._long_at_sight(request.id, whole):
            return refusal
        texts = [
            _rerank_tokens(self._model, request.query, document) for document in request.documents
        ]
        return self._submit(
            Job(
                request.id,
                texts,
                lambda rows: Scores(request.id, rows[:, 0].tobytes(), sum(map(len, texts))),
            )
        )

    def _long_at_sight(self, number: int, texts: Sequence[str]) -> Event | None:
        for position, text in enumerate(texts, 1):
            if self._model.vocabulary.exceeds(text, self.longest):
                return TextExceeded(number, position, None, self.longest)
        return None

    def _submit(self, job: Job) -> Event | None:
        for position, tokens in enumerate(job.texts, 1):
            if len(tokens) > self.longest:
                return TextExceeded(job.id, position, len(tokens), self.longest)
        with self._wake:
            if not self._runs:
                start_thread(self._run)  # first: a job without a thread would wait in vain
                self._runs = True
            self._jobs.append(job)
            self._wake.notify()
        return None

    def cancel(self, id: int) -> None:  # noqa: A002 - the protocol's word
        """Give a request up behind the batch that is being computed."""
        with self._wake:
            for job in self._jobs:
                job.cancelled |= job.id == id

    def _run(self) -> None:
        while True:
            with self._wake:
                self._stage.rest()
                while not self._jobs:
                    self._wake.wait()
                job = self._jobs[0]
            event = self._answered(job)
            with self._wake:
                self._jobs.popleft()
            if event is not None:
                self._send(event)

    def _answered(self, job: Job) -> Event | None:
        try:
            return self._reply(job)
        except NotLoadableError as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's alone
            traceback.print_exc()
            problem = unforeseen(error)
        return Failed(job.id, problem)

    def _reply(self, job: Job) -> Event | None:
        rows: list[NDArray[np.float32]] = []
        self._make_room(max(map(len, job.texts)))
        for batch in _batches(job.texts, self._cells):
            if job.cancelled:
                return None
            self._stage.begin(TOKEN_SECONDS * sum(map(len, batch)))
            rows += self._computed(batch)
        return job.reply(np.stack(rows))

    def _make_room(self, length: int) -> None:
        """Have a context that takes a text of so many tokens; it grows by doubling."""
        if length <= self._cells:
            return
        if self._context is not None:
            lib.llama_free(self._context)
            self._context, self._cells = None, 0
        cells = max(_CELLS, 1 << (length - 1).bit_length())
        self._context = self._model.pooling_context(cells, _SEQUENCES)
        self._cells = cells

    def _computed(self, texts: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        batch = TokenBatch(sum(map(len, texts)))
        for sequence, tokens in enumerate(texts):
            batch.add(tokens, 0, sequence, logits=True)
        batch.want_all()
        memory = lib.llama_get_memory(self._context)
        if memory:
            lib.llama_memory_clear(memory, False)  # noqa: FBT003 - positional in C
        process = lib.llama_decode if memory else lib.llama_encode
        if process(self._context, batch.raw) != 0:
            raise NotLoadableError("llama.cpp could not process the texts")
        for sequence in range(len(texts)):
            vector = lib.llama_get_embeddings_seq(self._context, sequence)
            if not vector:
                raise NotLoadableError("llama.cpp returned no vector for a text")
            yield np.ctypeslib.as_array(vector, (self._model.vector_size,)).copy()


def _rerank_tokens(model: NativeModel, query: str, document: str) -> list[int]:
    """A query with a document, as llama.cpp's server writes them for a reranker."""
    vocabulary = model.vocabulary
    if template := model.rerank_template:
        text = template.replace("{query}", query).replace("{document}", document)
        return vocabulary.tokenize(text, add_special=False, parse_special=True)
    first, second = (
        vocabulary.tokenize(text, add_special=False, parse_special=False)
        for text in (query, document)
    )
    return [*vocabulary.begin, *first, *vocabulary.between, *second, *vocabulary.end]


def _batches(texts: Sequence[Sequence[int]], cells: int) -> Iterator[list[Sequence[int]]]:
    """Neighbours together, as many as fit."""
    batch: list[Sequence[int]] = []
    for tokens in texts:
        if batch and (len(batch) == _SEQUENCES or sum(map(len, batch)) + len(tokens) > cells):
            yield batch
            batch = []
        batch.append(tokens)
    if batch:
        yield batch
