"""Programs that others would use in the daemon's place; each runs as a process of its own."""
