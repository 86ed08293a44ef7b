"""Bits of a codec's headers, most significant first."""

from streamer.errors import MediaUnreadable

MOST_BYTES = 1024
"""More than any header is long: all scaling lists of H.265, told one by one, are about 700 bytes."""


class BitReader:
    """Reads numbers of any width from the first MOST_BYTES of some bytes.

    Every method raises MediaUnreadable instead of reading behind the last bit.
    """

    def __init__(self, data: bytes) -> None:
        self._digits = bin(int.from_bytes(b"\1" + data[:MOST_BYTES]))[3:]
        self._at = 0

    @property
    def left(self) -> int:
        """How many bits have not been read."""
        return len(self._digits) - self._at

    def bits(self, width: int) -> int:
        """An unsigned number of ``width`` bits, 0 for none: ``u(n)``, ``f(n)``."""
        start = self._at
        self.skip(width)
        return int(self._digits[start : self._at] or "0", 2)

    def flag(self) -> bool:
        """One bit."""
        return self.bits(1) == 1

    def skip(self, width: int) -> None:
        """Pass over ``width`` bits."""
        if width > self.left:
            raise MediaUnreadable("a codec's header ends too early")
        self._at += width

    def align(self) -> None:
        """Go on at the next whole byte."""
        self._at = (self._at + 7) & ~7

    def ue(self) -> int:
        """An unsigned Exp-Golomb number below 2^32 (H.264, 9.1; ``uvlc()`` of AV1, 4.10.3)."""
        one = self._digits.find("1", self._at, self._at + 33)
        if one < 0:
            raise MediaUnreadable("a codec's header holds a number without an end")
        zeros, self._at = one - self._at, one
        return self.bits(zeros + 1) - 1

    def se(self) -> int:
        """A signed Exp-Golomb number (H.264, 9.1.1)."""
        number = self.ue()
        return (number + 1) // 2 if number & 1 else -(number // 2)

    def skip_ue(self, count: int = 1) -> None:
        """Pass over ``count`` Exp-Golomb numbers, signed or not."""
        for _ in range(count):
            self.ue()


def rbsp(nal_unit: bytes) -> bytes:
    """A NAL unit, its header included, without the bytes that keep start codes out of it (H.264, 7.4.1)."""
    return nal_unit.replace(b"\0\0\3", b"\0\0")
