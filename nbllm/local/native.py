"""llama.cpp through llama_cpp's low-level bindings: one model, one context, many sequences.

Runs in the worker only. Nothing here knows of requests; ``engine.py`` decides what is decoded.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from nbllm.local.batch import TokenBatch
from nbllm.local.vocabulary import Vocabulary

__all__ = ["NativeModel", "NotLoadableError", "Settings", "supports_gpu"]

_UBATCH = 512
_BUFFER = re.compile(r"(\S+)\s+(?:model |KV |RS |compute |output )+buffer size =\s+([\d.]+) MiB")
_HOST = re.compile(r"CPU|AMX$|BLAS$|.*_Host$|.*_Mapped$")  # buffers in the machine's own memory
_DEBUG_LEVEL, _CONTINUED_LEVEL = 1, 5  # of ggml.h; the bindings number them otherwise


class NotLoadableError(Exception):
    """llama.cpp refused the model or the context; its log says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a model is loaded with; ``gpu_layers`` -1 is all of them."""

    path: str
    context_length: int
    gpu_layers: int
    threads: int
    parallel: int


class NativeModel:
    """A loaded model with its context.

    Sequences are numbered from 0 to ``parallel`` - 1 and share ``context_length`` cells.
    Raises ``NotLoadableError``.
    """

    def __init__(self, settings: Settings, on_progress: Callable[[float], None]) -> None:
        self._buffers: dict[str, float] = {}
        self._callbacks: list[Any] = []
        self._abort_flag = ctypes.create_string_buffer(2)
        self._embedder: Any = None
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
        params = lib.llama_model_default_params()
        params.n_gpu_layers = self.settings.gpu_layers
        params.use_extra_bufts = not _repacks_for_amx()

        def report(fraction: float, _: Any) -> bool:
            on_progress(fraction)
            return True

        params.progress_callback = self._keep(lib.llama_progress_callback(report))
        model = lib.llama_model_load_from_file(self.settings.path.encode(), params)
        if not model:
            raise NotLoadableError("llama.cpp could not load the file")
        return model

    def _context_params(self) -> Any:
        params = lib.llama_context_default_params()
        params.n_ctx = self.settings.context_length
        params.n_batch = params.n_ubatch = min(_UBATCH, self.settings.context_length)
        params.n_seq_max = self.settings.parallel
        params.n_threads = params.n_threads_batch = self.settings.threads
        params.kv_unified = True
        params.no_perf = True
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
            for device, mebibytes in _BUFFER.findall(line):
                self._buffers[device] = self._buffers.get(device, 0.0) + float(mebibytes)

        lib.llama_log_set(self._keep(lib.llama_log_callback(write)), None)

    def _keep(self, callback: Any) -> Any:
        """Hold a callback: ctypes would free it while C still calls it."""
        self._callbacks.append(callback)
        return callback

    @property
    def memory_bytes(self) -> int:
        """Weights, caches and buffers, as llama.cpp reports them."""
        return round(sum(self._buffers.values()) * 2**20)

    @property
    def device(self) -> str:
        """Where the weights are: "CPU", or the names of the GPUs."""
        return " + ".join(name for name in self._buffers if not _HOST.match(name)) or "CPU"

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

    def set_threads(self, threads: int) -> None:
        """Compute with so many threads from the next ``decode`` on."""
        lib.llama_set_n_threads(self._context, threads, threads)

    def forget(self, sequence: int, start: int) -> bool:
        """Drop a sequence's cells from position ``start`` on.

        False where the architecture cannot drop a part; nothing has changed then.
        """
        return bool(lib.llama_memory_seq_rm(self._memory, sequence, start, -1))

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Share the first ``length`` cells of ``source`` with the empty sequence ``target``."""
        lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    # ------------------------------------------------------------ embeddings

    def embed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """One vector for a text of at least one token, pooled as the model says, else the mean.

        Raises ``ValueError`` where the text is longer than the context.
        """
        if len(tokens) > self.context_length:
            raise ValueError(
                f"a text of {len(tokens):,} tokens is longer than the context of "
                f"{self.context_length:,}"
            )
        context = self._embedder_for(len(tokens))
        batch = TokenBatch(len(tokens))
        batch.add(tokens, 0, 0, logits=True)
        lib.llama_memory_seq_rm(lib.llama_get_memory(context), 0, -1, -1)
        if lib.llama_decode(context, batch.raw) != 0:
            raise ValueError("llama.cpp could not process the text")
        vector = lib.llama_get_embeddings_seq(context, 0)
        return np.ctypeslib.as_array(vector, (lib.llama_model_n_embd_out(self._model),)).copy()

    def _embedder_for(self, length: int) -> Any:
        """A context that pools; a text must fit its batch, so it grows by doubling."""
        if self._embedder is not None and lib.llama_n_batch(self._embedder) >= length:
            return self._embedder
        if self._embedder is not None:
            lib.llama_free(self._embedder)
        params = self._context_params()
        size = min(max(_UBATCH, 1 << (length - 1).bit_length()), self.context_length)
        params.n_ctx = params.n_batch = params.n_ubatch = size
        params.n_seq_max = 1
        params.embeddings = True
        params.abort_callback = lib.ggml_abort_callback()
        if lib.llama_pooling_type(self._context) == lib.LLAMA_POOLING_TYPE_NONE:
            params.pooling_type = lib.LLAMA_POOLING_TYPE_MEAN
        self._embedder = self._make_context(params)
        return self._embedder


def _repacks_for_amx() -> bool:
    """Whether llama.cpp would repack weights for Intel's AMX, whose kernels crash.

    Seen here at batches of two tokens and more, and by others on Sapphire Rapids since March
    2026 (https://github.com/ggml-org/llama.cpp/issues/20824). The kernels for AVX-512 are used
    instead; llama.cpp has one switch for all repacking.
    """
    return b"AMX_INT8 = 1" in lib.llama_print_system_info()


def supports_gpu() -> bool:
    """Whether the installed llama.cpp was built for a GPU."""
    return bool(lib.llama_supports_gpu_offload())


def _nonempty_string_test(prototype: Any) -> Any:
    """C's ``strlen`` as a callback that is true while a flag's first byte is set.

    llama.cpp asks it between the nodes of its graph, many times a step and from its compute
    threads: a Python function there would take the interpreter's lock each time.
    """
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    return ctypes.cast(library.strlen, prototype)
