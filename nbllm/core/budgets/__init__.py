"""Budgets: what may be spent in money, tokens and requests, and who keeps count of it."""
