"""llama.cpp through llama_cpp's low-level bindings: one model, one context, many sequences.

Runs in the worker only. Nothing here knows of requests; ``engine.py`` decides what is decoded.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from nbllm.local.llama.batch import TokenBatch
from nbllm.local.llama.loading import BufferSizes, Settings, context_params, model_params
from nbllm.local.llama.vocabulary import Vocabulary

__all__ = ["NativeModel", "NotLoadableError"]

_DEBUG_LEVEL, _CONTINUED_LEVEL = 1, 5  # of ggml.h; the bindings number them otherwise


class NotLoadableError(Exception):
    """llama.cpp refused the model or the context; its log says why."""


class NativeModel:
    """A loaded model with its context.

    Sequences are numbered from 0 to ``parallel`` - 1 and share ``context_length`` cells.
    Raises ``NotLoadableError``.
    """

    def __init__(self, settings: Settings, on_progress: Callable[[float], None]) -> None:
        self._buffers = BufferSizes()
        self._callbacks: list[Any] = []
        self._adapters: list[Any] = []
        self._scales: list[float] = []
        self._abort_flag = ctypes.create_string_buffer(2)
        self._route_log()
        lib.llama_backend_init()
        self.settings = settings
        self._model = self._load(on_progress)
        self.vocabulary = Vocabulary(self._model)
        self._context = self._make_context(self._context_params())
        self._memory = lib.llama_get_memory(self._context)
        self.context_length = int(lib.llama_n_ctx_seq(self._context))
        self.batch = TokenBatch(int(lib.llama_n_batch(self._context)))
        self.can_copy_prefix = not (
            lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        )

    # ------------------------------------------------------------ loading

    def _load(self, on_progress: Callable[[float], None]) -> Any:
        try:
            params, kept = model_params(self.settings)
        except ValueError as error:
            raise NotLoadableError(str(error)) from None
        self._callbacks += kept

        def report(fraction: float, _: Any) -> bool:
            on_progress(fraction)
            return True

        params.progress_callback = self._keep(lib.llama_progress_callback(report))
        model = lib.llama_model_load_from_file(self.settings.path.encode(), params)
        if not model:
            raise NotLoadableError("llama.cpp could not load the file")
        return model

    def _context_params(self) -> Any:
        params = context_params(self.settings)
        params.abort_callback = _nonempty_string_test(lib.ggml_abort_callback)
        params.abort_callback_data = ctypes.addressof(self._abort_flag)
        return params

    def _make_context(self, params: Any) -> Any:
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            raise NotLoadableError(
                f"llama.cpp could not make a context of {params.n_ctx:,} tokens; "
                "a shorter one needs less memory"
            )
        return context

    def _route_log(self) -> None:
        """Send llama.cpp's log to standard error, and note the sizes that it reports."""

        def write(level: int, text: bytes, _: Any) -> None:
            if level in (_DEBUG_LEVEL, _CONTINUED_LEVEL):
                return
            line = text.decode(errors="replace")
            sys.stderr.write(line)
            self._buffers.read(line)

        lib.llama_log_set(self._keep(lib.llama_log_callback(write)), None)

    def _keep(self, callback: Any) -> Any:
        """Hold a callback: ctypes would free it while C still calls it."""
        self._callbacks.append(callback)
        return callback

    @property
    def memory_bytes(self) -> int:
        """Weights, caches and buffers, as llama.cpp reports them."""
        return self._buffers.total

    @property
    def chat_template(self) -> str | None:
        """The template of the file, in Jinja."""
        template = lib.llama_model_chat_template(self._model, None)
        return template.decode(errors="replace") if template else None

    # ------------------------------------------------------------ decoding

    def decode(self) -> int:
        """Process the batch. 0: done, 1: no room for it, 2: aborted, below 0: failed."""
        return int(lib.llama_decode(self._context, self.batch.raw))

    def sample(self, sampler: Any, row: int) -> int:
        """Choose and accept the token behind ``row`` of the batch that was decoded last."""
        return int(lib.llama_sampler_sample(sampler, self._context, row))

    def logits(self, row: int) -> NDArray[np.float32]:
        """A view on the logits behind ``row``, one a token; good until the next ``decode``."""
        address = lib.llama_get_logits_ith(self._context, row)
        values: Any = ctypes.c_float * self.vocabulary.size
        values = values.from_address(ctypes.addressof(address.contents))
        return np.frombuffer(values, np.float32)

    def set_abort(self, abort: bool) -> None:  # noqa: FBT001 - the one argument is the state
        """Have a running ``decode`` stop within a few milliseconds; from any thread."""
        self._abort_flag[0] = b"!" if abort else b"\0"

    def set_threads(self, threads: int, batch_threads: int) -> None:
        """Compute single tokens and batches with so many threads, from the next ``decode`` on."""
        lib.llama_set_n_threads(self._context, threads, batch_threads)

    def forget(self, sequence: int, start: int) -> bool:
        """Drop a sequence's cells from position ``start`` on.

        False where the architecture cannot drop a part; nothing has changed then.
        """
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, start, -1))

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Share the first ``length`` cells of ``source`` with the empty sequence ``target``."""
        lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    @property
    def can_shift(self) -> bool:
        """Whether tokens may be dropped from the middle of a sequence."""
        return bool(self._memory) and bool(lib.llama_memory_can_shift(self._memory))

    def drop(self, sequence: int, start: int, end: int) -> None:
        """Drop the cells of positions ``start`` to ``end``; those behind move up to them."""
        lib.llama_memory_seq_rm(self._memory, sequence, start, end)
        lib.llama_memory_seq_add(self._memory, sequence, end, -1, start - end)

    def state_size(self, sequence: int) -> int:
        """The bytes that a sequence's state takes outside the context."""
        return int(lib.llama_state_seq_get_size(self._context, sequence))

    def save_state(self, sequence: int) -> bytes:
        """A sequence's cells, to be loaded again into any sequence of this context."""
        room = (ctypes.c_uint8 * self.state_size(sequence))()
        size = int(lib.llama_state_seq_get_data(self._context, room, len(room), sequence))
        return bytes(memoryview(room)[:size])

    def load_state(self, sequence: int, state: bytes) -> bool:
        """Put saved cells into an empty sequence; False where there is no room for them."""
        room = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        return bool(lib.llama_state_seq_set_data(self._context, room, len(state), sequence))

    def use_adapters(self, adapters: Sequence[tuple[str, float]]) -> None:
        """Lay LoRA adapters, each with its scale, over the weights. Raises ``NotLoadableError``."""
        self._scales = [scale for _, scale in adapters]
        for path, _ in adapters:
            adapter = lib.llama_adapter_lora_init(self._model, path.encode())
            if not adapter:
                raise NotLoadableError(
                    f"the adapter {path} cannot be used: it is no LoRA in a GGUF, or was made for "
                    "another model than this"
                )
            self._adapters.append(adapter)
        self._apply_adapters(self._context)

    def _apply_adapters(self, context: Any) -> None:
        count = len(self._adapters)
        if count:
            adapters = (lib.llama_adapter_lora_p_ctypes * count)()
            for place, adapter in enumerate(self._adapters):
                adapters[place] = ctypes.cast(adapter, lib.llama_adapter_lora_p_ctypes)
            scales = (ctypes.c_float * count)(*self._scales)
            lib.llama_set_adapters_lora(context, adapters, count, scales)

    # ------------------------------------------------------------ pooling

    @property
    def can_write(self) -> bool:
        """Whether it writes text: a model without a memory of its own words only reads."""
        return bool(self._memory)

    @property
    def is_reranker(self) -> bool:
        """Whether it gives scores in place of vectors."""
        return bool(self._pooling == lib.LLAMA_POOLING_TYPE_RANK)

    @property
    def _pooling(self) -> int:
        return int(lib.llama_pooling_type(self._context))

    @property
    def trained_length(self) -> int:
        """The longest text that the model was trained on, in tokens."""
        return int(lib.llama_model_n_ctx_train(self._model))

    @property
    def vector_size(self) -> int:
        """The numbers that pooling gives for a text."""
        count = lib.llama_model_n_cls_out if self.is_reranker else lib.llama_model_n_embd_out
        return int(count(self._model))

    @property
    def rerank_template(self) -> str | None:
        """How a reranker wants its query and document written, where its file says so."""
        template = lib.llama_model_chat_template(self._model, b"rerank")
        return template.decode(errors="replace") if template else None

    def pooling_context(self, cells: int, sequences: int) -> Any:
        """A context that makes one vector of each sequence in a batch of up to ``cells`` tokens.

        It pools as the model's file says, else by the mean. The caller frees it.
        Raises ``NotLoadableError``.
        """
        params = self._context_params()
        params.n_ctx = params.n_batch = params.n_ubatch = cells
        params.n_seq_max = sequences
        params.n_outputs_max = 0  # every token's, for they are pooled
        params.embeddings = True
        params.abort_callback = lib.ggml_abort_callback()
        if self._pooling == lib.LLAMA_POOLING_TYPE_NONE:
            params.pooling_type = lib.LLAMA_POOLING_TYPE_MEAN
        context = self._make_context(params)
        self._apply_adapters(context)
        return context


def _nonempty_string_test(prototype: Any) -> Any:
    """C's ``strlen`` as a callback that is true while a flag's first byte is set.

    llama.cpp asks it between the nodes of its graph, many times a step and from its compute
    threads: a Python function there would take the interpreter's lock each time.
    """
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    return ctypes.cast(library.strlen, prototype)
