"""What should happen next: pure functions over frozen values.

Nothing here knows a clock, chance, a file, a socket or a thread. Time arrives as ``Now``, chance
as a number drawn by the caller. Reading order: model, events, reasons, lifecycle, plan, board,
schedule, settle, fitness, answers, retry, reconcile, gate, report.
"""
