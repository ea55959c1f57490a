"""What people type for a model: where it leads, and how to get what is not here yet."""
