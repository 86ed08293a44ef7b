"""Captions: files of two kinds in, WebVTT out; and the tags of their languages.

What comes out is written anew and has nothing but cues: their times, in order; the settings
that place them; their text, with the tags of WebVTT nested as a browser would nest them, and
everything else in it escaped. Notes, styles, regions and identifiers are left behind.

Sources: W3C, "WebVTT: The Web Video Text Tracks Format", sections 4 (syntax) and 6 (parsing).
SubRip has no specification: it is numbered cues, times with a comma, tags like those of HTML,
and ``{\\an8}``, from Advanced SubStation Alpha, for text at the top.
"""

import codecs
import html
import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from streamer.errors import BodyTooLarge, FieldError, InvalidInput, MalformedRequest

MAX_BYTES = 2**20
MAX_CUES = 50_000
MAX_DEPTH = 16  # of tags in each other; players draw them by recursion
MAX_TAG = 35  # characters of a language tag, RFC 5646, section 4.4.1

_HEADER = re.compile(r"WEBVTT(?![^ \t\n])")
_CONTROLS = re.compile("[\x01-\x08\x0b\x0e-\x1f\x7f-\x9f]")
_CONTROLS_AND_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f]")
_CLOCK = "(?:([0-9]{1,6}):)?([0-5]?[0-9]):([0-5]?[0-9])"
_TIME = rf"{_CLOCK}[.,]([0-9]{{3}})(?![0-9])"
_TIME_IN_THE_WILD = rf"{_CLOCK}(?:[.,:][ \t]?([0-9]{{1,3}}))?(?![0-9.,:])"
_TIMES = re.compile(rf"[ \t]*{_TIME_IN_THE_WILD}[ \t]*-->[ \t]*{_TIME_IN_THE_WILD}(.*)")
_NEGATIVE_TIME = re.compile(f"(?<![0-9])-{_TIME_IN_THE_WILD}")
_LIKE_A_TIME = re.compile("[0-9]:[0-9]")
_NOTE = re.compile(r"NOTE(?![^ \t])")

_PERCENT = r"(?:100(?:\.0{1,6})?|[0-9]{1,2}(?:\.[0-9]{1,6})?)%"
_SETTINGS = {
    name: re.compile(pattern)
    for name, pattern in (
        ("vertical", "rl|lr"),
        ("line", rf"(?:-?[0-9]{{1,4}}|{_PERCENT})(?:,(?:start|center|end))?"),
        ("position", rf"{_PERCENT}(?:,(?:line-left|center|line-right))?"),
        ("size", _PERCENT),
        ("align", "start|center|end|left|right"),
    )
}

_MARKUP = re.compile(
    r"<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9]*)(?P<classes>\.[^\s<>&]*)?(?:\s(?P<annotation>[^<>]*))?>"
    rf"|<{_TIME}>"
    r"|(?:&(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});)+"
)
_TAGS = {"c", "i", "b", "u", "ruby", "rt", "v", "lang"}

_SUBRIP_MARKUP = re.compile(
    r"<(?P<end>/?)(?P<name>[ibu])>|</?(?:font\b[^<>]*|s)>|\{\\[^{}]*\}", re.IGNORECASE | re.ASCII
)
_SUBRIP_NUMBER = re.compile("[ \t]*[0-9]+[ \t]*")
_AT_THE_TOP = re.compile(r"\{\\an[789]\}")

_LANGUAGE_TAG = re.compile(
    r"(?:[a-z]{2,3}(?:-[a-z]{3}){0,3}|[a-z]{4,8})"  # language
    r"(?:-[a-z]{4})?"  # script
    r"(?:-(?:[a-z]{2}|[0-9]{3}))?"  # region
    r"(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"  # variants
    r"(?:-[0-9a-wyz](?:-[a-z0-9]{2,8})+)*"  # extensions
    r"(?:-x(?:-[a-z0-9]{1,8})+)?"  # private use
    r"|x(?:-[a-z0-9]{1,8})+"
)

