"""Run by a release's own Python: which of its statements a database does not understand, as JSON: name -> why."""

import contextlib
import json
import sys
from importlib.resources import files

from pg8000.exceptions import DatabaseError

from noetl_serverless.store.connection import connect
from noetl_serverless.store.queries import load

found = {}
with contextlib.closing(connect(sys.argv[1])) as database:
    for file in sorted(files("noetl_serverless.store.sql").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".sql"):
            for name, sql in load(file.name.removesuffix(".sql")).items():
                try:
                    database.prepare(sql).close()
                except DatabaseError as error:
                    found[f"{file.name}: {name}"] = error.args[0]["M"]
print(json.dumps(found))
