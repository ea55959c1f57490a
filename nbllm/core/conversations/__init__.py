"""Conversations as values."""
