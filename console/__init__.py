"""The web console: settings, pages, streams and the process that starts them all."""
