"""Where the bytes are kept.

``local`` keeps finished objects in ``videos/`` and growing ones in
``incoming/`` of the data folder, under names that are random and never used
again. ``slices`` is what a WSGI server reads an answer from. ``space`` tells
what the disk has left.
"""
