"""A run through a vendor's batch API: answered within a day, for half the price."""
