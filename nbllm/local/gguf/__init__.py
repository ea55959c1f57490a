"""GGUF files: what their headers tell of a model, in milliseconds and without reading weights."""

from nbllm.local.gguf.shape import model_info_from_gguf as model_info_from_gguf
from nbllm.local.gguf.shape import read_shape as read_shape
