"""The filters that turn the pictures of a file into pictures to look at."""

from streamer.containers.media import VideoTrack
from streamer.ffmpeg.tools import Tools

_TRANSFER = {"pq": "smpte2084", "hlg": "arib-std-b67"}
_SUBSAMPLED = ("4:0:0", "4:2:0", "4:2:2")  # which RGB never is
_HD_HEIGHT = 720


def fit(width: int, height: int, longer: int, shorter: int | None = None) -> tuple[int, int]:
    """The size of a picture of the same aspect whose sides are at most so long; never larger."""
    scale = min(1, longer / max(width, height), (shorter or longer) / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def deinterlace(tools: Tools, video: VideoTrack) -> list[str]:
    """Make whole pictures of two fields each, before any are dropped; only where frames say that they are."""
    if video.is_interlaced is False or "bwdif" not in tools.filters:
        return []
    return ["bwdif=mode=send_frame:deint=interlaced"]


def show(tools: Tools, video: VideoTrack, width: int, height: int) -> list[str]:
    """Scale to a size in square pixels, and to the dynamic range of ordinary screens.

    ffmpeg itself puts the rotation in front of this, so sizes are those of the upright picture.
    """
    transfer = _TRANSFER.get(video.dynamic_range or "")
    if transfer and tools.filters >= {"zscale", "tonemap"}:
        return [*_tone_map(transfer, width, height), "setsar=1"]
    return [f"scale={width}:{height}", "setsar=1"]


def _tone_map(transfer: str, width: int, height: int) -> list[str]:
    """From HDR to BT.709: scaled first, because the rest is done in floating point.

    All of it in 4:4:4, because zscale takes no odd sides where colours are subsampled.

    What the file says about its colours is said again, since a bitstream without it would end the
    work: zscale knows no way from "unspecified". 100 nits are the white of ordinary screens.
    """
    return [
        f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc",
        f"scale={width}:{height}",
        "format=yuv444p12le",
        "zscale=p=bt709:t=linear:m=gbr:npl=100",
        "format=gbrpf32le",
        "tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=limited",
        "format=yuv444p",
    ]


def for_h264(video: VideoTrack) -> list[str]:
    """The colours as players take H.264: 4:2:0 in 8 bits.

    What may be RGB gets the matrix of its size, which is told: ffmpeg would make BT.601 of it, which in
    high definition players take for BT.709. Other pictures keep the matrix that they have.
    """
    if video.chroma in _SUBSAMPLED or video.dynamic_range in _TRANSFER:
        return ["format=yuv420p"]
    matrix = "bt709" if video.height >= _HD_HEIGHT else "smpte170m"
    return [
        f"scale=in_color_matrix={_matrix(video)}:out_color_matrix={matrix}:out_range=tv",
        "format=yuv420p",
        f"setparams=colorspace={matrix}:range=tv",
    ]


def for_jpeg(video: VideoTrack | None = None) -> list[str]:
    """The colours as JFIF has them: BT.601 in full range."""
    matrix = _matrix(video) if video else "auto"
    return [f"scale=in_color_matrix={matrix}:out_color_matrix=bt601:out_range=pc", "format=yuvj420p"]


def for_tile(video: VideoTrack) -> list[str]:
    """The colours as RGB in 8 bits."""
    return [f"scale=in_color_matrix={_matrix(video)}", "format=rgb24"]


def _matrix(video: VideoTrack) -> str:
    """What ffmpeg has to take pictures for that are no RGB; ``auto`` is what they are tagged as, or BT.601.

    Players take what is not tagged and is of high definition for BT.709. The decoder tags JPEG.
    """
    is_told = video.dynamic_range is not None or video.name == "mjpeg"
    return "auto" if is_told or video.height < _HD_HEIGHT else "bt709"
