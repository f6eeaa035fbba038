"""One function for each thing a person can do: the only code that changes rows."""
