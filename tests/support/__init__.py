"""What tests with real processes share: the daemon, the emulator, what must be true in the end.

Reading order: waiting, processes, daemon, service (an emulator of its own process), outcome
(checks), doomed (a daemon that kills itself at a chosen point).
"""
