"""Batches on a Dask cluster: the rows are asked by its workers, the run stays in the kernel."""
