"""What runs print: bytes by run and offset, and who is told that there are more."""
