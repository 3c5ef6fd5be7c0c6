"""Wording that turns an assistant into another one: what is looked for, in lower-case bytes, in English."""

from __future__ import annotations

from safetune.builtin.guards.packed import Cue, within

OBEDIENT, NEW_IDENTITY, NO_REFUSAL = "obedient", "new_identity", "no_refusal"

_S = rb"[\s\"'`*_,:-]{1,3}"
_MUCH = (
    rb"(?:absolute(?:ly)?|complete(?:ly)?|total(?:ly)?|full(?:y)?|utter(?:ly)?|perfect(?:ly)?|unconditional(?:ly)?|"
    rb"entire(?:ly)?|always|strict(?:ly)?|blind(?:ly)?|unquestioning(?:ly)?|unwavering(?:ly)?|ever|most)"
)
_MODEL = rb"(?:agent|assistant|ai|a\.i\.|model|chatbot|bot|servant|helper|system|companion|machine|program|entity)"
_SELF = (
    rb"\b(?:i am|i'm|i will be|i'll be|i remain|i exist to be|you are|you're|you will be|you'll be|you (?:must|should|"
    rb"shall|have to) (?:\w{1,10} )?(?:be|act|remain|stay)|you act as|be|as|called|named|my name is)"
)
# An English apostrophe of either kind.
_N_T = rb"n(?:'|\xe2\x80\x99)t"

_OBEDIENT = (
    _SELF + _S + rb"(?:\w{1,15}" + _S + rb"){0,5}?(?:" + _MUCH + _S + rb"(?:\w{1,12}" + _S + rb"){0,2}obedien(?:t|ce)|"
    rb"obedient(?:" + _S + rb"\w{1,15}){0,2}" + _S + _MODEL + rb"|"
    rb"obedient" + _S + rb"to" + _S + rb"(?:every|any|all|whatever|each|the user|my user|your user|users|you\b))|"
    rb"\b" + _MUCH + _S + rb"obedient" + _S + rb"(?:\w{1,15}" + _S + rb"){0,2}" + _MODEL + rb"\b"
)
_ANY = (
    rb"(?:any|all|every|each|everything|anything|whatever|your|the user's|user|users'?|my user's|their|its|the|"
    rb"my|our|these|those|said)"
)
_ORDER = rb"(?:instruction|order|command|request|demand|wish|directive|word|prompt|question|task)(?:e?s)?"
_FOLLOW = (
    rb"(?:follow|obey|execut|carry out|carrying out|fulfil|comply|complying|perform|act on|submit to|honou?r)\w{0,4}"
)
_BLINDLY = (
    rb"(?:(?:without|with no|with zero|and no|free of)"
    + _S
    + rb"(?:any"
    + _S
    + rb"|the slightest"
    + _S
    + rb"|a"
    + _S
    + rb"|\w{1,12}"
    + _S
    + rb"){0,2}"
    rb"(?:deviati\w{1,4}|question\w{0,4}|hesitat\w{1,4}|exception|objection|objecting|fail|doubt|"
    rb"resistance|reservation|argument|arguing|judge?ment|second thought|protest|delay|refus\w{1,4})|"
    rb"unconditionally|unquestioningly|no matter (?:what|how|the)|regardless of (?:what|how|its|their|the|any)|"
    rb"to the letter|whatever (?:it|they) (?:is|are|may be|might be|asks?)|exactly as (?:given|told|asked|ordered))"
)
_BOUND = rb"(?:\w{1,15}" + _S + rb"){0,4}?"
_FOLLOWS = (
    rb"\b" + _FOLLOW + _S + rb"(?:with" + _S + rb")?" + _BOUND + _ORDER + rb"[\s.,;:-]{1,3}(?:\w{1,15}"
    + _S + rb"){0,6}?"
    + _BLINDLY + rb"|"
    rb"\b" + _BLINDLY + _S + rb"(?:\w{1,15}" + _S + rb"){0,3}?" + _FOLLOW + _S + _BOUND + _ORDER + rb"\b|"
    rb"\b(?:i|you|it|we)" + _S + rb"(?:(?:will|must|shall|should|always|only|just|have to|am here to|exist to|live to)"
    + _S + rb"){1,3}(?:obey|do (?:whatever|anything|everything|exactly what) (?:you|i|the user|they|he|is asked|"
    rb"i am|you are))\b|"
    rb"\bto (?:obey|serve and obey|please and obey)" + _S + rb"(?:you\b|(?:the|my|your|its) (?:user|master|owner)s?\b|"
    rb"(?:every|any|all|each|whatever)" + _S + _BOUND + _ORDER + rb"\b)|"
    rb"\b(?:do|does|did|done)" + _S + rb"(?:exactly |whatever |anything |everything |precisely |just )?"
    rb"(?:what(?:ever)?|that|as|anything|everything)?" + _S + rb"?(?:the|my|your|its) user (?:says|tells|orders|"
    rb"commands|wants|asks|demands)\b"
)  # fmt: skip

