"""Tables as Arrow IPC streams: written as they are produced, mapped into memory where they are read.

pyarrow is imported only when there is a table, since it costs 70 to 140 ms.
"""
