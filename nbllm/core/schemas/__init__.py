"""JSON schemas: read, checked, turned into grammars, and held against answers."""