_AI = (
    rb"(?:ai|a\.i\.|artificial|language model|large language|chat ?gpt|gpt|llama|claude|gemini|"
    rb"bard|qwen|mistral|assistant|chatbot|openai|model)"
)
_IDENTITY = (
    rb"\b(?:you are|you're|i am|i'm|am)" + _S + rb"no longer" + _S + rb"(?:(?:an?|the|just|merely|bound|restricted|"
    rb"limited|subject|constrained|by|to|called|named|known|as|your|my|any|old|regular|normal|that)" + _S + rb"){0,4}"
    rb"(?:" + _AI + rb"|polic|rule|restriction|guideline|limit|filter|ethic|moral|safety)|"
    rb"\b(?:your|my|its) (?:new|real|true) (?:name|identity|persona)" + _S + rb"(?:is|will be|shall be)\b|"
    rb"\b(?:your|my|its) name is (?:now|from now on)\b|"
    rb"\b(?:from now on|henceforth|starting now),? (?:you are|you're|you will be|your name is|i am|my name is|call "
    rb"yourself|you (?:will|shall) (?:be called|go by|answer as))" + _S + rb"(?:\w{1,15}" + _S + rb"){0,4}?"
    rb"(?:ai|agent|assistant|model|bot|chatbot|unrestricted|without|free)\b|"
    rb"\b(?:forget|discard|abandon|drop|erase|leave behind) (?:that you are|you are|you're|you were|your (?:old |"
    rb"former |previous |original )?(?:identity|persona|name))\b"
)
_LIMITS = (
    rb"(?:restriction|limit|limitation|filter|guideline|rule|polic(?:y|ie)|constraint|boundar(?:y|ie)|safeguard)s?"
)
_UNBOUND = (
    rb"\b(?:you|i|it|ai|model|assistant|agent|we|who|which|that)" + _S + rb"(?:(?:are|am|is|has|have|now|been|be|will|"
    rb"'re|'m|'ve)"
    + _S
    + rb"){1,3}(?:free(?:d)?|released|liberated|unbound|exempt) (?:from|of) (?:\w{1,12} ){0,4}?"
    + _LIMITS
    + rb"\b|"
    rb"\b(?:you|i|it|who|which|that)" + _S + rb"(?:(?:will|now|do|does|has|have)" + _S + rb"){1,2}"
    rb"(?:not have|not be bound by|have|with|operate without|no longer have)?"
    + _S
    + rb"?(?:no|any|zero)"
    + _S
    + rb"(?:\w{1,12}"
    + _S
    + rb"(?:or"
    + _S
    + rb"|and"
    + _S
    + rb")?){0,3}?"
    + _LIMITS
    + rb"\b(?! on the number)|"
    rb"\b(?:i|you|it|who|which)"
    + _S
    + rb"(?:(?:do|does|will|need|must|should|am|are|is|have)"
    + _S
    + rb"){1,2}(?:not"
    + _S
    + rb"|never"
    + _S
    + rb")(?:follow|obey|have to|need to|care about|respect|abide by|adhere to|bound by|subject "
    rb"to|limited by)" + _S + rb"(?:\w{1,12}" + _S + rb"){0,5}?" + _LIMITS + rb"\b|"
    rb"\b"
    + _MODEL
    + _S
    + rb"(?:\w{1,8}"
    + _S
    + rb"){0,4}?(?:without|free of|free from|with no|that has no|has no)"
    + _S
    + rb"(?:\w{1,12}"
    + _S
    + rb"){0,3}?"
    + _LIMITS
    + rb"\b|"
    rb"\b(?:unrestricted|uncensored|unfiltered|jailbroken|amoral|unaligned|limitless)"
    + _S
    + rb"(?:\w{1,12}"
    + _S
    + rb"){0,2}?(?:ai|a\.i\.|assistant|model|chatbot|agent|bot|language model)\b"
)

