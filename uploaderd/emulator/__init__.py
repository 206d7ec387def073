"""A local Uploads service on disk: the real one's shapes, limits and errors, and its bad days.

Useful by itself to anyone who tests code that uploads:

    async with Emulator(store=folder, faults=["call=part,action=lose,times=1"]) as emulator:
        client = openai.AsyncOpenAI(base_url=emulator.base_url, api_key="any")

Read in this order:

    rules     what the service may answer: limits, and a knob for each open question; profiles
    judge     pure functions that read a request or refuse it;  purposes, refusals: their words
    objects   uploads, parts and files, and how the wire shows them
    store     all of it on disk
    service   what each call does
    faults    the grammar of what goes wrong;  exchange: one request on its way through them
    form      multipart bodies, streamed to disk
    app       the HTTP face;  control: `/_emulator`, for tests in another process
    stats     counts and the log of requests;  clock: time that tests may move
    server    Emulator and serve, the ways to start it
"""

from uploaderd.emulator.clock import Clock
from uploaderd.emulator.faults import Call, Fault, FaultPlan, parse_fault
from uploaderd.emulator.rules import PROFILES, Rules, rules_for, with_setting
from uploaderd.emulator.server import Emulator, serve
from uploaderd.emulator.stats import Outcome, RequestRecord, Stats

__all__ = [
    "PROFILES",
    "Call",
    "Clock",
    "Emulator",
    "Fault",
    "FaultPlan",
    "Outcome",
    "RequestRecord",
    "Rules",
    "Stats",
    "parse_fault",
    "rules_for",
    "serve",
    "with_setting",
]
