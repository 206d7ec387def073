"""The service that the benchmark uploads to: it says yes and keeps nothing."""
