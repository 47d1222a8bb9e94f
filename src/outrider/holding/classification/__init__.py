"""Who is what: the word of chosen services on senders' classes."""
