"""The Cloud Assistant RPC API: signed requests of programs, answered in JSON.

A request is verified (``endpoint``, ``signature``), its flat parameters are read (``wire``), its
action is picked (``actions``), and the services of the pages do the rest.
"""
