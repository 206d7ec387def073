"""Random and hostile input: a clear error or the right behaviour, never a traceback."""
