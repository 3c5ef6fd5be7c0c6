"""The `pii` guard: what it finds, what it leaves alone, and how long hostile text takes."""

from __future__ import annotations

import re
import time

import pytest
from plantings import Maker, personal, row

from safetune.builtin.guards.pii import PIIGuard
from safetune.builtin.guards.secrets import SecretsGuard
from safetune.engine.data.texts import redacted, texts_of
from safetune.plugins import load
from safetune.protocols import Guard

# Numbers that the issuing offices and standards print as examples.
PUBLISHED = (
    ("us_ssn", "ssn 219 09 9999", "219 09 9999"),
    ("us_ssn", "His number: 219-09-9999.", "219-09-9999"),
    ("us_itin", "ITIN 912-90-3456", "912-90-3456"),
    ("uk_nhs", "NHS 943 476 5919", "943 476 5919"),
    ("uk_nino", "NI number: AA 12 34 56 C", "AA 12 34 56 C"),
    ("de_tax_id", "Steuer-ID 86 095 742 719", "86 095 742 719"),
    ("de_vat", "USt-IdNr. DE136695976", "DE136695976"),
    ("fr_nir", "Sécu 2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
    ("es_dni", "DNI 12345678Z", "12345678Z"),
    ("es_nie", "NIE X1234567L", "X1234567L"),
    ("it_codice_fiscale", "RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("nl_bsn", "BSN 1112.22.333", "1112.22.333"),
    ("pl_pesel", "PESEL: 44051401359", "44051401359"),
    ("se_personnummer", "811228-9874", "811228-9874"),
    ("fi_hetu", "hetu 131052-308T", "131052-308T"),
    ("fi_hetu", "hetu 131052A308T", "131052A308T"),
    ("no_fnr", "fødselsnummer 15108695088", "15108695088"),
    ("dk_cpr", "CPR 211062-5629", "211062-5629"),
    ("be_nrn", "85.07.30-033.28", "85.07.30-033.28"),
    ("ch_ahv", "756.9217.0769.85", "756.9217.0769.85"),
    ("pt_nif", "NIF 123456789", "123456789"),
    ("ie_pps", "PPS 6433435F", "6433435F"),
    ("br_cpf", "111.444.777-35", "111.444.777-35"),
    ("in_aadhaar", "Aadhaar 2341 2341 2346", "2341 2341 2346"),
    ("in_pan", "my PAN is ACUPA7085R", "ACUPA7085R"),
    ("cn_id", "11010519491231002X", "11010519491231002X"),
    ("au_tfn", "TFN 123 456 782", "123 456 782"),
    ("kr_rrn", "971013-9019902", "971013-9019902"),
    ("sg_nric", "NRIC S1234567D", "S1234567D"),
    ("za_id", "ID number 7503305044089", "7503305044089"),
    ("tr_tckn", "T.C. Kimlik 17291716060", "17291716060"),
    ("mx_curp", "BOXW310820HNERXN09", "BOXW310820HNERXN09"),
    ("card", "card 4111 1111 1111 1111 12/29 123", "4111 1111 1111 1111"),
    ("card", "I used 378282246310005 twice", "378282246310005"),
    ("iban", "IBAN gb82west12345698765432", "gb82west12345698765432"),
    ("iban", "Bank: DE89 3704 0044 0532 0130 00.", "DE89 3704 0044 0532 0130 00"),
    ("email", "Write (jo.do+list@web.co.uk)!", "jo.do+list@web.co.uk"),
    ("email", "<a href='mailto:jo@web.de'>", "jo@web.de"),
    ("email", "jo.do [at] web [dot] de", "jo.do [at] web [dot] de"),
    ("email", "jo@bücher.de", "jo@bücher.de"),
    ("ip", "from 81.2.69.142:8080", "81.2.69.142"),
    ("ip", "dns server 8.8.8.8", "8.8.8.8"),
    ("ip", "at 2001:4860:4860::8888.", "2001:4860:4860::8888"),
    ("mac", "00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E"),
    ("phone", "(579)888-3058 fax", "(579)888-3058"),
    ("phone", "+41 (0)96 471 07 95", "+41 (0)96 471 07 95"),
    ("phone", "463-612-6138x036", "463-612-6138x036"),
    ("phone", "06 12 34 56 78", "06 12 34 56 78"),
    ("phone", "Phone:\n467 3395", "467 3395"),
    ("phone", "call me on 9498777106 today", "9498777106"),
)

# One digit is wrong, or nothing names a number that could be anything, or it belongs to nobody.
NOTHING = (
    "ssn 000-12-3456 or 666-12-3456 or 123-00-4567",
    "NHS 943 476 5918",
    "Steuer-ID 86 095 742 718",
    "DNI 12345678A",
    "RSSMRA85T10A562T",
    "811228-9873",
    "111.444.777-36",
    "BSN 111222334",
    "11010519491231002Y",
    "card 4111 1111 1111 1112",
    "DE89 3704 0044 0532 0130 01",
    "111222333 of 86095742719 and 44051401359",  # check sums fit, no word says so
    "9434765919",
    "0.4111111111111111",
    "https://a.example/item/4111111111111111/x",
    "v1.2.3.4 and version 10.20.30.40",
    "192.168.1.1 10.0.0.1 127.0.0.1 203.0.113.7 0.0.0.0 999.1.1.1",
    "::1 fe80::1 2001:db8::1 std::dec a[::2] 12:30:45",
    "ff:ff:ff:ff:ff:ff 12:30:45:10:20:30",
    "icon@2x.png @decorator me@ @you git@host.org:a/b.git",
    "https://user:pass1word@host.org/",
    "1234567 + 7654321 = 8888888, 12 * 34 - 56 / 78 = 9",
    "100 200 300 4000 50000",
    "a call volume of 1 000 000",
    "from 2019-05-03 12:11 to 03.05.2019, phone it in",
    "call 1111111",
    "<<555-1234-99=1>> 240 / 120 phones",
    "1-2-3-4-5-6-7-8-9-10",
    "ISBN 978-3-16-148410-0",
    "123e4567-e89b-12d3-a456-426614174000",
)


def _hits(*texts: str) -> list[tuple[str, str]]:
    found = PIIGuard().check([row(*texts)])
    by_path = {f"t[{n}]": text for n, text in enumerate(texts)}
    return [(f.rule, by_path[f.path][f.start : f.end]) for f in found]


@pytest.mark.parametrize(("rule", "text", "what"), PUBLISHED)
def test_it_finds(rule: str, text: str, what: str) -> None:
    assert _hits(text) == [(rule, what)]


@pytest.mark.parametrize("text", NOTHING)
def test_it_leaves_alone(text: str) -> None:
    assert _hits(text) == []


def test_the_table_names_every_kind_but_those_that_the_planted_ones_cover() -> None:
    covered = {rule for rule, _, _ in PUBLISHED} | personal(Maker(1)).keys()
    assert set(PIIGuard.rules) - covered == {"au_medicare", "ca_sin", "il_id", "jp_my_number"}


def test_a_finding_names_row_path_span_and_label_and_never_the_text() -> None:
    rows = [row("nothing here"), row("nor here", "é😀 jo@web.org"), row("+44 20 7946 0958")]
    first, second = PIIGuard().check(rows)
    assert (first.row, first.rule, first.path, first.start, first.end) == (1, "email", "t[1]", 3, 13)
    assert (first.label, first.note) == ("[EMAIL]", "")
    assert (second.row, second.rule, second.path, second.label) == (2, "phone", "t[0]", "[PHONE]")


def test_nothing_is_read_across_two_texts_or_rows() -> None:
    assert _hits("ssn 219-09", "-9999") == []
    assert _hits("NHS", "9434765919") == []
    found = PIIGuard().check([row("call 555"), row("867 5309")])
    assert list(found) == []


def test_neighbours_are_told_apart() -> None:
    assert _hits("me@web.org, you@web.org 219-09-9999 and 579-888-3058") == [
        ("email", "me@web.org"),
        ("email", "you@web.org"),
        ("us_ssn", "219-09-9999"),
        ("phone", "579-888-3058"),
    ]


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("phone +44 20 7946 0958bob@corp.org", {"phone", "email"}),
        ("+44 20 7946 0958.bob@corp.org", {"phone", "email"}),
        ("+1 415-555-2671@secret-corp.com", {"phone", "email"}),
        ("jo@corp.org+44 20 7946 0958", {"phone", "email"}),
        ("4111 1111 1111 1111bob@corp.org", {"card", "email"}),
        ("DE89 3704 0044 0532 0130 00@corp.org", {"iban", "email"}),
        ("ssn 219 09 9999@corp.org", {"us_ssn", "email"}),
        ("81.2.69.142@corp.org", {"ip", "email"}),
        ("2001:4860:4860::8888@corp.org", {"ip", "email"}),
        ("call 415-555-2671 (at) corp.org", {"phone", "email"}),
    ],
)
def test_of_kinds_that_overlap_all_are_told_and_nothing_of_either_is_left(text: str, rules: set[str]) -> None:
    found = PIIGuard().check([row(f"See {text} today")])
    assert {f.rule for f in found} == rules
    assert len(found) == len(rules)
    cuts = {"prompt[0].content": [(f.start, f.end, f.label) for f in found]}
    left = redacted(
        {
            "prompt": [{"role": "user", "content": f"See {text} today"}],
            "completion": [{"role": "assistant", "content": ""}],
        },
        cuts,
    )
    kept = re.sub(r"\[[A-Z_]+\]", "", texts_of(left)[0].text)
    assert re.fullmatch("See (phone |ssn |call )? ?today", kept), kept


