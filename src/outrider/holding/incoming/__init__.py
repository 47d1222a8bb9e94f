"""The incoming gateway (IMG): envelopes are called back, messages fetched."""
