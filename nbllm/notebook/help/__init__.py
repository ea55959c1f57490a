"""``%llm_help``: every magic on one card, and the line that points to it."""
