"""The `presidio` guard: the pattern recognisers of presidio-analyzer, for kinds that `pii` does not know. An extra.

No language model is loaded and nothing is fetched: recognisers are called one by one, without presidio's engine, and
its list of public suffixes is the one that its package brings. Without the engine no context raises a score, so that
only what a check sum confirms, or a strong pattern, reaches the least score.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Protocol

from safetune.core.digest import JSON
from safetune.core.errors import UsageError
from safetune.protocols import DataRow, Found, GuardSetup

# Our rule, presidio's class.
RECOGNISERS = {
    "au_abn": "AuAbnRecognizer",
    "au_acn": "AuAcnRecognizer",
    "au_medicare": "AuMedicareRecognizer",
    "au_tfn": "AuTfnRecognizer",
    "card": "CreditCardRecognizer",
    "crypto": "CryptoRecognizer",
    "de_tax_id": "DeTaxIdRecognizer",
    "email": "EmailRecognizer",
    "es_dni": "EsNifRecognizer",
    "es_nie": "EsNieRecognizer",
    "fi_hetu": "FiPersonalIdentityCodeRecognizer",
    "iban": "IbanRecognizer",
    "in_aadhaar": "InAadhaarRecognizer",
    "in_gstin": "InGstinRecognizer",
    "in_pan": "InPanRecognizer",
    "ip": "IpRecognizer",
    "it_codice_fiscale": "ItFiscalCodeRecognizer",
    "it_vat": "ItVatCodeRecognizer",
    "kr_rrn": "KrRrnRecognizer",
    "mac": "MacAddressRecognizer",
    "phone": "PhoneRecognizer",
    "pl_pesel": "PlPeselRecognizer",
    "se_personnummer": "SePersonnummerRecognizer",
    "sg_nric": "SgFinRecognizer",
    "th_tnin": "ThTninRecognizer",
    "tr_tckn": "TrNationalIdRecognizer",
    "uk_nhs": "NhsRecognizer",
    "uk_nino": "UkNinoRecognizer",
    "us_itin": "UsItinRecognizer",
    "us_medical_license": "MedicalLicenseRecognizer",
    "us_npi": "UsNpiRecognizer",
    "us_ssn": "UsSsnRecognizer",
    "za_id": "ZaIdNumberRecognizer",
}
LEAST_SCORE = 0.5  # presidio gives 1.0 where a check sum fits, 0.5 for its medium patterns
_HEAVY = ("torch", "tensorflow", "transformers", "stanza", "cupy", "mxnet")


class _Result(Protocol):
    start: int
    end: int
    score: float


class _Recogniser(Protocol):
    supported_entities: Sequence[str]

    def analyze(self, text: str, entities: Sequence[str], nlp_artifacts: None = None) -> Sequence[_Result] | None: ...


class PresidioGuard:
    """Finds what presidio's pattern recognisers find. Options: `recognisers` (rules), `score` (0 to 1)."""

    name = "presidio"
    version = "1"
    plain = "personal data, by the pattern recognisers of presidio"
    rules = tuple(RECOGNISERS)

    def __init__(self, options: Mapping[str, JSON] | None = None) -> None:
        given = dict(options or {})
        self._wanted = _wanted(given.pop("recognisers", list(RECOGNISERS)))
        self._least = _score(given.pop("score", LEAST_SCORE))
        self._recognisers: dict[str, _Recogniser] = {}
        if given:
            known = "known: recognisers, score"
            raise UsageError(f'the guard presidio has no option "{min(given)}"', hint=known)

    def begin(self, setup: GuardSetup) -> None:
        """Load the recognisers.

        Raises:
            UsageError: when presidio-analyzer is not installed, or lacks one of them.
        """
        if not self._recognisers:
            self._recognisers = {rule: _load(RECOGNISERS[rule]) for rule in self._wanted}

    def check(self, rows: Sequence[DataRow]) -> Sequence[Found]:
        """Return what is found in the next rows; a text that a recogniser cannot read is a finding without a span."""
        return [found for at, row in enumerate(rows) for found in self._row(at, row)]

    def end(self) -> Sequence[Found]:
        """Nothing can only be said of all rows together."""
        return ()

    def _row(self, at: int, row: DataRow) -> Iterator[Found]:
        for one in row.texts:
            for rule, recogniser in self._recognisers.items():
                try:
                    results = recogniser.analyze(one.text, list(recogniser.supported_entities), None) or ()
                except Exception:  # doubt is a finding, whatever a recogniser does
                    yield Found(at, rule, note="the recogniser cannot read this text")
                    continue
                for r in results:
                    if r.score >= self._least:
                        yield Found(at, rule, one.path, r.start, r.end, f"[{rule.upper()}]")


def _wanted(value: JSON) -> tuple[str, ...]:
    named = [str(one) for one in value] if isinstance(value, list | tuple) else []
    unknown = sorted(set(named) - RECOGNISERS.keys())
    if not named or unknown:
        what = f'no recogniser is called "{unknown[0]}"' if unknown else "recognisers must be a list of names"
        raise UsageError(f"the guard presidio: {what}", hint=f"known: {', '.join(RECOGNISERS)}")
    return tuple(named)


def _score(value: JSON) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UsageError("the guard presidio: score must be a number from 0 to 1")
    return float(value)


def _load(name: str) -> _Recogniser:
    try:
        with _without_heavy():
            recognisers = import_module("presidio_analyzer.predefined_recognizers")
            suffixes = import_module("tldextract")
    except ImportError as error:
        hint = "pip install 'safetune[presidio]', or leave the guard out"
        raise UsageError("the guard presidio needs presidio-analyzer, which is not installed", hint=hint) from error
    # Without addresses it fetches no list and keeps to the one in its package.
    vars(suffixes)["extract"] = vars(suffixes)["TLDExtract"](suffix_list_urls=(), cache_dir=None)
    made = getattr(recognisers, name, None)
    if made is None:
        raise UsageError(f"this presidio-analyzer has no {name}", hint="pip install 'presidio-analyzer>=2.2.366'")
    recogniser: _Recogniser = made()
    return recogniser


@contextmanager
def _without_heavy() -> Iterator[None]:
    """Keep spaCy, which presidio imports, from taking a library of models along; patterns need none."""
    hidden = [name for name in _HEAVY if name not in sys.modules]
    blocked: dict[str, None] = dict.fromkeys(hidden)
    sys.modules.update(blocked)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
