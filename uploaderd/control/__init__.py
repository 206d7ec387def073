"""The status socket: HTTP/1.1 and JSON over a Unix socket.

``server`` answers, ``query`` reads what is asked, ``claim`` takes the socket's path, ``client``
asks (without aiohttp, so that a command starts fast). Nothing is imported here, for the same
reason.
"""
