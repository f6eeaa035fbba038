"""How numbers are written, where Django's own habits of a language are not those of consoles."""
