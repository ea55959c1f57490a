"""Processes that measure a model: what it takes, and how fast it is."""
