"""Work on model files that takes its time, each kind in a process of its own."""
