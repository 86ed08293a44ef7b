"""Validators and preconditions: 304, 412 and If-Range (RFC 9110, sections 8.8 and 13).

Field values are the raw text as WSGI gives it, one character for each byte.
Dates are aware and in UTC, and are compared in whole seconds.
"""

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_OWS = " \t"
_ENTITY_TAG = r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"'
_ENTITY_TAG_ALONE = re.compile(_ENTITY_TAG)
# The list rule for recipients, RFC 9110, section 5.6.1.2: [ element ] *( OWS "," OWS [ element ] ).
# White space is matched possessively to keep the time linear.
_ENTITY_TAG_LIST = re.compile(rf"(?:{_ENTITY_TAG})?(?:[ \t]*+,[ \t]*+(?:{_ENTITY_TAG})?)*")

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY_NAME = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_DAY_NAME_LONG = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_DAY = "(?P<day>[0-9]{2})"
_YEAR = "(?P<year>[0-9]{4})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-5][0-9]|60)"
_DATE_FORMATS = (
    re.compile(f"{_DAY_NAME}, {_DAY} {_MONTH} {_YEAR} {_TIME} GMT"),  # IMF-fixdate
    re.compile(f"{_DAY_NAME_LONG}, {_DAY}-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),  # rfc850-date
    re.compile(f"{_DAY_NAME} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} {_YEAR}"),  # asctime-date
)


@dataclass(frozen=True, slots=True)
class EntityTag:
    """A validator for one representation (RFC 9110, section 8.8.3); ``opaque`` is what the quotes hold."""

    opaque: str
    weak: bool = False

    def __str__(self) -> str:
        return f'W/"{self.opaque}"' if self.weak else f'"{self.opaque}"'

    def strong_match(self, other: "EntityTag") -> bool:
        """Tell whether both stand for the same bytes (RFC 9110, section 8.8.3.2)."""
        return not self.weak and not other.weak and self.opaque == other.opaque

    def weak_match(self, other: "EntityTag") -> bool:
        """Tell whether one may be shown instead of the other (RFC 9110, section 8.8.3.2)."""
        return self.opaque == other.opaque


@dataclass(frozen=True, slots=True)
class Validators:
    """What identifies the present state of a representation (RFC 9110, section 8.8)."""

    etag: EntityTag | None
    last_modified: datetime | None


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The field values of a conditional request (RFC 9110, section 13.1); None for an absent field.

    If-Range is not among them: it decides about Range alone, see ``if_range_matches``.
    """

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None


class Outcome(enum.Enum):
    """What becomes of a conditional request."""

    PROCEED = enum.auto()
    NOT_MODIFIED = enum.auto()
    PRECONDITION_FAILED = enum.auto()


def evaluate(method: str, preconditions: Preconditions, validators: Validators, now: datetime) -> Outcome:
    """Decide whether to perform a request, on a resource that exists.

    Preconditions count only where the answer would otherwise be 2xx, and not
    for CONNECT, OPTIONS and TRACE: ask after those checks. A date condition is
    ignored if its value is not one HTTP-date, or if nothing is known about the
    last modification.

    Source: RFC 9110, sections 13.1, 13.2.1 and 13.2.2, in the order of the last.
    """
    is_read = method in ("GET", "HEAD")
    if not _is_as_expected(preconditions, validators, now):
        return Outcome.PRECONDITION_FAILED
    if not _is_known_to_client(is_read, preconditions, validators, now):
        return Outcome.PROCEED
    return Outcome.NOT_MODIFIED if is_read else Outcome.PRECONDITION_FAILED


def if_range_matches(value: str, validators: Validators, now: datetime) -> bool:
    """Tell whether the Range of a request applies, given the value of its If-Range.

    An entity tag is compared strongly, an HTTP-date exactly; anything else
    does not match. The bytes of one stored object never change, so its
    Last-Modified is a strong validator (RFC 9110, section 8.8.2.2).

    Source: RFC 9110, section 13.1.5.
    """
    tag = parse_entity_tag(value)
    if tag is not None:
        return validators.etag is not None and tag.strong_match(validators.etag)
    if validators.last_modified is None:
        return False
    return parse_http_date(value, now) == validators.last_modified.replace(microsecond=0)


def parse_entity_tag(text: str) -> EntityTag | None:
    """Read one entity tag; None if it is malformed (RFC 9110, section 8.8.3)."""
    match = _ENTITY_TAG_ALONE.fullmatch(text.strip(_OWS))
    return EntityTag(opaque=match[2], weak=bool(match[1])) if match else None


def parse_entity_tags(field: str) -> list[EntityTag]:
    """Read the list of entity tags of If-Match or If-None-Match, other than ``*``.

    One malformed member makes the list empty, so that it matches nothing. For
    If-Match this means that the precondition fails: on the safe side, nothing
    is overwritten. For If-None-Match it means that the field has no effect:
    the client gets the whole representation.

    Source: RFC 9110, sections 5.6.1.2, 8.8.3, 13.1.1 and 13.1.2.
    """
    tags = field.strip(_OWS)
    if not _ENTITY_TAG_LIST.fullmatch(tags):
        return []
    return [EntityTag(opaque, bool(weak)) for weak, opaque in _ENTITY_TAG_ALONE.findall(tags)]


def parse_http_date(text: str, now: datetime) -> datetime | None:
    """Read an HTTP-date in any of its three formats; None if it is not one, or not a real date.

    A two-digit year is the latest that does not put the date more than 50
    years after ``now``. The leap second :60 is read as :59, as a datetime has
    no room for it and the earlier moment never makes a copy look newer than
    it is. The day name is not compared with the date.

    Source: RFC 9110, section 5.6.7.
    """
    stripped = text.strip(_OWS)
    match = next(filter(None, (form.fullmatch(stripped) for form in _DATE_FORMATS)), None)
    if match is None:
        return None
    month = _MONTHS.index(match["month"]) + 1
    day, hour, minute = int(match["day"]), int(match["hour"]), int(match["minute"])
    within_year = (month, day, hour, minute, min(int(match["second"]), 59))
    year = int(match["year"])
    if len(match["year"]) == 2:
        year = _full_year(year, within_year, now)
    try:
        return datetime(year, *within_year, tzinfo=UTC)
    except ValueError:
        return None


@lru_cache(maxsize=1024)
def format_http_date(moment: datetime) -> str:
    """Write an HTTP-date as IMF-fixdate, without the fraction of the second.

    Raises ValueError if the moment is not in UTC.
    Source: RFC 9110, section 5.6.7.
    """
    if moment.utcoffset() != timedelta(0):
        raise ValueError("an HTTP-date is in UTC")
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year:04} {moment.time().isoformat('seconds')} GMT"


def _is_as_expected(preconditions: Preconditions, validators: Validators, now: datetime) -> bool:
    """Steps 1 and 2 of RFC 9110, section 13.2.2: no lost update."""
    if preconditions.if_match is not None:
        return _matches_any(preconditions.if_match, validators.etag, EntityTag.strong_match)
    return _is_unmodified_since(preconditions.if_unmodified_since, validators, now) is not False


def _is_known_to_client(
    is_read: bool, preconditions: Preconditions, validators: Validators, now: datetime
) -> bool:
    """Steps 3 and 4 of RFC 9110, section 13.2.2: no needless transfer."""
    if preconditions.if_none_match is not None:
        return _matches_any(preconditions.if_none_match, validators.etag, EntityTag.weak_match)
    return is_read and _is_unmodified_since(preconditions.if_modified_since, validators, now) is True


def _matches_any(
    field: str, current: EntityTag | None, match: Callable[[EntityTag, EntityTag], bool]
) -> bool:
    if field.strip(_OWS) == "*":
        return True
    return current is not None and any(match(current, tag) for tag in parse_entity_tags(field))


def _is_unmodified_since(field: str | None, validators: Validators, now: datetime) -> bool | None:
    """Compare a date condition with the last modification; None if the condition is ignored."""
    if field is None or validators.last_modified is None:
        return None
    date = parse_http_date(field, now)
    return None if date is None else validators.last_modified.replace(microsecond=0) <= date


def _full_year(two_digits: int, within_year: tuple[int, int, int, int, int], now: datetime) -> int:
    horizon = now.year + 50
    year = horizon - (horizon - two_digits) % 100
    is_beyond = (year, *within_year) > (horizon, *now.timetuple()[1:6])
    return year - 100 if is_beyond else year
