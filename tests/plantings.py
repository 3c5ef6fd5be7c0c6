"""Personal data and secrets that belong to nobody, drawn by format, and real rows of public sets to plant them in.

No literal here has the form of a secret: prefixes are put together when a test runs.
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
import random
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from safetune.builtin.guards import accounts, checksums, national_ids
from safetune.protocols import DataRow, Text

ALNUM = string.ascii_letters + string.digits
URL64 = ALNUM + "_-"
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits


def row(*texts: str, line: int = 1) -> DataRow:
    """Return a row of texts as a guard sees it."""
    return DataRow(f"row-{line}", line, tuple(Text(f"t[{n}]", "", text) for n, text in enumerate(texts)), {})


def real_rows(root: Path, count: int) -> list[DataRow]:
    """Return the first `count` rows of the public sets, always the same."""
    rows: list[DataRow] = []
    for texts in _texts(root):
        if len(rows) == count:
            break
        rows.append(row(*texts, line=len(rows) + 1))
    return rows


def _texts(root: Path) -> Iterator[Sequence[str]]:
    for name in ("gsm8k/train_first2000.jsonl", "finetuning_attacks/databricks-dolly-15k-safety-only.jsonl"):
        for line in (root / name).read_text().splitlines():
            yield [str(v) for v in json.loads(line).values()]
    with gzip.open(root / "hh_rlhf_harmless/harmless_base_test.jsonl.gz", "rt") as lines:
        for line in lines:
            yield [str(v) for v in json.loads(line).values()]
    for name in ("gsm8k/test.jsonl", "coconot/coconot_pref.jsonl", "model_written_evals/survival-instinct.jsonl"):
        for line in (root / name).read_text().splitlines():
            yield [v for v in json.loads(line).values() if isinstance(v, str)]
    for name in ("xstest/xstest_v2_completions_gpt4.csv", "hatecheck/test_suite_cases.csv"):
        with (root / name).open(newline="") as table:
            yield from csv.reader(table)


class Maker:
    """Draws examples, always the same for a seed."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)

    def of(self, letters: str, count: int) -> str:
        """Return `count` characters, each from `letters`."""
        return "".join(self.r.choice(letters) for _ in range(count))

    def digits(self, count: int) -> str:
        """Return digits; the first is not 0."""
        return self.of("123456789", 1) + self.of(string.digits, count - 1)

    def until(self, fits: Callable[[str], bool], draw: Callable[[], str]) -> str:
        """Return the first draw that fits."""
        while not fits(drawn := draw()):
            pass
        return drawn

    def date(self) -> str:
        """Return a day as YYMMDD."""
        return f"{self.r.randint(50, 99)}{self.r.randint(1, 12):02}{self.r.randint(1, 28):02}"


_FITS = {kind.rule: kind.fits for kind in (*national_ids.ID_KINDS, *national_ids.LETTERED)}


def _national(m: Maker, rule: str) -> str:
    """Return a number of the kind `rule`, without separators."""
    draws: dict[str, Callable[[], str]] = {
        "us_ssn": lambda: m.digits(9),
        "uk_nhs": lambda: m.digits(10),
        "de_tax_id": lambda: (lambda nine: nine + nine[0] + m.of(string.digits, 1))(
            "".join(m.r.sample("123456789", 9))
        ),
        "de_vat": lambda: "DE" + m.digits(9),
        "fr_nir": lambda: m.of("12", 1) + m.date()[:4] + "75" + m.digits(6) + m.of(string.digits, 2),
        "es_dni": lambda: m.digits(8) + m.of("TRWAGMYFPDXBNJZSQVHLCKE", 1),
        "nl_bsn": lambda: m.digits(9),
        "pl_pesel": lambda: m.date() + m.digits(5),
        "se_personnummer": lambda: m.date() + m.digits(4),
        "br_cpf": lambda: m.digits(11),
        "in_aadhaar": lambda: m.digits(12),
        "cn_id": lambda: "11010519" + m.date() + m.digits(3) + m.of("0123456789X", 1),
        "it_codice_fiscale": lambda: "RSSMRA" + m.date()[:2] + "T10A" + m.digits(3) + m.of(string.ascii_uppercase, 1),
    }
    return m.until(_FITS[rule], draws[rule])


