"""``--as`` and ``--schema``: answers as values."""
