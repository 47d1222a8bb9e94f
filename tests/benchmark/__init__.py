"""The load generator of `outrider bench`."""
