"""``python -m mmrazor_lite.cli``, the same as the console command ``mmrazor-lite``."""

import pathlib
import sys

if __name__ == "__main__":
    if not __package__:  # by its path, as processes are started: works uninstalled, and this folder's names stay inside
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from mmrazor_lite.cli.main import main

    sys.exit(main())
