"""Many prompts through one model: concurrent, resumable, each failure its own."""
