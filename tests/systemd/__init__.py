"""The service under a real systemd, booted in private namespaces."""
