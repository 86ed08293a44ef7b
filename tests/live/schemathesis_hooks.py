"""What schemathesis cannot guess: the bytes of a video."""

import schemathesis
from hypothesis import strategies as st

from tests.helpers import video_bytes

VIDEO = st.integers(min_value=100, max_value=5000).map(video_bytes)

schemathesis.openapi.media_type("video/*", VIDEO)
schemathesis.openapi.media_type("application/octet-stream", VIDEO)
