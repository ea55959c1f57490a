"""Whether and where a model fits: pure functions of its shape and of the machine."""