# ISO 639-2, both of its codes where there are two, and ISO 639-1.
_SHORTEST: dict[str, str] = dict(
    re.findall(
        r"(\w+):(\w+)",
        """
    aar:aa abk:ab afr:af aka:ak alb:sq amh:am ara:ar arg:an arm:hy asm:as ava:av ave:ae aym:ay aze:az bak:ba
    bam:bm baq:eu bel:be ben:bn bih:bh bis:bi bod:bo bos:bs bre:br bul:bg bur:my cat:ca ces:cs cha:ch che:ce
    chi:zh chu:cu chv:cv cor:kw cos:co cre:cr cym:cy cze:cs dan:da deu:de div:dv dut:nl dzo:dz ell:el eng:en
    epo:eo est:et eus:eu ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fre:fr fry:fy ful:ff geo:ka ger:de gla:gd
    gle:ga glg:gl glv:gv gre:el grn:gn guj:gu hat:ht hau:ha heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy
    ibo:ig ice:is ido:io iii:ii iku:iu ile:ie ina:ia ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn
    kas:ks kat:ka kau:kr kaz:kk khm:km kik:ki kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la
    lav:lv lim:li lin:ln lit:lt ltz:lb lub:lu lug:lg mac:mk mah:mh mal:ml mao:mi mar:mr may:ms mkd:mk mlg:mg
    mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr nde:nd ndo:ng nep:ne nld:nl nno:nn nob:nb nor:no
    nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa per:fa pli:pi pol:pl por:pt pus:ps que:qu roh:rm ron:ro
    rum:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slo:sk slv:sl sme:se smo:sm sna:sn snd:sd som:so sot:st
    spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv tah:ty tam:ta tat:tt tel:te tgk:tg tgl:tl tha:th
    tib:bo tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz ven:ve vie:vi vol:vo
    wel:cy wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh zul:zu
        """,
    )
)


class _Cue(NamedTuple):
    """``start`` and ``end`` are in milliseconds; ``settings`` has a blank before each of them."""

    start: int
    end: int
    settings: str
    text: str


def to_webvtt(data: bytes) -> str:
    """Captions in WebVTT or SubRip as WebVTT, with its header and with a line feed at the end of each line.

    The file is WebVTT if it begins as that, else SubRip. It is UTF-16 with a byte order mark, UTF-8
    with or without one, or else Windows-1252. Cues that are never seen are left out: those without text,
    and those that end before they begin.

    Raises BodyTooLarge for more than ``MAX_BYTES``, and MalformedRequest for what is not text, for a line of
    times that cannot be understood, for more than ``MAX_CUES`` cues, and where there is none to be seen.
    """
    if len(data) > MAX_BYTES:
        raise BodyTooLarge(MAX_BYTES)
    text = _decode(data)
    blocks, read = (_webvtt_blocks, _webvtt_cue) if _HEADER.match(text) else (_subrip_blocks, _subrip_cue)
    cues = []
    for count, (times, lines) in enumerate(blocks(text.split("\n")), 1):
        if count > MAX_CUES:
            _refuse(f"the limit is {MAX_CUES} cues")
        cue = read(times, "\n".join(lines))
        if cue.start < cue.end and cue.text:
            cues.append(cue)
    if not cues:
        _refuse("no cue has been found: it has to be WebVTT or SubRip (SRT)")
    cues.sort(key=lambda cue: cue.start)
    return "WEBVTT\n" + "".join(
        f"\n{_time(cue.start)} --> {_time(cue.end)}{cue.settings}\n{cue.text}\n" for cue in cues
    )


