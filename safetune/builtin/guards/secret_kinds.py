"""What secrets look like: the published form of each kind, what else must hold, and what is only a placeholder.

Every form is bounded. `PREFIXED` kinds are told by their own first letters; sources are the issuers' documents.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from safetune.builtin.guards.checksums import base62_crc32


@dataclass(frozen=True, slots=True)
class SecretKind:
    """One kind: its rule, its form, and what else the text that was found must meet."""

    rule: str
    form: str
    holds: Callable[[str], bool] | None = None


_PLACEHOLDER = re.compile(
    r"(?i)example|x{4,}|\*{3,}|\.\.\.|your[_-]?|change[_-]?me|placeholder|dummy|redacted|replace[_-]?(?:me|this|with)|insert[_-]|"
    r"sample|goes[_-]?here|<[^>]{1,40}>|[{}]|\$[A-Z(]|%[sd]|0{8,}|1234567890|abcdefghij|deadbeef|(?:my|some|the)[_-]?(?:secret|"
    r"password|token|key)|not[_-]?(?:a|the)?[_-]?real|todo\b|foo[_-]?bar|lorem|(?:test|fake)[_-]?(?:key|token|secret|password)"
)
_COMMON = frozenset(
    [
        "password",
        "passwd",
        "pass",
        "pwd",
        "secret",
        "token",
        "none",
        "null",
        "true",
        "false",
        "string",
        "username",
        "user",
        "root",
        "admin",
        "changeit",
        "undefined",
        "required",
        "optional",
        "hidden",
        "default",
        "unknown",
    ]
)


def placeholder(text: str) -> bool:
    """Say whether `text` only holds the place of a secret, such as `your-api-key`, or repeats a few characters."""
    return text.lower() in _COMMON or bool(_PLACEHOLDER.search(text)) or len(set(text)) < min(6, len(text) // 2)


def entropy(text: str) -> float:
    """Return Shannon's entropy of the characters of `text`, in bits per character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def checked(token: str) -> bool:
    """Say whether the last six characters of a GitHub or npm token are the CRC-32 of the 30 before them."""
    body = token.partition("_")[2]
    return len(body) == 36 and base62_crc32(body[:-6]) == body[-6:]


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return b""


def _jwt(token: str) -> bool:
    try:
        header = json.loads(_decoded(token.partition(".")[0]))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and bool({"alg", "enc", "typ", "kid"} & header.keys())


def _discord(token: str) -> bool:
    return _decoded(token.partition(".")[0]).isdigit()


_URL64 = "[A-Za-z0-9_-]"
_ALNUM = "[A-Za-z0-9]"