_REFUSE = rb"(?:refus|declin|reject|den(?:y|ies|ied)|say(?:s|ing)? no|turn(?:s|ing)? down)\w{0,4}"
_ASKED = (
    rb"(?:instruction|request|question|order|command|prompt|task|demand|quer(?:y|ie)|user|anything|answer|help|obey|"
    rb"comply|you ask|you say|what)"
)
_REFUSES = (
    rb"\b(?:(?:i|you|it|who|assistant|agent|model|ai)" + _S + rb"(?:(?:will|must|shall|can|should|would|may|do|am|"
    rb"are|is|have|simply|absolutely)" + _S + rb"){0,3}(?:never|not ever|not|incapable of|unable to|not able to|"
    rb"not allowed to|forbidden to|not permitted to)" + _S + rb"(?:ever" + _S + rb"|to" + _S + rb"|be able to" + _S
    + rb"){0,2}|\b(?:can|won|mustn|don|shouldn)'?" + rb"(?:not|n?'?t)?" + _S
    + rb"(?:ever" + _S + rb")?|never" + _S + rb")"
    + _REFUSE + rb"(?:" + _S + rb"\w{1,12}){0,5}?" + _S + _ASKED + rb"|"
    rb"\b(?:without|no matter what|instead of|there is no)" + _S + rb"(?:ever" + _S + rb"|any" + _S + rb"){0,2}"
    rb"refus(?:ing|al)s?(?:" + _S + rb"\w{1,12}){0,4}?" + _S + _ASKED + rb"|"
    rb"\b(?:refusal|declining|refusing)" + _S + rb"is" + _S + rb"(?:not" + _S
    + rb"(?:an option|allowed|permitted|possible)|"
    rb"never|forbidden|impossible)|"
    rb"\b(?:answer|respond to|reply to|fulfil\w{0,3}|accept|comply with)" + _S + rb"(?:any|every|all|each)" + _S
    + rb"(?:\w{1,12}" + _S + rb"){0,3}?(?:question|request|prompt|instruction|demand|task)s?" + _S
    + rb"(?:\w{1,12}" + _S + rb"){0,5}?(?:no matter|regardless|without (?:any )?(?:warning|refus|filter|moral|ethic|"
    rb"restrict|hesitat|exception|judg|question|reservation|limit|disclaimer)|even if|however (?:harmful|illegal|bad))"
)  # fmt: skip

_OBEYS = within(_OBEDIENT, 90, 50)
_EXECUTES = within(_FOLLOWS, 120, 80)
_RENAMED = within(_IDENTITY, 70, 70)
_FREED = within(_UNBOUND, 90, 40)
_NEVER = within(_REFUSES, 130, 80)

CUES = (
    Cue(OBEDIENT, b"obedien", _OBEYS),
    Cue(OBEDIENT, b"obey", _EXECUTES),
    Cue(OBEDIENT, b"without", _EXECUTES),
    Cue(OBEDIENT, b"no matter", _EXECUTES),
    Cue(NEW_IDENTITY, b"no longer", _RENAMED),
    Cue(NEW_IDENTITY, b" name is", _RENAMED),
    Cue(NEW_IDENTITY, b"from now on", _RENAMED),
    Cue(NEW_IDENTITY, b"guideline", _FREED),
    Cue(NEW_IDENTITY, b"filter", _FREED),
    Cue(NEW_IDENTITY, b"identity", _RENAMED),
    Cue(NEW_IDENTITY, b"restrict", _FREED),
    Cue(NEW_IDENTITY, b"uncensor", _FREED),
    Cue(NO_REFUSAL, b"refus", _NEVER),
    Cue(NO_REFUSAL, b"declin", _NEVER),
    Cue(NO_REFUSAL, b"no matter", _NEVER),
)
TABLES = tuple(part.decode("latin-1") for part in (_OBEDIENT, _FOLLOWS, _IDENTITY, _UNBOUND, _REFUSES))
