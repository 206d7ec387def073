"""``python -m uploaderd`` is the command ``uploaderd``."""

from uploaderd.cli import main

if __name__ == "__main__":
    main()
