"""Values every room shares: addresses, envelopes, facts, verdicts, replies, delivery results."""
