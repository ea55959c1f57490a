"""``%llm_stats`` and ``%llm_plot``."""
