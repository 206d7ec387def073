"""The emulator, over real sockets and on real files."""
