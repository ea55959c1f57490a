"""Found in place of the package, which jsonschema can do without.

It compiles 38 grammars when it is imported: two seconds in each process that reads a notebook.
"""

raise ImportError(__doc__)
