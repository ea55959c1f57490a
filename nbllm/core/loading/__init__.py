"""The manager's inner life: loads, what they wait for, and what makes room."""
