"""What a machine is made of: a module for each source that tells of it."""
