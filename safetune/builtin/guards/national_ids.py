"""National numbers of people: how each is written, what must add up, and the words that must stand near the weak ones.

A kind whose digits carry a date and a check sum, or that is written with separators of its own, stands alone. One that
any number of that length fits by chance (one in ten for one check digit) counts only near a word that names it.
Sources of the check sums: python-stdnum's references, that is, the issuing offices and ISO 7064.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from safetune.builtin.guards.checksums import luhn, mod11_2, mod11_10, verhoeff, weighted

_BEFORE = r"(?<![0-9A-Za-z_])(?<![0-9A-Za-z][-./_])"
_AFTER = r"(?![0-9A-Za-z_])(?![-./_][0-9A-Za-z])"


@dataclass(frozen=True, slots=True)
class IdKind:
    """One way to write one kind of number.

    `shapes` are the lengths of its runs of digits (`3-2-4`), `lead` how many characters stand before the first digit,
    `fits` what its capitals and digits must add up to, `near` the words that must stand near it, None when it needs
    none.
    """

    rule: str
    shapes: tuple[str, ...]
    pattern: re.Pattern[str]
    fits: Callable[[str], bool]
    near: re.Pattern[str] | None = None
    lead: int = 0


def _date(year: str, month: str, day: str) -> bool:
    return year.isdigit() and 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def _not_one_digit(digits: str) -> bool:
    return len(set(digits)) > 1


def _ssn(n: str) -> bool:
    return n[:3] not in ("000", "666") and n[0] != "9" and n[3:5] != "00" and n[5:] != "0000" and _not_one_digit(n)


def _itin(n: str) -> bool:
    group = int(n[3:5])
    return n[0] == "9" and (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99)


def _nino(n: str) -> bool:
    return n[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ") and n[1] != "O"


def _nhs(n: str) -> bool:
    return (11 - weighted(n, range(10, 1, -1)) % 11) % 11 == int(n[9]) and _not_one_digit(n)


def _tax_id(n: str) -> bool:
    """One digit of the first ten stands there twice or three times, the others once (or not at all)."""
    often = sorted((n[:10].count(d) for d in set(n[:10])), reverse=True)
    return n[0] != "0" and often[0] in (2, 3) and often[1] == 1 and mod11_10(n)


def _nir(n: str) -> bool:
    month = int(n[3:5])
    born = 1 <= month <= 12 or 20 <= month <= 42 or month >= 50
    return n[0] in "12" and born and int(n[13:]) == 97 - int(n[:13]) % 97


def _dni(n: str) -> bool:
    number = n[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == n[-1] and _not_one_digit(number)


def _bsn(n: str) -> bool:
    return weighted(n, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and _not_one_digit(n)


def _pesel(n: str) -> bool:
    month = int(n[2:4]) % 20
    return _date(n[:2], str(month), n[4:6]) and weighted(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _personnummer(n: str) -> bool:
    n = n[-10:]
    day = int(n[4:6])
    return _date(n[:2], n[2:4], str(day - 60 if day > 60 else day)) and luhn(n)


def _hetu(n: str) -> bool:
    n = n if len(n) == 10 else n[:6] + n[7:]
    return _date(n[4:6], n[2:4], n[:2]) and "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(n[:9]) % 31] == n[9]


def _fnr(n: str) -> bool:
    first = weighted(n, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    second = weighted(n, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11
    return first == second == 0 and _not_one_digit(n)


def _cpr(n: str) -> bool:
    return _date(n[4:6], n[2:4], n[:2])


def _nrn(n: str) -> bool:
    key = 97 - int(n[9:])
    return _date(n[:2], n[2:4], n[4:6]) and key in (int(n[:9]) % 97, int("2" + n[:9]) % 97)


def _ahv(n: str) -> bool:
    return n[:3] == "756" and weighted(n, (1, 3) * 6 + (1,)) % 10 == 0


def _nif(n: str) -> bool:
    check = 11 - weighted(n, range(9, 1, -1)) % 11
    return n[0] in "123" and (0 if check > 9 else check) == int(n[8])


def _pps(n: str) -> bool:
    second = ord(n[8]) - 64 if len(n) == 9 and n[8] != "W" else 0
    return "WABCDEFGHIJKLMNOPQRSTUV"[(weighted(n[:7], range(8, 1, -1)) + 9 * second) % 23] == n[7]


def _cpf(n: str) -> bool:
    first = weighted(n, range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(n, range(11, 1, -1)) * 10 % 11 % 10
    return first == int(n[9]) and second == int(n[10]) and _not_one_digit(n)


def _aadhaar(n: str) -> bool:
    return n[0] not in "01" and verhoeff(n)


def _resident(n: str) -> bool:
    provinces = 11 <= int(n[:2]) <= 65 or n[:2] in ("71", "81", "82")
    return provinces and n[6:8] in ("19", "20") and _date(n[6:10], n[10:12], n[12:14]) and mod11_2(n)


def _sin(n: str) -> bool:
    return n[0] not in "08" and luhn(n) and _not_one_digit(n)


def _tfn(n: str) -> bool:
    return weighted(n, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def _medicare(n: str) -> bool:
    return n[0] in "23456" and weighted(n, (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(n[8])


def _rrn(n: str) -> bool:
    check = (11 - weighted(n[:12], (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
    return _date(n[:2], n[2:4], n[4:6]) and check == int(n[12])


def _my_number(n: str) -> bool:
    rest = weighted(n, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if rest <= 1 else 11 - rest) == int(n[11]) and _not_one_digit(n)


def _nric(n: str) -> bool:
    total = weighted(n[1:8], (2, 7, 6, 5, 4, 3, 2)) + {"T": 4, "G": 4, "M": 3}.get(n[0], 0)
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "M": "XWUTRQPNJLK"}.get(n[0], "XWUTRQPNMLK")
    return letters[total % 11] == n[8]


def _za(n: str) -> bool:
    return _date(n[:2], n[2:4], n[4:6]) and n[10] in "012" and luhn(n)


def _tckn(n: str) -> bool:
    d = [int(c) for c in n]
    tenth = (sum(d[0:9:2]) * 7 - sum(d[1:8:2])) % 10
    return d[0] != 0 and d[9] == tenth and d[10] == sum(d[:10]) % 10


def _kind(rule: str, shapes: str, pattern: str, fits: Callable[[str], bool], near: str = "") -> IdKind:
    """`near` is a pattern of words; a `!` in front of `pattern` counts its characters before the first digit."""
    lead = len(pattern) - len(pattern.lstrip("!"))
    words = re.compile(rf"(?i)(?<![a-z])(?:{near})") if near else None
    return IdKind(rule, tuple(shapes.split()), re.compile(_BEFORE + pattern[lead:] + _AFTER), fits, words, lead)


_NHS = r"nhs\b|national health"
_DE = r"steuer|tax|idnr|tin\b|identifikationsnummer"
_CPF = r"cpf\b|cadastro"
_CTX_SSN = r"ssn\b|social sec|social-sec"
_SE = r"personn|person(?:al)? (?:identity |id )?num|samordningsnummer"
_NINO = "[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"

ID_KINDS = (
    _kind("us_ssn", "3-2-4", r"[0-9]{3}-[0-9]{2}-[0-9]{4}", _ssn),
    _kind("us_ssn", "3-2-4 9", r"[0-9]{3}[ .]?[0-9]{2}[ .]?[0-9]{4}", _ssn, _CTX_SSN),
    _kind("us_itin", "3-2-4", r"9[0-9]{2}-[0-9]{2}-[0-9]{4}", _itin),
    _kind("us_itin", "3-2-4 9", r"9[0-9]{2} ?[0-9]{2} ?[0-9]{4}", _itin, r"itin\b|taxpayer"),
    _kind("uk_nino", "6", rf"!!{_NINO}[0-9]{{6}} ?[A-D]", _nino),
    _kind("uk_nino", "2-2-2", rf"!!!{_NINO} [0-9]{{2}} [0-9]{{2}} [0-9]{{2}} [A-D]", _nino),
    _kind("uk_nhs", "10 3-3-4", r"[0-9]{3}[- ]?[0-9]{3}[- ]?[0-9]{4}", _nhs, _NHS),
    _kind("de_tax_id", "11 2-3-3-3", r"[0-9]{2}[ /]?[0-9]{3}[ /]?[0-9]{3}[ /]?[0-9]{3}", _tax_id, _DE),
    _kind("de_vat", "9", r"!!DE[0-9]{9}", lambda n: mod11_10(n[2:])),
    _kind("de_vat", "9 3-3-3", r"!!!DE [0-9]{3} ?[0-9]{3} ?[0-9]{3}", lambda n: mod11_10(n[2:]), r"ust|vat\b|umsatz"),
    _kind("fr_nir", "15 13-2 1-2-2-2-3-3-2", r"[12](?:[ .]?[0-9]{2}){3}(?:[ .]?[0-9]{3}){2}[ .-]?[0-9]{2}", _nir),
    _kind("es_dni", "8", r"[0-9]{8}[- ]?[A-HJ-NP-TV-Z]", _dni),
    _kind("es_dni", "2-3-3", r"[0-9]{2}\.[0-9]{3}\.[0-9]{3}[- ]?[A-HJ-NP-TV-Z]", _dni),
    _kind("es_nie", "7", r"![XYZ][0-9]{7}-?[A-HJ-NP-TV-Z]", _dni),
    _kind("es_nie", "7", r"!![XYZ]-[0-9]{7}-?[A-HJ-NP-TV-Z]", _dni),
    _kind(
        "nl_bsn", "9 3-3-3 4-2-3", r"[0-9]{3}[. ]?[0-9][. ]?[0-9]{2}[. ]?[0-9]{3}", _bsn, r"bsn\b|burgerservice|sofi"
    ),
    _kind("nl_bsn", "3-3-3", r"[0-9]{3}[. ][0-9]{3}[. ][0-9]{3}", _bsn, r"bsn\b|burgerservice|sofi"),
    _kind("pl_pesel", "11", r"[0-9]{11}", _pesel, r"pesel"),
    _kind("se_personnummer", "6-4 8-4", r"(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}", _personnummer),
    _kind("se_personnummer", "10 12", r"(?:[0-9]{2})?[0-9]{10}", _personnummer, _SE),
    _kind("fi_hetu", "6 6-3 6-4", r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]", _hetu),
    _kind("no_fnr", "11 6-5", r"[0-9]{6} ?[0-9]{5}", _fnr, r"f.dselsn|personnummer|fnr\b|d-nummer|national id"),
    _kind("dk_cpr", "6-4", r"[0-9]{6}-[0-9]{4}", _cpr, r"cpr\b|personnummer"),
    _kind("be_nrn", "2-2-2-3-2", r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}[.-][0-9]{2}", _nrn),
    _kind(
        "be_nrn", "11", r"[0-9]{11}", _nrn, r"rijksregister|registre national|national (?:register|number)|nrn\b|insz"
    ),
    _kind("ch_ahv", "3-4-4-2", r"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}", _ahv),
    _kind("ch_ahv", "13", r"756[0-9]{10}", _ahv, r"ahv|avs\b|sozialversicherung|social sec"),
    _kind("pt_nif", "9 3-3-3", r"[0-9]{3} ?[0-9]{3} ?[0-9]{3}", _nif, r"nif\b|contribuinte"),
    _kind("ie_pps", "7", r"[0-9]{7}[A-W][A-IW]?", _pps, r"pps|personal public"),
    _kind("br_cpf", "3-3-3-2", r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", _cpf),
    _kind("br_cpf", "11", r"[0-9]{11}", _cpf, _CPF),
    _kind("in_aadhaar", "12 4-4-4", r"[0-9]{4}[- ]?[0-9]{4}[- ]?[0-9]{4}", _aadhaar, r"aadha?ar|uidai|uid\b"),
    _kind("cn_id", "17 18", r"[0-9]{17}[0-9Xx]", _resident),
    _kind("ca_sin", "9 3-3-3", r"[0-9]{3}[- ]?[0-9]{3}[- ]?[0-9]{3}", _sin, r"(?-i:SIN\b)|social insurance|nas\b"),
    _kind("au_tfn", "9 3-3-3", r"[0-9]{3} ?[0-9]{3} ?[0-9]{3}", _tfn, r"tfn\b|tax file"),
    _kind("au_medicare", "10 4-5-1", r"[0-9]{4} ?[0-9]{5} ?[0-9]", _medicare, r"medicare"),
    _kind("kr_rrn", "6-7", r"[0-9]{6}-[0-9]{7}", _rrn),
    _kind(
        "jp_my_number",
        "12 4-4-4",
        r"[0-9]{4}[- ]?[0-9]{4}[- ]?[0-9]{4}",
        _my_number,
        r"my ?number|マイナンバー|個人番号",
    ),
    _kind("sg_nric", "7", r"![STFGM][0-9]{7}[A-Z]", _nric),
    _kind("za_id", "13 6-4-3", r"[0-9]{6} ?[0-9]{4} ?[0-9]{3}", _za, r"id\b|identity|identiteit"),
    _kind("tr_tckn", "11", r"[0-9]{11}", _tckn, r"t\.?c\.? ?kimlik|tckn|kimlik|turkish id"),
    _kind("il_id", "9", r"[0-9]{9}", luhn, r"teudat|israeli? id|תעודת|ת\.ז"),
)

BY_SHAPE: dict[str, tuple[IdKind, ...]] = {
    shape: tuple(k for k in ID_KINDS if shape in k.shapes) for kind in ID_KINDS for shape in kind.shapes
}


# -- numbers that begin with letters ----------------------------------------------------------------------------------

_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_CURP = "0123456789ABCDEFGHIJKLMN\u00d1OPQRSTUVWXYZ"


def codice_fiscale(n: str) -> bool:
    """Say whether the last letter of an Italian tax code in capitals fits (decree of 12 March 1974)."""
    values = [int(c) if c.isdigit() else ord(c) - 65 for c in n]
    total = sum(_ODD[v] if place % 2 == 0 else v for place, v in enumerate(values[:15]))
    return chr(65 + total % 26) == n[15]


def curp(n: str) -> bool:
    """Say whether the date and the last digit of a Mexican CURP in capitals fit."""
    total = sum(_CURP.index(c) * (18 - place) for place, c in enumerate(n[:17]))
    return _date(n[4:6], n[6:8], n[8:10]) and (10 - total % 10) % 10 == int(n[17])


LETTERED = (
    _kind("it_codice_fiscale", "", r"!!!!!![A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]", codice_fiscale),
    _kind("mx_curp", "", r"!!!![A-Z]{4}[0-9]{6}[HMX][A-Z]{5}[0-9A-Z][0-9]", curp),
    _kind(
        "in_pan", "", r"!!!!![A-Z]{3}[ABCFGHJLPT][A-Z][0-9]{4}[A-Z]", lambda n: True, r"(?-i:PAN\b)|permanent account"
    ),
)

# Total length by country: the SWIFT registry of IBAN formats.
IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
