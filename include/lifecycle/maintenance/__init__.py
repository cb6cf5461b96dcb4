"""What the platform keeps for too long: found, planned, shown, and removed exactly as planned.

A :class:`~include.lifecycle.maintenance.items.Keeper` knows one kind of thing; :mod:`~include.lifecycle.maintenance.ancestry` knows what
champions and running jobs need; :mod:`~include.lifecycle.maintenance.steps` are the tasks of ``maintain_platform``.
"""
