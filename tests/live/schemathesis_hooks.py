"""What schemathesis cannot guess: the bytes of files, and what a form cannot say."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

from streamer.protocol import draft, tus
from tests.derived import JPEG, PNG, VTT, WEBP
from tests.helpers import video_bytes

VIDEO = st.integers(min_value=100, max_value=5000).map(video_bytes)

for media_type in ("video/*", "application/octet-stream", tus.MEDIA_TYPE, draft.MEDIA_TYPE):
    schemathesis.openapi.media_type(media_type, VIDEO)
for media_type, image in (("image/jpeg", JPEG), ("image/png", PNG), ("image/webp", WEBP)):
    schemathesis.openapi.media_type(media_type, st.just(image))
for media_type in ("text/vtt", "application/x-subrip", "text/srt", "text/plain"):
    schemathesis.openapi.media_type(media_type, st.just(VTT))


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Keep all but forms whose details are no text: a form has no types, ``null`` arrives as four letters."""
    if case.media_type != "multipart/form-data" or not isinstance(case.body, dict):
        return True
    return all(isinstance(case.body.get(name, ""), str) for name in ("title", "description"))


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Keep the length of a list out of its pattern: to meet both takes half a minute of guesses.

    What is too long is sent by ``tests/resources/test_uploads.py``.
    """
    del raw_schema["components"]["parameters"]["UploadMetadata"]["schema"]["maxLength"]