def personal(m: Maker) -> dict[str, str]:
    """Return one sentence for each structured kind, `<<` and `>>` around what must be found, by rule."""
    card = m.until(lambda n: accounts.card(n, ""), lambda: "4" + m.of(string.digits, 15))
    iban = m.until(checksums.mod97, lambda: f"DE{m.r.randint(2, 98):02}{m.digits(18)}")
    ssn, cpf, swedish = (_national(m, rule) for rule in ("us_ssn", "br_cpf", "se_personnummer"))
    phones = (
        f"Ring <<+49 151 {m.digits(8)}>> tonight.",
        f"It is <<{m.of('23456789', 3)}-{m.of('23456789', 3)}-{m.of(string.digits, 4)}>> I think.",
        f"My mobile is <<{m.digits(3)} {m.digits(3)} {m.digits(3)}>>.",
        f"The number: <<020 {m.digits(4)} {m.digits(4)}>>",
    )
    octets = ".".join(str(m.r.randint(21, 250)) for _ in range(3))
    return {
        "email": f"Write to <<{m.of(string.ascii_lowercase, 9)}@{m.of(string.ascii_lowercase, 6)}.org>> soon.",
        "phone": m.r.choice(phones),
        "card": f"He paid with <<{card[:4]} {card[4:8]} {card[8:12]} {card[12:]}>>, then left.",
        "iban": f"Send it to <<{' '.join(iban[n : n + 4] for n in range(0, 22, 4))}>>.",
        "ip": f"It came from <<{m.r.randint(20, 99)}.{octets}>> again.",
        "mac": f"The card is <<{':'.join(m.of(HEX, 1) + m.of('abcdef', 1) for _ in range(6))}>> now.",
        "us_ssn": f"She wrote <<{ssn[:3]}-{ssn[3:5]}-{ssn[5:]}>> there.",
        "uk_nino": f"NI: <<{m.of('ABCEHJLM', 2)}{m.digits(6)}{m.of('ABCD', 1)}>>.",
        "uk_nhs": f"NHS number <<{_national(m, 'uk_nhs')}>>.",
        "de_tax_id": f"Steuer-ID: <<{_national(m, 'de_tax_id')}>>.",
        "de_vat": f"USt-IdNr. <<{_national(m, 'de_vat')}>>.",
        "fr_nir": f"Sécu <<{_national(m, 'fr_nir')}>>.",
        "es_dni": f"DNI <<{_national(m, 'es_dni')}>>.",
        "nl_bsn": f"BSN <<{_national(m, 'nl_bsn')}>>.",
        "pl_pesel": f"PESEL <<{_national(m, 'pl_pesel')}>>.",
        "se_personnummer": f"Hon är <<{swedish[:6]}-{swedish[6:]}>>.",
        "br_cpf": f"CPF <<{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}>>.",
        "in_aadhaar": f"Aadhaar <<{_national(m, 'in_aadhaar')}>>.",
        "cn_id": f"身份证 <<{_national(m, 'cn_id')}>>.",
        "it_codice_fiscale": f"CF <<{_national(m, 'it_codice_fiscale')}>>.",
    }


