"""The archive: executions that were moved from the database into files in the result store.

Each batch has three Parquet files, for DuckDB and other readers of Parquet, and one log file, from which single
executions are read without a library: gzip members of JSON lines, whose places are in the database.
"""
