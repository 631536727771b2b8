"""Headers of answers with results, where a command line can import them without what reads results."""

from __future__ import annotations

from typing import Final

# the fields of a result that were accumulated, percent-encoded, with commas between
ACCUMULATED_HEADER: Final = "noetl-accumulated"
