"""The engine: starts and follows scripts on instances. It knows no rows and no web."""
