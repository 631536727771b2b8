"""The whole deployment on an emulator of AWS, created and destroyed: `make localstack` runs this.

python localstack/run.py           all steps
python localstack/run.py --stay    stays up before the last step, until Ctrl-C, and then destroys
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(stays: bool) -> int:
    sys.path.insert(0, str(ROOT))
    from localstack.emulated import Emulated
    from localstack.emulator import PORT
    from localstack.journey import Journey

    with tempfile.TemporaryDirectory(prefix="noetl-localstack-") as folder:
        emulated = Emulated(Path(folder), PORT)
        print(f"Python {emulated.python} for the emulator and for the functions' packages; everything is in {folder}")
        return Journey(emulated).run(stays)


if __name__ == "__main__":
    sys.exit(main("--stay" in sys.argv[1:]))
