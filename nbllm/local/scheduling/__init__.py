"""What the engine decides in each step: pure but for the model that it is given."""
