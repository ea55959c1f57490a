"""``%llm_load`` and its kin: models and devices."""
