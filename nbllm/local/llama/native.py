"""llama.cpp through llama_cpp's low-level bindings: one model, one context, many sequences.

Runs in the worker only. Nothing here knows of requests; ``engine.py`` decides what is decoded.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from nbllm.local.ipc.operations import LoadSettings
from nbllm.local.llama.adapters import Adapters
from nbllm.local.llama.cells import Cells, OrderedCells, SplitCells
from nbllm.local.llama.ggml_devices import engine_version, start_backends
from nbllm.local.llama.loading import BufferSizes, context_params, model_params
from nbllm.local.llama.rpc_servers import ServerError, add_servers
from nbllm.local.llama.token_batch import TokenBatch
from nbllm.local.llama.vocabulary import Vocabulary

__all__ = ["NativeModel", "NotLoadableError"]

_DEBUG_LEVEL, _CONTINUED_LEVEL = 1, 5  # of ggml.h; the bindings number them otherwise


class NotLoadableError(Exception):
    """llama.cpp refused the model or the context; its log says why."""


class NativeModel:
    """A loaded model with its context.

    Sequences are numbered from 0 to ``parallel`` - 1. They share ``context_length`` cells, or have
    as many each where the KV cache is split. Raises ``NotLoadableError``.
    """

    def __init__(self, settings: LoadSettings, on_progress: Callable[[float], None]) -> None:
        self._buffers = BufferSizes()
        self._callbacks: list[Any] = []
        self._abort_flag = ctypes.create_string_buffer(2)
        self._route_log()
        start_backends(settings.numa)
        try:
            add_servers(settings.rpc)
        except ServerError as error:
            raise NotLoadableError(str(error)) from None
        self.settings = settings
        self._model = self._load(on_progress)
        self.vocabulary = Vocabulary(self._model)
        self._adapters = Adapters(self._model, ())
        self._scales: tuple[float, ...] = ()
        self._use_context(self._make_context(self._context_params()))
        self.can_copy_prefix = not (
            lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model)
        )

    def _use_context(self, context: Any) -> None:
        self._context = context
        self.cells = self._make_cells()
        # llama.cpp makes a multiple of 256 of it, or of each share; no more than was asked for is
        # used by one request.
        cells = int(lib.llama_n_ctx_seq(self._context))
        self.context_length = min(cells, self.settings.context_length)
        self.batch = TokenBatch(int(lib.llama_n_batch(self._context)))

    def renew_context(self, settings: LoadSettings) -> None:
        """Go on with an empty context of other settings; the weights stay as they were loaded.

        Raises ``NotLoadableError``, and keeps the context that there is.
        """
        before, self.settings = self.settings, settings
        try:
            context = self._make_context(self._context_params())
        except NotLoadableError:
            self.settings = before
            raise
        lib.llama_free(self._context)
        self._use_context(context)
        self._adapters.apply(context, self._scales)

    @property
    def slides(self) -> bool:
        """Whether some of its layers see only the newest tokens."""
        return int(lib.llama_model_n_swa(self._model)) > 0

    @property
    def saves_whole(self) -> bool:
        """Whether no part of a saved state can be used, only all of it.

        That of recurrent layers cannot be divided, and of sliding ones llama.cpp saves only what
        the last token saw.
        """
        return self.slides or not self.can_copy_prefix

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
        model = lib.llama_model_load_from_file(self.settings.path, params)
        if not model:
            raise NotLoadableError("llama.cpp could not load the file")
        if self._buffers.is_unlocked:
            raise NotLoadableError(
                f"the weights could not be locked in memory{_locked_limit()}; raise the limit for "
                "locked memory (ulimit -l, or LimitMEMLOCK of a service), or load without mlock"
            )
        return model

    def _context_params(self) -> Any:
        params = context_params(self.settings)
        params.abort_callback = _nonempty_string_test(lib.ggml_abort_callback)
        params.abort_callback_data = ctypes.addressof(self._abort_flag)
        return params

    def _make_context(self, params: Any) -> Any:
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            remedy = "a shorter context length needs less memory"
            if self.settings.batch_invariant:
                remedy += ", and not every model supports batch_invariant"
            raise NotLoadableError(
                f"llama.cpp could not create a context of {params.n_ctx:,} tokens; {remedy}"
            )
        return context

    def _make_cells(self) -> Cells:
        if self.settings.batch_invariant:
            return OrderedCells(self._context, self.settings.parallel)
        return Cells(self._context) if self.settings.kv_unified else SplitCells(self._context)

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
        return self._buffers.total(self.settings.host_weights)

    @property
    def state_marks(self) -> tuple[str, ...]:
        """What the state of a sequence depends on besides the model's files.

        Where a model has two ways to rotate its keys, the context's length chooses (LongRoPE).
        """
        settings, system = self.settings, lib.llama_print_system_info()
        length = settings.context_length if self._has("rope.scaling.original_context_length") else 0
        marks = settings.kv_type, settings.flash_attention, settings.batch_invariant, length
        return engine_version(), system.decode(), *map(str, marks)

    def _has(self, key: str) -> bool:
        """Whether the file's header has a key of its architecture."""
        value = ctypes.create_string_buffer(128)
        read = partial(lib.llama_model_meta_val_str, self._model)
        read(b"general.architecture", value, len(value))
        return bool(read(value.value + b"." + key.encode(), value, len(value)) >= 0)

    @property
    def chat_template(self) -> str | None:
        """The template of the file, in Jinja."""
        template = lib.llama_model_chat_template(self._model, None)
        return template.decode(errors="replace") if template else None

    # ------------------------------------------------------------ decoding

    def decode(self) -> int:
        """Process the batch. 0: done, 1: no room for it, 2: aborted, below 0: failed."""
        return int(lib.llama_decode(self._context, self.batch.raw))

    def finish(self) -> None:
        """Wait until what was decoded is computed and has come from other devices.

        An RPC server whose client goes away while it sends ends itself.
        """
        lib.llama_synchronize(self._context)

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

    # ------------------------------------------------------------ adapters

    def use_adapters(self, files: Sequence[tuple[str, float]]) -> None:
        """Lay LoRA adapters, each with its scale, over the weights. Raises ``NotLoadableError``."""
        try:
            self._adapters = Adapters(self._model, files)
        except ValueError as error:
            raise NotLoadableError(str(error)) from None
        self.use_scales(self._adapters.scales)

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales that the adapters were loaded with."""
        return self._adapters.scales

    def use_scales(self, scales: tuple[float, ...]) -> None:
        """Compute with these scales of the adapters, from the next ``decode`` on.

        A change costs some milliseconds, in which llama.cpp plans its computation anew.
        """
        if scales != self._scales:
            self._scales = scales
            self._adapters.apply(self._context, scales)

    # ------------------------------------------------------------ pooling

    @property
    def can_write(self) -> bool:
        """Whether it writes text: a model without a memory of its own words only reads."""
        return self.cells.exist

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
        params.kv_unified = True
        params.n_outputs_max = 0  # every token's, for they are pooled
        params.embeddings = True
        params.abort_callback = lib.ggml_abort_callback()
        if self._pooling == lib.LLAMA_POOLING_TYPE_NONE:
            params.pooling_type = lib.LLAMA_POOLING_TYPE_MEAN
        context = self._make_context(params)
        self._adapters.apply(context, self._adapters.scales)
        return context


def _locked_limit() -> str:
    """How much memory may be locked, for a message; nothing where the system does not say."""
    if sys.platform == "win32":
        return ""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return "" if limit == resource.RLIM_INFINITY else f" (the limit is {limit // 1024:,} KiB)"


def _nonempty_string_test(prototype: Any) -> Any:
    """C's ``strlen`` as a callback that is true while a flag's first byte is set.

    llama.cpp asks it between the nodes of its graph, many times a step and from its compute
    threads: a Python function there would take the interpreter's lock each time.
    """
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    return ctypes.cast(library.strlen, prototype)
