"""Postage: receipts that are paid for, redeemed once, and paid back."""
