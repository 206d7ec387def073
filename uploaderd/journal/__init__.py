"""The journal: the only record of part ids, and the one place that knows SQLite.

Every public method is one transaction, synchronous, and to be called on one thread (SQLite's
own rule for a connection that several share is to serialise; a thread of its own does that).
"""

from uploaderd.journal.damage import DamagedError
from uploaderd.journal.journal import Journal
from uploaderd.journal.store import StaleError
from uploaderd.journal.writing import Leaving, TakenError

__all__ = ["DamagedError", "Journal", "Leaving", "StaleError", "TakenError"]
