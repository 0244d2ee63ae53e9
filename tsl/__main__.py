"""``python -m tsl``: see `tsl.cli`."""

import sys

from tsl.cli import main

sys.exit(main())
