"""A command that tells at its end which modules it loaded.

    UPLOADERD_LOADED=FILE python -m tests.support.loaded WORDS

FILE then holds their names, one a line. The command is the real one, called as the installed
script calls it.
"""

from __future__ import annotations

import atexit
import os
import sys


def tell() -> None:
    """Write down what is loaded now."""
    names = "\n".join(sorted(sys.modules))
    descriptor = os.open(os.environ["UPLOADERD_LOADED"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, names.encode())
    os.close(descriptor)


if __name__ == "__main__":
    atexit.register(tell)
    from uploaderd.cli import main

    main()
