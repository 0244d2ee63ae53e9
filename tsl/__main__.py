"""``python -m tsl``, and the command ``tsl``: see `tsl.cli`."""

import sys


def run() -> int:
    """Run the command line; an interrupt while Python still reads it is one, too."""
    try:
        from tsl.cli import main

        return main()
    except KeyboardInterrupt:  # before the command had begun
        return 130


if __name__ == "__main__":
    sys.exit(run())
