"""What extensions remember, what was chosen about them, and how what they want sent becomes mail (MT2-20)."""
