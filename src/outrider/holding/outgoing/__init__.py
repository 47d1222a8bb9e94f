"""The outgoing gateway (OMG): what users hand in."""
