"""Rules in plain Python: no Django, no input, no output."""
