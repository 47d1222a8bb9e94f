"""Between SMTP mail and the objects of MT2, both ways, octet for octet (MT2-28a, MT2-28b). Pure functions."""
