"""HTTP as nbllm uses it: sending, waiting, retrying and reading bounded bodies."""
