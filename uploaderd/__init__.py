"""uploaderd: drop a file into a folder; it arrives whole, once, or you are told why not.

Six nouns. A *watch* is a watched folder. A *file* is one spool file with its fate. A *part* is a
byte range of a file, sent in one request. A *target* is a service that files are uploaded to. An
*upload* is the service's session of one hour. A *receipt* is the lasting record of an outcome.

Two rules. *Persist, then act*: the intent of a request is durable before it leaves, its outcome
before anything depends on it. *Decide and do stay apart*: ``core`` says what should happen, the
``engine`` makes it happen, an adapter knows one outside thing.

Reading order: core.model, core.events, core.lifecycle, engine.context, engine.engine,
engine.transfer, engine.parts, engine.assembling, engine.aftercare; then the adapters; app last.
"""

__version__ = "0.1.0"
