"""How models are written in JSON: one module for each thing that can be wrong."""
