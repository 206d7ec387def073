"""The three calls of an S3 multipart upload, as far as a client looks at the replies."""

from __future__ import annotations

_SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def call(method: str, query: str) -> str:
    """Which of the three it is (S3's API reference, "Multipart upload")."""
    if method == "PUT":
        return "s3-part"
    return "s3-create" if query.startswith("uploads") else "s3-complete"


def reply(name: str, path: str, number: int) -> bytes:
    """Return the whole reply."""
    if name == "s3-part":
        return b'HTTP/1.1 200 OK\r\nETag: "%032x"\r\nContent-Length: 0\r\n\r\n' % number
    key = path.split("/", 2)[-1]
    if name == "s3-create":
        inner = f"<Bucket>bucket</Bucket><Key>{key}</Key><UploadId>{number:032x}</UploadId>"
        return _xml("InitiateMultipartUploadResult", inner)
    inner = f'<Bucket>bucket</Bucket><Key>{key}</Key><ETag>"{number:032x}"</ETag>'
    return _xml("CompleteMultipartUploadResult", inner)


def _xml(element: str, inner: str) -> bytes:
    text = f'<?xml version="1.0" encoding="UTF-8"?><{element} xmlns="{_SPACE}">{inner}</{element}>'
    body = text.encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body