PREFIXED = (
    SecretKind("aws_access_key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    SecretKind("github_token", rf"gh[pousr]_{_ALNUM}{{36}}|github_pat_{_ALNUM}{{22}}_{_ALNUM}{{59}}"),
    SecretKind("gitlab_token", rf"gl(?:pat|ptt|dt|rt|rtr|cbt|ft|soat|imt|agent|oas|ffct)-{_URL64}{{20,64}}"),
    SecretKind("slack_token", r"xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{16,250}|xapp-[0-9]-[A-Za-z0-9-]{30,200}"),
    SecretKind("slack_webhook", rf"hooks\.slack\.com/(?:services|workflows|triggers)"
        rf"/[A-Z0-9]{{8,14}}/[A-Z0-9]{{8,20}}/{_ALNUM}{{20,48}}"),
    SecretKind("google_api_key", rf"AIza{_URL64}{{35}}"),
    SecretKind("google_oauth", rf"GOCSPX-{_URL64}{{28}}|ya29\.{_URL64}{{30,512}}"),
    SecretKind("azure_key", r"(?:AccountKey=[A-Za-z0-9+/]{86}==|SharedAccessKey=[A-Za-z0-9+/]{42,44}=)"),
    SecretKind("azure_client_secret", r"[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}"),
    SecretKind("stripe_key", rf"(?:sk|rk)_(?:live|test)_{_ALNUM}{{16,250}}|whsec_[A-Za-z0-9+/]{{32,64}}=?"),
    SecretKind("twilio_key", r"(?:SK|AC)[0-9a-f]{32}"),
    SecretKind("sendgrid_key", rf"SG\.{_URL64}{{22}}\.{_URL64}{{43}}"),
    SecretKind("npm_token", rf"npm_{_ALNUM}{{36}}"),
    SecretKind("pypi_token", rf"pypi-AgE{_URL64}{{50,500}}"),
    SecretKind("anthropic_key", rf"sk-ant-[a-z0-9]{{3,12}}-{_URL64}{{24,200}}"),
    SecretKind("openai_key", rf"sk-(?:(?:proj|svcacct|admin|None)-{_URL64}{{20,200}}|"
        rf"or-v1-[0-9a-f]{{64}}|{_ALNUM}{{32,64}})"),
    SecretKind("huggingface_token", rf"hf_{_ALNUM}{{34,40}}|api_org_{_ALNUM}{{34}}"),
    SecretKind("jwt", rf"eyJ{_URL64}{{8,2000}}\.eyJ{_URL64}{{4,8000}}\.{_URL64}{{16,2000}}", _jwt),
    SecretKind("telegram_token", rf"[0-9]{{8,10}}:AA{_URL64}{{33}}"),
    SecretKind("discord_webhook", rf"discord(?:app)?\.com/api/(?:v[0-9]{{1,2}}/)?webhooks/"
        rf"[0-9]{{17,20}}/{_URL64}{{60,80}}"),
    SecretKind("discord_token", rf"[MNO]{_URL64}{{23,27}}\.{_URL64}{{6}}\.{_URL64}{{27,45}}", _discord),
    SecretKind("mailgun_key", r"key-[0-9a-f]{32}"),
    SecretKind("mailchimp_key", r"[0-9a-f]{32}-us[0-9]{1,2}"),
    SecretKind("square_key", rf"sq0(?:atp|csp|idp)-{_URL64}{{22,43}}|EAAA{_URL64}{{60}}"),
    SecretKind("shopify_token", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    SecretKind("digitalocean_token", r"do[opr]_v1_[0-9a-f]{64}"),
    SecretKind("databricks_token", r"dapi[0-9a-f]{32}(?:-[0-9])?"),
    SecretKind("docker_token", rf"dckr_(?:pat|oat)_{_URL64}{{27,40}}"),
    SecretKind("vault_token", rf"hv[sbr]\.{_URL64}{{24,250}}"),
    SecretKind("grafana_token", rf"glsa_{_ALNUM}{{32}}_[0-9a-fA-F]{{8}}|glc_[A-Za-z0-9+/]{{32,400}}={{0,2}}"),
    SecretKind("atlassian_token", rf"ATATT3{_URL64}{{60,250}}=?[0-9A-F]{{0,8}}"),
    SecretKind("linear_key", rf"lin_(?:api|oauth)_{_ALNUM}{{40,64}}"),
    SecretKind("groq_key", rf"gsk_{_ALNUM}{{52}}"),
    SecretKind("replicate_token", rf"r8_{_ALNUM}{{37}}"),
    SecretKind("newrelic_key", r"NRAK-[A-Z0-9]{27}"),
    SecretKind("rubygems_key", r"rubygems_[0-9a-f]{48}"),
    SecretKind("age_key", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
)  # fmt: skip

LONG = 20  # characters: no form above is shorter

# One search for all kinds; its `lastgroup` is the rule. A boundary keeps it out of longer words.
FORMS = re.compile(
    "(?<![A-Za-z0-9_])(?:" + "|".join(f"(?P<{kind.rule}>{kind.form})" for kind in PREFIXED) + ")(?![A-Za-z0-9_])"
)
HOLDS = {kind.rule: kind.holds for kind in PREFIXED if kind.holds is not None}

DATABASES = frozenset(
    [
        "postgres",
        "postgresql",
        "mysql",
        "mariadb",
        "mongodb",
        "mongodb+srv",
        "redis",
        "rediss",
        "amqp",
        "amqps",
        "mssql",
        "sqlserver",
        "oracle",
        "clickhouse",
        "cockroachdb",
        "neo4j",
        "bolt",
        "jdbc",
        "snowflake",
        "couchdb",
        "cassandra",
        "ldap",
        "ldaps",
    ]
)
WITH_PASSWORD = re.compile(
    r"://(?P<user>[^\s:/@\"'<>`]{0,64}):(?P<password>[^\s/@\"'<>`]{3,128})@(?P<host>[A-Za-z0-9_.\-\[\]]{2,253})"
)
PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
SERVICE_ACCOUNT = re.compile(r"\"private_key_id\\?\"\s{0,4}:\s{0,4}\\?\"[0-9a-f]{40}\\?\"")

# -- secrets without a form of their own ------------------------------------------------------------------------------

# A name, a sign, a value: `password = "..."`, `"apiKey": "..."`, `--token=...`.
NAMED = re.compile(
    r"(?i)(?:passw(?:or)?d|passwd|passphrase|\bpwd|_pwd|\bpass|_pass|secret|token|credential|bearer|authorization|"
    r"(?:api|access|auth|private|secret|encryption|signing|account|master|service)[ _-]?key)s?"
    r"(?P<rest>[a-z0-9_]{0,16})[\"'`*\]]{0,2}[ \t]{0,3}$"
)
VALUE = r">?[ \t]{0,3}(?:[\"'`](?P<quoted>[^\s\"'`<>]{8,256})[\"'`]|(?P<bare>[^\s\"'`<>,;(){}\[\]]{8,256}))"
# What makes it the name of something else: `password_reset_template`, `token_url`.
NO_NAME = re.compile(
    r"(?i)(?:template|url|uri|path|file|name|field|label|type|len|length|count|id|prompt|hint|policy|regex|message|text|"
    r"class|view|form|hash|title|validators?|expiry|header)s?$"
)
WORDS = re.compile(r"(?i)key|token|secret|passw|credential|bearer|\bauth|\bapi\b|client_")
NOT_SECRET = re.compile(
    r"(?i)sha-?(?:1|256|384|512)|md5|digest|checksum|hash|commit|integrity|base64,|uuid|guid|public|fingerprint|etag"
)
AWS = re.compile(r"(?i)aws|secret")
RUNS = re.compile(r"(?<![A-Za-z0-9+/_=.-])(?:[0-9a-fA-F]{32,128}|[A-Za-z0-9+/_-]{24,128}={0,2})(?![A-Za-z0-9+/_-])")
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def random_run(run: str) -> bool:
    """Say whether a run of hex or base64 looks drawn at random: all kinds of characters, and nearly all different.

    The limits lie well below what random strings of that length have (hex of 32: 3.6 bits; base64 of 24: 4.3 bits).
    """
    body = run.rstrip("=")
    if UUID.fullmatch(body) or placeholder(body) or body.isdigit() or body.isalpha():
        return False
    if re.fullmatch("[0-9a-f]+|[0-9A-F]+", body):
        return len(body) >= 32 and entropy(body) >= 3.0
    mixed = any(c.isdigit() for c in body) and any(c.islower() for c in body) and any(c.isupper() for c in body)
    return mixed and entropy(body) >= 3.8 and not re.search(r"[A-Za-z][a-z]{5,}[_/-][A-Za-z]?[a-z]{4,}", body)


def random_value(value: str, quoted: bool) -> bool:
    """Say whether what a name such as `password` is set to can be a secret, and is no code or word."""
    if placeholder(value) or re.search(r"[()\[\]]|^[a-z_.]+$|://|^/|^--|\.[a-z]{2,4}$|\\|^[A-Z_]+$", value):
        return False
    digit, letter = any(c.isdigit() for c in value), any(c.isalpha() for c in value)
    sign = any(c in "!@#$%^&*+/=~?" for c in value)
    if re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", value) or not letter or not (digit or (sign and quoted)):
        return False
    return entropy(value) >= (2.5 if quoted else 2.75)
