"""The status socket: HTTP/1.1 and JSON over a Unix socket.

``server`` begins and ends, ``claim`` takes the socket's path, ``connections`` says who may stay,
``routes`` what may be asked, ``query`` reads it and ``answers`` writes what is said. ``client`` and
``listener`` ask and listen (without aiohttp, so that a command starts fast), ``wire`` and
``documents`` read for them. Nothing is imported here, for the same reason.
"""
