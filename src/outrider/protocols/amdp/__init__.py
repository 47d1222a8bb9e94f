"""AMDP: envelopes, published policies and the words of the call-back; bytes in, bytes out."""
