#!/bin/sh
# make-venv.sh FOLDER [PYTHON]: an environment with the first Python of 3.11 to 3.13 that is found, or with PYTHON.
fits='import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
for python in ${2:-python3.13 python3.12 python3.11 python3 python}; do
    if "$python" -c "$fits" 2>/dev/null; then
        # half an environment would pass for a whole one the next time
        "$python" -m venv "$1" || { rm -rf "$1"; exit 1; }
        exit 0
    fi
done
echo "No fitting Python: ${2:-none of python3.13, python3.12, python3.11, python3} is 3.11 to 3.13 with venv." >&2
echo "Install one (Debian: apt install python3 python3-venv), or name it: make setup PYTHON=/path/to/python" >&2
exit 1
