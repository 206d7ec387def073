"""Official SDKs as foreign clients."""
