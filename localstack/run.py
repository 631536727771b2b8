"""The whole deployment on an emulator of AWS, created and destroyed: `make localstack` runs this.

python localstack/run.py           all steps
python localstack/run.py --stay    stays up before the last step, until Ctrl-C, and then destroys
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(stay: bool) -> int:
    sys.path.insert(0, str(ROOT))
    from localstack.emulated import Emulated
    from localstack.emulator import PORT
    from localstack.journey import Journey

    with tempfile.TemporaryDirectory(prefix="noetl-localstack-") as folder:
        emulated = Emulated(Path(folder), PORT)
        print(f"Python {emulated.python} for the emulator and for the functions' packages; everything is in {folder}")
        journey = Journey(emulated)
        try:
            run("package", emulated.package)
            for name, step in journey.steps():
                if stay and name == "terraform destroy":
                    wait(emulated.outputs()["gateway_url"])
                run(name, step)
        except (AssertionError, RuntimeError, TimeoutError) as error:
            print(f"failed: {error}\n\nthe end of the emulator's log:\n{emulated.emulator.log()[-4000:]}")
            return 1
        finally:
            emulated.stop_servers()
    return 0


def run(name: str, step: object) -> None:
    began = time.monotonic()
    print(f"{name} ... ", end="", flush=True)
    said = step()  # type: ignore[operator]
    print(f"{time.monotonic() - began:.1f} s" + (f": {said}" if said else ""), flush=True)


def wait(url: str) -> None:
    print(f"up at {url} until Ctrl-C", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    sys.exit(main("--stay" in sys.argv[1:]))
