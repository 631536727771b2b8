"""Where `noetls` begins. The command is installed with every extra, its dependencies with the extra `local` alone."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from .main import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("noetl_serverless"):
            raise
        sys.stderr.write(f"{error.name} is not installed; run: pip install 'noetl-serverless[local]'\n")
        sys.exit(2)
    app()


if __name__ == "__main__":
    main()