def _decode(data: bytes) -> str:
    """The text without byte order mark and controls; lines end with a line feed."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig"] if data.startswith(codecs.BOM_UTF8) else ["utf-8", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        _refuse("it is not text in UTF-8, UTF-16 with a byte order mark, or Windows-1252")
    if "\0" in text:
        _refuse("it is not text: there are NUL characters in it")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", " ")
    return _CONTROLS.sub("", text)


def _webvtt_blocks(lines: list[str]) -> Iterator[tuple[re.Match[str], list[str]]]:
    """The times of each cue, and the lines below them up to an empty one, or to the times of the next.

    An arrow has times around it, or is in a comment or in the text of a cue.
    """
    times: re.Match[str] | None = None
    text: list[str] = []
    before, is_note = "", False
    for number, line in enumerate(lines, 1):
        is_note = bool(line) and (is_note if before else bool(_NOTE.match(line)))
        found = _TIMES.match(line) if "-->" in line else None
        if times and (found or not line):
            yield times, text
            times = None
        if found:
            times, text = found, []
        elif times:
            text.append(line)
        elif "-->" in line and not is_note:
            _refuse_times(number)
        before = line
    if times:
        yield times, text


def _subrip_blocks(lines: list[str]) -> Iterator[tuple[re.Match[str], list[str]]]:
    """The times of each cue, and the lines below them up to the number, or else the times, of the next.

    So there can be empty lines in a text, and arrows; but what is like times where they would be has to
    be such. Tools that shift the times of a file leave some before 0, which are 0 here.
    """
    times: re.Match[str] | None = None
    text: list[str] = []
    for number, line in enumerate(lines, 1):
        found = _TIMES.match(_NEGATIVE_TIME.sub("00:00", line)) if "-->" in line else None
        if found:
            if times:
                yield times, _without_number(text)
            times, text = found, []
        elif "-->" in line and not (times and _is_text(line, text)):
            _refuse_times(number)
        elif times:
            text.append(line.strip(" \t") and line)
    if times:
        while text and not text[-1]:
            text.pop()
        yield times, _without_number(text) if text[-2:-1] == [""] else text


def _is_text(line: str, before: list[str]) -> bool:
    """Whether a line with an arrow that has no times is text, by the lines of the cue before it."""
    is_behind_a_gap = not all(_without_number(before[-2:])[-1:])
    return not (is_behind_a_gap and _LIKE_A_TIME.search(line))


def _without_number(lines: list[str]) -> list[str]:
    """The text of a cue that is followed by the number of the next one."""
    return lines[:-1] if lines and _SUBRIP_NUMBER.fullmatch(lines[-1]) else lines


def _webvtt_cue(times: re.Match[str], text: str) -> _Cue:
    start, end, settings = _fields(times)
    return _Cue(start, end, _settings(settings), _from_webvtt(text, start, end))


def _subrip_cue(times: re.Match[str], text: str) -> _Cue:
    start, end, _ = _fields(times)
    return _Cue(start, end, " line:0" if _AT_THE_TOP.search(text) else "", _from_subrip(text))


def _fields(times: re.Match[str]) -> tuple[int, int, str]:
    """Start and end in milliseconds, and what is behind them."""
    fields = times.groups()
    return _milliseconds(*fields[:4]), _milliseconds(*fields[4:8]), fields[8]


def _settings(text: str) -> str:
    """The settings that are valid (4.4 and 6.3); of one that is given twice, the last."""
    valid = {}
    for setting in text.split():
        name, _, value = setting.partition(":")
        if name in _SETTINGS and _SETTINGS[name].fullmatch(value):
            valid[name] = value
    return "".join(f" {name}:{value}" for name, value in valid.items())


def _from_subrip(text: str) -> str:
    """The text of a cue of SubRip: three tags are the same, others are dropped, and all else is text."""
    parts, open_tags, at = [], list[str](), 0
    for markup in _SUBRIP_MARKUP.finditer(text):
        parts.append(_escape(text[at : markup.start()]))
        at = markup.end()
        if name := (markup["name"] or "").lower():
            parts.append(_close(name, open_tags) if markup["end"] else _open(name, "", "", open_tags))
    parts.append(_escape(text[at:]))
    return _joined(parts, open_tags)


def _from_webvtt(text: str, start: int, end: int) -> str:
    """The text of a cue with nothing in it but lines, well-formed tags and what they are around.

    Tags are opened and closed by the rules of the parser (6.4): an end tag that is not that of the
    innermost open tag is dropped, and what is open at the end is closed there. A timestamp has to be
    within the cue, and behind those before it.
    """
    parts, open_tags, at = [], list[str](), 0
    for markup in _MARKUP.finditer(text):
        parts.append(_escape(text[at : markup.start()]))
        at = markup.end()
        if name := markup["name"]:
            classes, annotation = markup["classes"] or "", markup["annotation"] or ""
            tag = _close(name, open_tags) if markup["end"] else _open(name, classes, annotation, open_tags)
            parts.append(tag)
        elif markup[0].startswith("<"):
            moment = _milliseconds(*markup.groups()[4:8])
            if start < moment < end:
                start = moment
                parts.append(f"<{_time(moment)}>")
        else:
            parts.append(_escape(_characters(markup)))
    parts.append(_escape(text[at:]))
    return _joined(parts, open_tags)


def _joined(parts: list[str], open_tags: list[str]) -> str:
    """The parts of a text with all tags closed, and without lines that have nothing in them."""
    parts += [f"</{name}>" for name in reversed(open_tags)]
    return "\n".join(line for line in "".join(parts).split("\n") if line.strip(" \t"))


def _open(name: str, classes: str, annotation: str, open_tags: list[str]) -> str:
    """A start tag, or nothing for one that is unknown or out of place."""
    annotation = _annotation(annotation) if name in {"v", "lang"} else ""
    if (
        name not in _TAGS
        or len(open_tags) == MAX_DEPTH
        or (name == "rt" and open_tags[-1:] != ["ruby"])
        or (name == "v" and not annotation)
        or (name == "lang" and not _LANGUAGE_TAG.fullmatch(annotation.lower()))
    ):
        return ""
    classes = "".join(f".{each}" for each in classes.split(".") if each)
    tag = f"<{name}{classes}{annotation and ' '}{annotation}>"
    if tag.endswith("-->"):
        return ""  # the end of this tag would be an arrow, which no text may have
    open_tags.append(name)
    return tag


def _close(name: str, open_tags: list[str]) -> str:
    """An end tag, or nothing for one that is not that of the innermost open tag."""
    if name == "ruby" and open_tags[-2:] == ["ruby", "rt"]:
        del open_tags[-2:]
        return "</rt></ruby>"
    if open_tags[-1:] != [name]:
        return ""
    open_tags.pop()
    return f"</{name}>"


def _annotation(text: str) -> str:
    return _escape(" ".join(_MARKUP.sub(_characters, text).split()))


def _characters(references: re.Match[str]) -> str:
    """What character references of HTML stand for, with a blank for each control or line break."""
    return _CONTROLS_AND_BREAKS.sub(" ", html.unescape(references[0]))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _milliseconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> int:
    thousandths = int((fraction or "").ljust(3, "0"))
    return ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + thousandths


def _time(milliseconds: int) -> str:
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{thousandths:03}"


def language_tag(text: str) -> str:
    """A well-formed language tag in its canonical form: ``en-US``, ``zh-Hant-TW``.

    The language has its shortest code: ``eng``, ``ger`` and ``deu``, as containers have it, are ``en``
    and ``de``. Whether the subtags are registered is not asked. Tags that are well-formed only because they
    are older than the rules (``i-klingon``) are refused; nearly all of them have been replaced since.

    Raises InvalidInput. Source: RFC 5646 (BCP 47), sections 2.1, 2.1.1 and 2.2.1.
    """
    lower = text.lower()
    if len(text) > MAX_TAG or not text.isascii() or not _LANGUAGE_TAG.fullmatch(lower):
        raise InvalidInput(
            FieldError(
                "language", f"must be a language tag like en or pt-BR, of at most {MAX_TAG} characters"
            )
        )
    first, *others = lower.split("-")
    subtags = [_SHORTEST.get(first, first)]
    for subtag in others:
        is_free = any(len(before) == 1 for before in subtags)
        subtags.append(subtag if is_free else _cased(subtag))
    return "-".join(subtags)


def _cased(subtag: str) -> str:
    """Regions, of two letters, are in capitals; scripts, of four, begin with one."""
    return {2: subtag.upper(), 4: subtag.capitalize()}.get(len(subtag), subtag)


def _refuse_times(number: int) -> NoReturn:
    _refuse(f"line {number} is not like 00:01:02.500 --> 00:01:04.000")


def _refuse(detail: str) -> NoReturn:
    raise MalformedRequest("malformed_captions", f"these captions cannot be read: {detail}")
