"""Answers in the background."""
