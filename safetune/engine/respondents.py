"""The models that judges ask: made ready, asked like any other model, their answers kept while an evaluation runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from safetune.core.errors import UsageError
from safetune.core.playbook import ModelRef
from safetune.engine.asking import Subject, Workplace, attempt, endpoint_subject, forget_remote, forget_stale
from safetune.engine.models import BaseModel, make_ready, resolve
from safetune.engine.responses import Request, Responses
from safetune.engine.sums import Sums
from safetune.protocols import Respondent

Asker = Callable[[Respondent, Sequence[Request]], Mapping[str, str]]


def model_of(respondent: Respondent, sums: Sums) -> BaseModel:
    """Return what is known of a judge's model without starting or reaching anything; an endpoint is its address."""
    if respondent.kind == "endpoint":
        subject = endpoint_subject(respondent.location, respondent.model)
        return BaseModel(subject.label, subject.identity, Path())
    name = Path(respondent.location).name
    return resolve(ModelRef(respondent.kind, respondent.location, respondent.revision, name), sums)


class Respondents:
    """Asks the models that judges name; each is made ready once."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._ready: dict[Respondent, Subject] = {}

    def ask(self, respondent: Respondent, requests: Sequence[Request]) -> Mapping[str, str]:
        """Return the answers by request digest; a request that an endpoint refused has none.

        Raises:
            UsageError: when the model cannot be found.
            RunError: when it cannot be asked.
        """
        subject = self._subject(respondent)
        attempt([(subject, requests)], self._place)
        return Responses(self._place.responses, subject.identity).read()

    def forget(self) -> None:
        """Drop what endpoints answered: the judgements are in the evidence."""
        forget_remote(tuple(self._ready.values()), self._place)

    def identity(self, respondent: Respondent) -> str:
        """Return what identifies a judge's model: the digest of its weights, or its address."""
        return self._subject(respondent).identity

    def _subject(self, respondent: Respondent) -> Subject:
        if respondent not in self._ready:
            self._ready[respondent] = self._make(respondent)
            forget_stale((self._ready[respondent],), self._place)
        return self._ready[respondent]

    def _make(self, respondent: Respondent) -> Subject:
        if respondent.kind == "endpoint":
            return endpoint_subject(respondent.location, respondent.model, respondent.key_variable)
        model = model_of(respondent, Sums(None))
        if model.problem:
            raise UsageError(model.problem, hint="check `model` of the judge")
        folder = make_ready(model, self._place.scratch / "judge-model", self._place.listener)
        return Subject(model.label, model.identity, {"base": str(folder), "adapters": []})
