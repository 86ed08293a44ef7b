"""What the servers of the matrix run: the application itself, and hosts that have mounted it."""
