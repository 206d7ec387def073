"""The daemon's numbers in Prometheus' text form.

What happens is counted as it happens (``Metrics``, the ``Tally`` of the engine); what is so at the
moment is read at each scrape (``Facts``, turned into families here). Nothing is counted in the
default registry, and no counter outlives the process: ``rate`` and ``increase`` expect that.

Reading order: instruments, families, lag.
"""

from uploaderd.metrics.instruments import Metrics
from uploaderd.metrics.lag import Lag

__all__ = ["Lag", "Metrics"]
