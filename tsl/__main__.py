"""``python -m tsl``: see `tsl.cli`."""

import sys

try:
    from tsl.cli import main

    status = main()
except KeyboardInterrupt:  # before the command had begun
    status = 130
sys.exit(status)