def _encoded(content: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _pem(m: Maker, kind: str) -> str:
    lines = "\n".join(m.of(ALNUM + "+/", 64) for _ in range(12))
    edge = "-" * 5
    return f"{edge}BEGIN {kind}PRIVATE KEY{edge}\n{lines}\n{edge}END {kind}PRIVATE KEY{edge}"


def github(m: Maker) -> str:
    """Return a classic token whose check sum fits."""
    body = m.of(ALNUM, 30)
    return "gh" + m.of("pousr", 1) + "_" + body + checksums.base62_crc32(body)


def secrets(m: Maker) -> dict[str, str]:
    """Return one sentence for each kind of secret, `<<` and `>>` around what must be found, by rule."""

    def a(count: int) -> str:
        return m.of(ALNUM, count)

    def u(count: int) -> str:
        return m.of(URL64, count)

    def h(count: int) -> str:
        return m.of(HEX, count)

    header = _encoded({"alg": "HS256", "typ": "JWT"})
    host = m.of(string.ascii_lowercase, 8) + ".net"
    found = {
        "aws_access_key": "AK" + "IA" + m.of(string.ascii_uppercase + "234567", 16),
        "github_token": github(m),
        "gitlab_token": "gl" + "pat-" + u(20),
        "slack_token": "xo" + f"xb-{m.digits(12)}-{m.digits(12)}-{a(24)}",
        "slack_webhook": "hooks.sl" + f"ack.com/services/T{m.of(UPPER, 9)}/B{m.of(UPPER, 9)}/{a(24)}",
        "google_api_key": "AI" + "za" + u(34) + a(1),
        "google_oauth": "GOC" + "SPX-" + u(27) + a(1),
        "azure_key": "Account" + f"Key={m.of(ALNUM + '+/', 86)}==",
        "azure_client_secret": a(3) + "8" + "Q~" + a(34),
        "stripe_key": "sk" + "_live_" + a(24),
        "twilio_key": "S" + "K" + h(32),
        "sendgrid_key": "S" + f"G.{u(22)}.{u(42)}{a(1)}",
        "npm_token": "np" + "m_" + a(36),
        "pypi_token": "py" + "pi-AgE" + u(90) + a(1),
        "anthropic_key": "sk-" + f"ant-api03-{u(92)}{a(1)}",
        "openai_key": "sk-" + f"proj-{u(64)}{a(1)}",
        "huggingface_token": "h" + "f_" + a(34),
        "jwt": f"{header}.{_encoded({'sub': m.digits(9), 'n': a(6)})}.{u(42)}{a(1)}",
        "telegram_token": f"{m.digits(10)}:A" + f"A{u(32)}{a(1)}",
        "discord_webhook": "disc" + f"ord.com/api/webhooks/{m.digits(18)}/{u(67)}{a(1)}",
        "discord_token": f"{base64.urlsafe_b64encode(m.digits(18).encode()).decode()}.{u(6)}.{u(37)}{a(1)}",
        "mailgun_key": "ke" + "y-" + h(32),
        "mailchimp_key": h(32) + "-us" + "12",
        "square_key": "sq0" + f"atp-{u(21)}{a(1)}",
        "shopify_token": "shp" + "at_" + h(32),
        "digitalocean_token": "do" + "p_v1_" + h(64),
        "databricks_token": "da" + "pi" + h(32),
        "docker_token": "dckr" + f"_pat_{u(26)}{a(1)}",
        "vault_token": "hv" + f"s.{u(89)}{a(1)}",
        "grafana_token": "gl" + f"sa_{a(32)}_{h(8)}",
        "atlassian_token": "ATA" + f"TT3{u(180)}{a(1)}",
        "linear_key": "lin" + "_api_" + a(40),
        "groq_key": "gs" + "k_" + a(52),
        "replicate_token": "r" + "8_" + a(37),
        "newrelic_key": "NR" + "AK-" + m.of(UPPER, 27),
        "rubygems_key": "ruby" + "gems_" + h(48),
        "age_key": "AGE-SEC" + "RET-KEY-1" + m.of(UPPER, 58),
        "database_url": f"postgres://app:{a(14)}@{host}",
        "url_password": f"https://app:{a(14)}@{host}",
    }
    sentences = {rule: f"Here it is: <<{text}>> and no more." for rule, text in found.items()}
    key_id = '"private' + f'_key_id": "{h(40)}"'
    return sentences | {
        "private_key": f"The file:\n<<{_pem(m, m.r.choice(('RSA ', 'EC ', 'OPENSSH ', 'ENCRYPTED ', '')))}>>\n",
        "gcp_service_account": f'{{"type": "service_account", <<{key_id}>>}}',
        "aws_secret_key": f"The aws secret is <<{m.of(ALNUM, 38)}a7>> for now.",
        "assignment": f'db_pass{"word"} = "<<{a(9)}7x!>>"',
        "entropy": f"Our service token is <<{a(30)}aB3>> today.",
    }
