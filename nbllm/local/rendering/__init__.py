"""Chat templates: foreign programs that make a prompt of a conversation, run in a process apart."""
