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
    from localstack import steps
    from localstack.emulated import Emulated
    from localstack.emulator import PORT
    from localstack.journey import Journey

    with tempfile.TemporaryDirectory(prefix="noetl-localstack-") as folder:
        emulated = Emulated(Path(folder), PORT)
        print(f"Python {emulated.python} for the emulator and for the functions' packages; everything is in {folder}")
        *journey, destroy = Journey(emulated).steps()
        waiting = [("stay", lambda: steps.stay(emulated.outputs()["gateway_url"], emulated.command()))] if stays else []
        try:
            steps.run([("package", emulated.package), *journey, *waiting, destroy])
        except steps.StepFailed as error:
            print(f"failed: {error}\n\nthe end of the emulator's log:\n{emulated.emulator.log()[-4000:]}")
            return 1
        finally:
            emulated.stop_servers()
    return 0


if __name__ == "__main__":
    sys.exit(main("--stay" in sys.argv[1:]))
