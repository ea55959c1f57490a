"""``%%llm --chat`` and ``%llm_chat``."""
