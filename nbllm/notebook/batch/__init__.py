"""Batches over DataFrames."""
