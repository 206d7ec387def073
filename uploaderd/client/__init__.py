"""The service's client: one attempt a call, errors by what happens next.

Reading order: calls (the five of them), exchange (one request and its reply), sending (bodies),
replies (what comes back), address (URLs and headers).
"""

from uploaderd.client.address import Key, TargetAddress
from uploaderd.client.calls import Client, CreateSpec, open_session
from uploaderd.client.replies import RemoteFile, RemoteUpload
from uploaderd.client.sending import Body
from uploaderd.core.model import Flavour

__all__ = [
    "Body",
    "Client",
    "CreateSpec",
    "Flavour",
    "Key",
    "RemoteFile",
    "RemoteUpload",
    "TargetAddress",
    "open_session",
]
