"""``python -m tsl``, and the command ``tsl``: see `tsl.cli`."""

import signal
import sys


def run() -> int:
    """Run the command line.

    While it is read, and with it torch and others, an interrupt ends the process at once: many of them turn the exception into
    errors of their own. A command that has something to lose asks for the exception when it begins.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tsl.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
