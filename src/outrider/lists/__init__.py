"""Mailing lists and answers for users who are away: programs that make messages of messages."""
