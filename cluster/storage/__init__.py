"""Bytes and tables: the only room that knows fsspec, pyarrow, duckdb and zarr."""
