"""What lists say, and what is made of it."""
