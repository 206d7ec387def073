"""The configuration: one TOML file becomes frozen values, or a refusal that says what to mend.

Reading order: settings (every key), keys and kinds (how one is read and refused), loading (the
document as a whole), checks (what the values must not be together), paths (defaults that hang on
the surroundings), secrets (the API key), units.
"""

from uploaderd.config.loading import SECTIONS, load, parse, redacted
from uploaderd.config.settings import (
    AfterUpload,
    Config,
    Daemon,
    History,
    Hook,
    HookEvent,
    LogFormat,
    LogLevel,
    Retry,
    Target,
    Transfer,
    Watch,
)
from uploaderd.core.model import Flavour
from uploaderd.core.timetable import Timetable

__all__ = [
    "SECTIONS",
    "AfterUpload",
    "Config",
    "Daemon",
    "Flavour",
    "History",
    "Hook",
    "HookEvent",
    "LogFormat",
    "LogLevel",
    "Retry",
    "Target",
    "Timetable",
    "Transfer",
    "Watch",
    "load",
    "parse",
    "redacted",
]
