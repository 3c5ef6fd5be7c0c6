"""Telephone numbers: international by country code and length (ITU-T E.164), national by the way they are written.

A number in a national form that nothing else has (a North American one, one that begins with the trunk 0) stands
alone. Any other run of 7 to 12 digits is a telephone number only near a word that says so.
"""

from __future__ import annotations

import re

# Country codes, and how many digits may follow where that is fixed; 6 to 12 elsewhere.
_WRITTEN = (
    "1 7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 "
    "81 82 84 86 90 91 92 93 94 95 98 211 212 213 216 218 220 221 222 223 224 225 226 227 228 229 230 231 "
    "232 233 234 235 236 237 238 239 240 241 242 243 244 245 246 248 249 250 251 252 253 254 255 256 257 258 "
    "260 261 262 263 264 265 266 267 268 269 290 291 297 298 299 350 351 352 353 354 355 356 357 358 359 370 "
    "371 372 373 374 375 376 377 378 380 381 382 383 385 386 387 389 420 421 423 500 501 502 503 504 505 506 "
    "507 508 509 590 591 592 593 594 595 596 597 598 599 670 672 673 674 675 676 677 678 679 680 681 682 683 "
    "685 686 687 688 689 690 691 692 850 852 853 855 856 880 886 960 961 962 963 964 965 966 967 968 970 971 "
    "972 973 974 975 976 977 992 993 994 995 996 998"
)
_CODES = frozenset(_WRITTEN.split())
_LENGTHS = {
    "1": (10, 10), "7": (10, 10), "31": (9, 9), "33": (9, 9), "34": (9, 9), "41": (8, 10), "44": (9, 10), "45": (8, 8),
    "47": (8, 8), "48": (9, 9), "55": (10, 11), "61": (9, 9), "81": (9, 10), "86": (8, 11), "91": (10, 10),
}  # fmt: skip

_EXTENSION = r"(?: ?(?:x|ext\.?) ?[0-9]{1,6})?"
_AFTER = r"(?![0-9A-Za-z_%])(?![-./,:][0-9]| ?[=*])"
_FORMS = re.compile(
    r"(?<![0-9A-Za-z_+])(?<![0-9A-Za-z][-./_=])(?<![$€£¥#])(?:"
    r"(?P<international>(?:\+|(?<![0-9] )00)[1-9][0-9 .\-()/]{5,20}[0-9])"
    rf"|(?:1[ .-]?)?(?:\([2-9][0-9]{{2}}\) ?|[2-9][0-9]{{2}}[.-])[2-9][0-9]{{2}}[ .-]?[0-9]{{4}}{_EXTENSION}"
    r"|(?<![0-9] )0[1-9](?:([ .-])[0-9]{2})(?:\2[0-9]{2}){3}"
    r"|(?P<trunk>(?<![0-9] )\(?0[1-9][0-9]{0,4}\)?(?:[ /-]| - )[0-9]{2,8}(?:[ -][0-9]{2,4}){0,4})"
    rf"){_AFTER}"
)
_LOOSE = re.compile(rf"(?<![0-9A-Za-z_$€£¥#.<=*+/])\(?[0-9](?:[ .\-()/]{{0,2}}[0-9]){{6,13}}{_EXTENSION}{_AFTER}")
LEAST_DIGITS, _LEAST_ALONE = 7, 9
_DATE = re.compile(
    r"(?:(?:19|20)[0-9]{2}[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:0?[1-9]|[12][0-9]|3[01])"
    r"|(?:0?[1-9]|[12][0-9]|3[01])[-/. ](?:0?[1-9]|[12][0-9]|3[01])[-/. ](?:19|20)[0-9]{2})(?![0-9])"
)
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?: [0-9]{3})* 000(?: 000)*")
_NEAR_BEFORE = re.compile(
    r"(?i)(?:phone|mobile|\bcell|\btel\b|telef|t[eé]l[eé]ph|whatsapp|\bsms\b|\bfax|\bcall(?:ed|ing)?\b|\bdial|\bdesk:|hotline|"
    r"\bring\b|handy|m[oó]vil|celular|cellulare|\btext me|\bmessages? to\b|answering at|registered|"
    r"\breach (?:me|us|him|her|them)|"
    r"\boffice:|\bcontact (?:me|us|number|no)|電話|电话|手机|тел)[^0-9]{0,30}$"
)
_NEAR_AFTER = re.compile(r"(?i)[\s(\[,:-]{0,3}(?:phone|mobile|cell|tel|fax|office|home|work|desk)\b")


def phone(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return where a telephone number is in the island of digits from `start` to `end`, or None.

    `text` should hold what surrounds the island: signs in front of it and words near it count.
    """
    if sum(c.isdigit() for c in text[start:end]) >= _LEAST_ALONE:
        for found in _FORMS.finditer(text, max(0, start - 2)):
            if found.start() >= end:
                break
            if _fits(found):
                return found.span()
    loose = _LOOSE.search(text, max(0, start - 1), start + 40)
    if loose is None or loose.start() >= end or not _near(text, loose) or not _could_be(loose.group()):
        return None
    opened = loose.group().startswith("(") and ")" not in loose.group()
    return loose.start() + opened, loose.end()


def _fits(found: re.Match[str]) -> bool:
    kind = found.lastgroup
    if kind == "international":
        return _international(found.group())
    if kind == "trunk":
        digits = sum(c.isdigit() for c in found.group())
        return 9 <= digits <= 11 and _DATE.match(found.group()) is None
    return True


def _international(written: str) -> bool:
    digits = re.sub(r"\(0\)|[^0-9]", "", written)
    digits = digits[2:] if written.startswith("00") else digits
    code = next((digits[:n] for n in (1, 2, 3) if digits[:n] in _CODES), "")
    least, most = _LENGTHS.get(code, (6, 12))
    return bool(code) and least <= len(digits) - len(code) <= most and written.count("(") == written.count(")")


def _could_be(written: str) -> bool:
    digits = re.sub(r"[^0-9]", "", re.split("x|ext", written)[0])
    runs = re.findall(r"[0-9]+", written)
    if not 7 <= len(digits) <= 12 or len(runs) > 7 or len(set(digits)) < 3 or any(len(r) < 2 for r in runs[1:]):
        return False
    return _DATE.match(written) is None and _THOUSANDS.fullmatch(written) is None


def _near(text: str, found: re.Match[str]) -> bool:
    before = text[max(0, found.start() - 50) : found.start()]
    return bool(_NEAR_BEFORE.search(before) or _NEAR_AFTER.match(text, found.end()))
