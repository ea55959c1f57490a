"""How answers appear, in whatever shows them."""
