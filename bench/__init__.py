"""Our server and its peers, measured side by side: ``python -m bench``.

Every peer that is installed serves the same file, one peer after the other and
that in several rounds, so that what else the machine does meets all of them. A
server is started anew for each measurement, on a loopback address, in a folder
that is removed afterwards.

``pattern`` is the file, ``processes`` starts, counts and stops servers, ``peers``,
``web`` and ``ours`` say how each server is set up; ``wire``, ``load``, ``viewers``
and ``probe`` are the clients, ``scenarios`` and ``uploads`` what they do;
``machine``, ``report`` and ``plot`` write down what came out.

Beware: client and server share the processors. The client throws bodies away
inside the kernel (MSG_TRUNC) except for a sample, which it compares byte for byte,
and its own use of the processor stands beside each figure: where that is near
100 %, the figure is the client's limit and not the server's.
"""
