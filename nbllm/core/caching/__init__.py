"""Answers that are kept: the same request is answered again without asking its model."""
