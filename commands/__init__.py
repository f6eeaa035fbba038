"""The domain: what the console does, without any HTTP."""
