"""What the layers of a model remember, by the rules that llama.cpp has for each architecture.

Sources, in llama.cpp: ``load_arch_hparams`` of ``src/models/*.cpp`` for what slides and what is
recurrent, ``llama-hparams.cpp`` for the sizes, ``llama_model::create_memory`` for which layers
have a cache. An architecture that is not named here has attention over the whole context in
every layer with key-value heads.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

from nbllm.core.fitting.model_shape import LayerShape
from nbllm.local.gguf.header_keys import Keys

__all__ = ["layer_shapes", "sliding_window"]


class _Sliding(NamedTuple):
    """Which layers slide: of each ``period`` all but the last, or all but the first.

    ``window`` holds where the header has none, ``fixed`` whatever number the header has.
    """

    period: int
    dense_first: bool = False
    window: int = 0
    fixed: int = 0


_SLIDING = MappingProxyType(
    {
        "afmoe": _Sliding(4),
        "cohere2": _Sliding(4),
        "cohere2moe": _Sliding(4, dense_first=True),
        "exaone-moe": _Sliding(4),
        "gemma-embedding": _Sliding(6),
        "gemma2": _Sliding(2, window=4096),
        "gemma3": _Sliding(6),
        "gemma3n": _Sliding(5),
        "gpt-oss": _Sliding(2),
        "laguna": _Sliding(4, dense_first=True),
        "llama4": _Sliding(4, window=8192, fixed=8192),
        "mellum": _Sliding(4),
        "modern-bert": _Sliding(3, dense_first=True),
        "muse-glimmer": _Sliding(4),
        "olmo2": _Sliding(4),
        "plamo3": _Sliding(8),
        "smallthinker": _Sliding(4, dense_first=True, fixed=4096),
        # These must say in the header which layers slide.
        "gemma4": _Sliding(1),
        "granite_swa": _Sliding(1),
        "maple": _Sliding(1),
        "mimo2": _Sliding(1),
        "spark2_5": _Sliding(1),
        "step35": _Sliding(1),
    }
)
_RECURRENT = frozenset({"mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"})
_HYBRID = frozenset(
    {
        "jamba",
        "plamo2",
        "granitehybrid",
        "lfm2",
        "lfm2moe",
        "kimi-linear",
        "kimi-k3",
        "bailingmoe3",
        "glm5-next",
        "nemotron_h",
        "nemotron_h_moe",
    }
)
_INTERVALS = MappingProxyType(
    {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "qwen4exp": 4, "minimax-01": 8}
)
_NO_CACHE = frozenset(
    {
        "bert",
        "modern-bert",
        "nomic-bert",
        "nomic-bert-moe",
        "neo-bert",
        "jina-bert-v2",
        "jina-bert-v3",
        "eurobert",
        "gemma-embedding",
        "wavtokenizer-dec",
        "dream",
        "llada",
        "llada-moe",
        "rnd1",
    }
)


def sliding_window(keys: Keys) -> int:
    """How many tokens back the sliding layers look; 0 where none slides."""
    rule = _SLIDING.get(keys.architecture)
    if keys.architecture == "exaone4" and keys.whole(".block_count") == 64:  # the 32B alone
        rule = _Sliding(4, window=4096)
    if rule is None:
        return 0
    written = keys.whole(".attention.sliding_window")
    return rule.window if written is None else written and (rule.fixed or written)


def layer_shapes(
    keys: Keys, head_counts_kv: tuple[int, ...], blocks: int
) -> tuple[LayerShape, ...]:
    """What each of the ``blocks`` layers remembers."""
    heads = head_counts_kv or (0,) * blocks
    if len(heads) < blocks or keys.architecture in _NO_CACHE:
        return (LayerShape(),) * blocks
    slides = _slides(keys, blocks)
    recurrent, attends = _kinds(keys, heads, blocks)
    with_cache = _with_cache(keys, blocks)
    state = _state_elements(keys)
    return tuple(
        LayerShape(
            *(_kv_elements(keys, heads[i], slides=slides(i)) if attends(i) else (0, 0)),
            sliding=slides(i) and attends(i),
            state=state if recurrent(i) else 0,
        )
        if i < with_cache
        else LayerShape()
        for i in range(blocks)
    )


Test = Callable[[int], bool]


def _slides(keys: Keys, blocks: int) -> Test:
    if not sliding_window(keys):
        return lambda layer: False
    pattern = keys.flags(".attention.sliding_window_pattern")
    if pattern is not None:
        return lambda layer: layer < len(pattern) and pattern[layer]
    rule = _SLIDING.get(keys.architecture, _Sliding(4))
    period = keys.whole(".attention.sliding_window_pattern")
    period = rule.period if period is None else period
    dense = 0 if rule.dense_first else period - 1
    return lambda layer: period == 0 or layer % period != dense


def _kinds(keys: Keys, heads: tuple[int, ...], blocks: int) -> tuple[Test, Test]:
    """Which layers are recurrent, and which have attention."""
    architecture = keys.architecture
    if architecture in _RECURRENT:
        return lambda layer: True, lambda layer: False
    if architecture == "falcon-h1":
        return lambda layer: True, lambda layer: True
    if architecture in _INTERVALS:
        marked = keys.flags(".attention.recurrent_layers")
        interval = keys.whole(".full_attention_interval") or _INTERVALS[architecture]
        recurrent = marked or tuple((layer + 1) % interval != 0 for layer in range(blocks))
        recurrent += (False,) * (blocks - len(recurrent))
        return lambda layer: recurrent[layer], lambda layer: not recurrent[layer]
    if architecture in _HYBRID:
        wide = keys.wholes(".feed_forward_length") or ()
        plain = architecture.startswith("nemotron") and len(wide) >= blocks
        mixes = [not (plain and wide[layer]) for layer in range(blocks)]
        return (
            lambda layer: mixes[layer] and heads[layer] == 0,
            lambda layer: mixes[layer] and heads[layer] > 0,
        )
    return lambda layer: False, lambda layer: heads[layer] > 0


def _with_cache(keys: Keys, blocks: int) -> int:
    """How many of the first layers keep something of their own."""
    if keys.architecture == "gemma3n":
        return min(20, blocks)  # llama.cpp's own constant
    if keys.architecture == "gemma4":
        return blocks - min(blocks, keys.whole(".attention.shared_kv_layers") or 0)
    predicting = keys.whole(".nextn_predict_layers") or 0
    return blocks - predicting if predicting < blocks else blocks


def _kv_elements(keys: Keys, heads: int, *, slides: bool) -> tuple[int, int]:
    """The numbers in the keys and in the values of one token."""
    width, count = keys.whole(".embedding_length"), keys.whole(".attention.head_count")
    length = width // count if width and count else 0
    key = keys.whole(".attention.key_length") or length
    value = keys.whole(".attention.value_length") or length
    if slides:
        key = keys.whole(".attention.key_length_swa") or key
        value = keys.whole(".attention.value_length_swa") or value
    latent = keys.whole(".attention.key_length_mla") and keys.whole(".attention.value_length_mla")
    return key * heads, 0 if latent else value * heads


def _state_elements(keys: Keys) -> int:
    """The numbers that a recurrent layer keeps for a sequence, as 32-bit floats."""
    width, heads = keys.whole(".embedding_length") or 0, keys.whole(".attention.head_count") or 0
    head = keys.whole(".wkv.head_size")
    if head:
        shifts = keys.whole(".token_shift_count")
        return width * ((2 if shifts is None else shifts) + head)
    short = keys.whole(".shortconv.l_cache")
    if short:
        return width * (short - 1)
    kernel = keys.whole(".ssm.conv_kernel") or 0
    head = keys.whole(".kda.head_dim")
    if head:
        return head * heads * (3 * (kernel - 1 if kernel else 3) + head)
    if keys.architecture == "minimax-01":
        return (keys.whole(".attention.key_length") or 0) ** 2 * heads
    inner, state = keys.whole(".ssm.inner_size") or 0, keys.whole(".ssm.state_size") or 0
    groups = keys.whole(".ssm.group_count") or 0
    convolution = max(kernel - 1, 0) * (inner + 2 * groups * state)
    return convolution + state * inner
