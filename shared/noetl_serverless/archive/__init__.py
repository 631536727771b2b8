"""The archive: executions that have left the database, as files in the result store.

Of each batch there are three Parquet files, for DuckDB and whatever else reads Parquet, and one log file, which gives
back single executions without a library: gzip members of JSON lines, whose places the database keeps.
"""
