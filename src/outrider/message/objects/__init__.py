"""The objects that an MT2 message is made of (MT2-1 to MT2-5; docs/protocols/mt2-objects.md)."""
