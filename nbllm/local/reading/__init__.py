"""What a model writes: reasoning and tool calls told apart from the answer."""
