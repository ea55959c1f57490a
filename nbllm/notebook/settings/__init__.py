"""``%llm_config`` and ``%config NbLLM``."""