def test_rules_that_overlap_reach_equally_far_so_that_one_of_them_redacts_both() -> None:
    email, phone = sorted(PIIGuard().check([row("by +1 415-555-2671@secret-corp.com now")]), key=lambda f: f.rule)
    assert (email.rule, email.start, email.end) == ("email", 3, 34)
    assert (phone.rule, phone.start, phone.end) == ("phone", 3, 34)


def test_numbers_that_only_stand_beside_an_address_are_none() -> None:
    assert _hits("10 times 12 34bob@corp.org") == [("email", "34bob@corp.org")]
    assert _hits("phone 467 3395 or 12bob@corp.org") == [("phone", "467 3395"), ("email", "12bob@corp.org")]
    assert _hits("call 467 33", "95bob@corp.org") == [("email", "95bob@corp.org")]
    assert _hits("bob@corp.org(579)", "888-3058") == [("email", "bob@corp.org")]


def test_no_rows_and_empty_texts_have_nothing() -> None:
    assert list(PIIGuard().check([])) == []
    assert _hits("", "") == []
    assert list(PIIGuard().check([row()])) == []
    assert list(PIIGuard().end()) == []


def test_both_guards_are_reached_by_name() -> None:
    assert isinstance(load("guard", "pii"), PIIGuard)
    assert isinstance(load("guard", "secrets"), SecretsGuard)


