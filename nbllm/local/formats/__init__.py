"""How families of models write tool calls: one module for each format, and one table of all."""
