"""HTML pages, one module for each; every view resolves, validates, calls a service, answers."""
