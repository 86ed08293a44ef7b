"""Numbered schema steps, run in order at start by ``database.migrate``.

A step that was released is never edited: it imports nothing from the package,
and what it needs is copied into it.
"""
