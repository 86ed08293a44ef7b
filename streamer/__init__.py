"""A personal video server: upload, keep, stream and share one's own videos.

The package is read top down. ``protocol`` holds the grammars of the wire,
``storage`` and ``database`` the outside world, ``accounts`` and ``videos``
what the product does, ``resources`` its face in HTTP. ``app.create_app``
assembles them, ``cli`` runs them.
"""

__version__ = "0.1.0"
