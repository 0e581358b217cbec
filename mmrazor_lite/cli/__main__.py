"""``python -m mmrazor_lite.cli``, the same as the console command ``mmrazor-lite``."""

import sys

from .main import main

sys.exit(main())
