"""uploaderd: drop a file into a folder; it arrives whole, once, or you are told why not."""

__version__ = "0.1.0"
