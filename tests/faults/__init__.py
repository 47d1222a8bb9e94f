"""Faults done to a running server: killed, stopped, starved of disk - and nothing acknowledged is lost."""
