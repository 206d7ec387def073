"""Measures uploaderd against md5sum, curl, the official SDK and s3transfer: `make bench`."""
