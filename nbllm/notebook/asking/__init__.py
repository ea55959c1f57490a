"""``%%llm`` from the typed cell to the kept answer."""
