"""Plain forms, shared by the pages and the API."""
