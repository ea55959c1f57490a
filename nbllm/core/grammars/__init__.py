"""Grammars that a text must follow: GBNF read, checked, and run over bytes within limits."""
