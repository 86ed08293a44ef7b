"""The grammars of the wire: header text in, plain values out, and back.

Each module knows one corner of HTTP: ``ranges`` which bytes of a
representation a client asks for, ``conditional`` whether it needs them at
all, ``disposition`` under what name it may keep them, ``forwarded`` what a
proxy tells of it. Everything here is
text, integers and dates: no file is opened, no request is seen and no clock
is read, so a truth table of the specification is a test of its own.

What arrives was written by strangers. Digits are ASCII digits, every parser
takes time in proportion to its text, and what the grammar does not produce
is ignored or refused as the specification says, never guessed at.
"""
