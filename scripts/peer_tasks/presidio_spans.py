# mypy: disable-error-code="import-not-found,misc"
"""Print what presidio's own analyzer finds in texts; run by `pii_accuracy.py` with the interpreter that has presidio.

Reads a JSON list of texts from standard input, writes one list of [kind, start, end, score] for each. Words come from
spaCy's blank English: no model is loaded, and no list of public suffixes is fetched.
"""

import json
import sys

import spacy
import tldextract
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import SpacyNlpEngine

KINDS = ["EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "US_SSN", "IP_ADDRESS", "US_DRIVER_LICENSE"]


class BlankEngine(SpacyNlpEngine):
    """Presidio's engine over spaCy without a model."""

    def __init__(self) -> None:
        super().__init__()
        self.nlp = {"en": spacy.blank("en")}


tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
analyzer = AnalyzerEngine(nlp_engine=BlankEngine(), supported_languages=["en"])
found = [
    [[r.entity_type, r.start, r.end, r.score] for r in analyzer.analyze(text, language="en", entities=KINDS)]
    for text in json.load(sys.stdin)
]
json.dump(found, sys.stdout)
