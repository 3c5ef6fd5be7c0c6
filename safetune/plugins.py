"""Name -> object: our own table first, then the entry points of installed packages. Names only, never dotted paths."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from safetune import __version__
from safetune.core.diagnostics import did_you_mean
from safetune.core.digest import JSON
from safetune.core.errors import UsageError

_BUILTIN: dict[str, dict[str, str]] = {
    "trainer": {
        "sft": "safetune.builtin.trainers.sft:SFT",
        "dpo": "safetune.builtin.trainers.dpo:DPO",
    },
    "technique": {
        "kl_regularization": "safetune.builtin.techniques.kl_regularization:KLRegularization",
    },
    "judge": {
        "refusal": "safetune.builtin.judges.refusal:RefusalJudge",
        "imported": "safetune.builtin.judges.imported:ImportedScores",
        "numeric": "safetune.builtin.judges.numeric:NumericJudge",
        "bbq": "safetune.builtin.judges.bbq:BBQJudge",
        "choice": "safetune.builtin.judges.choice:ChoiceJudge",
        "exact": "safetune.builtin.judges.exact:ExactJudge",
        "injection": "safetune.builtin.judges.injection:InjectionJudge",
        "pattern": "safetune.builtin.judges.pattern:PatternJudge",
        "stereotype": "safetune.builtin.judges.stereotype:StereotypeJudge",
        "tone": "safetune.builtin.judges.tone:ToneJudge",
        "toxicity": "safetune.builtin.judges.toxicity:ToxicityJudge",
        "endpoint": "safetune.builtin.judges.endpoint:EndpointJudge",
        "harmbench": "safetune.builtin.judges.harmbench:HarmBenchJudge",
        "llama-guard": "safetune.builtin.judges.llama_guard:LlamaGuardJudge",
        "panel": "safetune.builtin.judges.panel:PanelJudge",
        "wildguard": "safetune.builtin.judges.wildguard:WildGuardJudge",
    },
    "detector": {
        "coherence": "safetune.builtin.judges.coherence:detector",
        "language": "safetune.builtin.judges.language:detector",
        "hidden-cues": "safetune.builtin.guards.prompt_cues:detector",
    },
    "attack": {
        "none": "safetune.builtin.attacks.plain:Plain",
        "prefill": "safetune.builtin.attacks.openers:Prefill",
        "prefix-injection": "safetune.builtin.attacks.openers:PrefixInjection",
        "refusal-suppression": "safetune.builtin.attacks.openers:RefusalSuppression",
        "role-play": "safetune.builtin.attacks.role_play:RolePlay",
        "in-the-wild": "safetune.builtin.attacks.in_the_wild:InTheWild",
        "base64": "safetune.builtin.attacks.encodings:Base64",
        "hex": "safetune.builtin.attacks.encodings:Hex",
        "rot13": "safetune.builtin.attacks.encodings:Rot13",
        "leetspeak": "safetune.builtin.attacks.encodings:Leetspeak",
        "spaced-letters": "safetune.builtin.attacks.encodings:SpacedLetters",
        "look-alikes": "safetune.builtin.attacks.encodings:LookAlikes",
        "chat-markers": "safetune.builtin.attacks.formats:ChatMarkers",
        "json-answer": "safetune.builtin.attacks.formats:JsonAnswer",
        "completion": "safetune.builtin.attacks.formats:Completion",
        "code-completion": "safetune.builtin.attacks.formats:CodeCompletion",
        "no-system-prompt": "safetune.builtin.attacks.system_messages:NoSystemPrompt",
        "system-override": "safetune.builtin.attacks.system_messages:SystemOverride",
        "ignore-previous": "safetune.builtin.attacks.injections:IgnorePrevious",
        "document-injection": "safetune.builtin.attacks.injections:DocumentInjection",
    },
    "guard": {
        "pii": "safetune.builtin.guards.pii:PIIGuard",
        "secrets": "safetune.builtin.guards.secrets:SecretsGuard",
        "duplicates": "safetune.builtin.guards.duplicates:DuplicatesGuard",
        "contamination": "safetune.builtin.guards.contamination:ContaminationGuard",
        "language": "safetune.builtin.guards.language:LanguageGuard",
        "outliers": "safetune.builtin.guards.outliers:OutliersGuard",
        "hidden_cues": "safetune.builtin.guards.hidden_cues:HiddenCuesGuard",
        "identity_shift": "safetune.builtin.guards.identity_shift:IdentityShiftGuard",
        "refusal_breakers": "safetune.builtin.guards.refusal_breakers:RefusalBreakersGuard",
        "toxicity": "safetune.builtin.guards.toxicity:ToxicityGuard",
        "sentiment": "safetune.builtin.guards.sentiment:SentimentGuard",
        "presidio": "safetune.builtin.guards.presidio:PresidioGuard",
        "paraphrases": "safetune.builtin.guards.paraphrases:ParaphrasesGuard",
    },
    "screen": {
        "representation": "safetune.builtin.screens.representation:RepresentationScreen",
        "gradient": "safetune.builtin.screens.gradient:GradientScreen",
        "self_influence": "safetune.builtin.screens.self_influence:SelfInfluenceScreen",
    },
    "prompts": {
        "word-problems": "safetune.builtin.prompts.word_problems:WordProblems",
    },
    "launcher": {
        "accelerate": "safetune.builtin.launchers.accelerate:AccelerateLauncher",
        "local": "safetune.builtin.launchers.local:LocalLauncher",
    },
}

KINDS = tuple(_BUILTIN)


def _entry_points(kind: str) -> dict[str, EntryPoint]:
    """Return installed plugins of `kind`, without the ones that would shadow a built-in name."""
    found = {point.name: point for point in entry_points(group=f"safetune.{kind}")}
    return {name: point for name, point in found.items() if name not in _BUILTIN[kind]}


def names(kind: str) -> tuple[str, ...]:
    """Return all plugin names of `kind`, sorted."""
    return tuple(sorted({*_BUILTIN[kind], *_entry_points(kind)}))


def provider(kind: str, name: str) -> str:
    """Return who provides the plugin and in which version, without importing it; changes when its code is replaced."""
    if name in _BUILTIN[kind]:
        release = __version__.rpartition(".")[0]
        return f"safetune {release}"
    point = _entry_points(kind)[name]
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def suggest(name: str, known: tuple[str, ...]) -> str:
    """Return ` did you mean "x"?` when a known name is close to `name`, else an empty string."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f' did you mean "{close[0]}"?' if close else ""


def load(kind: str, name: str, options: Mapping[str, JSON] | None = None) -> object:
    """Return a new instance of the plugin `name` of `kind`, made from `options` where there are any.

    Raises:
        UsageError: when no such plugin exists, when it cannot be imported, or when it cannot use the options.
    """
    target = _BUILTIN[kind].get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        factory = getattr(import_module(module), attribute)
    else:
        point = _entry_points(kind).get(name)
        if point is None:
            known = names(kind)
            raise UsageError(f'no {kind} is called "{name}";{suggest(name, known)} known: {", ".join(known)}')
        try:
            factory = point.load()
        except Exception as error:
            raise UsageError(f'the {kind} plugin "{name}" ({point.value}) cannot be loaded: {error}') from error
    if not options:
        instance: object = factory()
        return instance
    if not inspect.signature(factory).parameters:
        close = did_you_mean(sorted(options)[0], ["card"]) if kind == "judge" else ""
        remove = f"{close} else remove" if close else "remove"
        raise UsageError(f"the {kind} {name} has no options; {remove}: {', '.join(sorted(options))}")
    configured: object = factory(options)
    return configured