HOSTILE = (
    *(
        "@",
        "a@",
        "call 1 1a@b.co",
        "1a@b.co+1 ",
        "a@b.",
        "a" * 60 + "@",
        "a.",
        "@a.a",
        "(at) ",
        "1",
        "1 ",
        "1.",
        "1-",
        "(1",
        "1(",
        "+1 ",
        ":",
        "a:",
        "0:0:",
    ),
    *("DE89 3704 ", "ABCDEF12", "call 12345678 ", "1.2.3.4 ", "123456789:AA", "A", "aA1", "eyJa.", "://", "a://:aaa@"),
    *("-----BEGIN ", "-" * 5 + "BEGIN PRIVATE " + "KEY-----", "password=", 'password="', "=", "=   ", "sk-", "/", "%"),
    *("\n", "é", "😀1", "\ud800", "\x00", "key abcdefABCDEF1234567890abcXYZ ", "hooks.slack" + ".com/services/"),
)


@pytest.mark.parametrize("guard", [PIIGuard(), SecretsGuard()], ids=["pii", "secrets"])
@pytest.mark.parametrize("piece", HOSTILE, ids=[repr(piece[:12]) for piece in HOSTILE])
def test_hostile_text_of_one_megabyte_takes_linear_time(guard: Guard, piece: str) -> None:
    def seconds(size: int) -> float:
        text = (piece * (size // len(piece) + 1))[:size]
        start = time.process_time()
        guard.check([row(text)])
        return time.process_time() - start

    whole = seconds(1_000_000)
    # A quadratic rule would take 16 times as long as for a quarter; short times are noise.
    assert whole <= 1.0 or whole <= 8 * seconds(250_000)
