"""What ffmpeg is asked to do, and what is done so that nobody else can ask it.

ffmpeg reads whatever a file tells it to, from playlists over images to the network, and
its decoders meet bytes that were made to break them. So nothing here starts it but
``fence.run``, and no file of a stranger is given to it but by ``fence.media_input``:
one local file, one protocol, the one demuxer that the signature calls for, limits on all
that can be used up, and where the kernel can do it no other file and no socket.
``launch`` is the small program that goes through the fence and becomes ffmpeg;
``tools`` finds ffmpeg and says what it can do. The rest is one function per result,
each of which leaves files in a folder that it is given and knows nothing of a database.
"""
