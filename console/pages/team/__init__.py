"""``/team/``: the portal in which a team looks after itself. One module for each of its pages."""
