"""What is in a video file, read from its bytes and from nothing else.

The modules here are pure: bytes in, facts out; they open no file and start no
program. Files come from strangers, so every reader is bounded in time and
memory and answers with a value, whatever the bytes are. ``signatures`` says
which container a file is by its first bytes, which is what decides whether an
upload is taken and as what it is served: never its name or declared type.
"""
