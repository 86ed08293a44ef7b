"""The face of each noun in HTTP. A resource parses, calls the domain, represents; it decides nothing.

A request reaches a resource only with a user, who is in ``req.context.user``,
unless the resource says ``public = True``. Failures are raised: ``errors`` has
the one table of what they become.
"""
