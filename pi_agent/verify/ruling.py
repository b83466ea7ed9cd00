"""Two claims on one model: what the marks in each other's models say, and when that decides.

A thief steals the owner's model, trains a mark of its own into it and claims it was theirs. Both marks are in the
suspect. But the thief's model descends from the owner's and carries the owner's mark too, while the owner's model knows
nothing of the thief's. So each mark is looked for in the model that the *other* party names in its claim.

A mark that is found is a *sign* of descent. It is *proof* if the key cannot have been chosen to fit that model: a
grinder who holds the other's model tries a few million keys, in minutes, until one happens to be obeyed at 1e-6. It
cannot if its commitment was published (and brought by the judge, `--commitment`), no later than the other party's; or,
if later, if the key was drawn with public randomness that came after the commitment. The other's model was trained with
the other's key, so it is no older than that. A date that nobody published counts for nothing: whoever lies would name
an early one.

    first's mark in       second's mark in
    the second's model    the first's model      decided for
    proof                 proof                  nobody: each model carries the other's mark
    proof                 sign, trace or none    first: a late key may have been chosen to fit
    sign, trace or none   proof                  second
    sign                  none, trace or sign    nobody: the key may have been chosen to fit; it is said what is missing
    none, trace or sign   sign                   nobody, likewise
    trace                 trace or none          nobody: too much for chance, too little for proof
    none                  trace                  nobody, likewise
    none                  none                   nobody: two models that have nothing to do with each other

    (sign: owned; trace: inconclusive, p <= 1e-3; none: not-owned)

If a suspect is at hand, the mark of whoever is decided for must be in it, or the decision says nothing about it. The
suspect alone decides nothing: a thief who has worn the owner's mark away would win by it.

No correction for two cross tests: they are two accusations by two parties, each tested at its own registered level (and
at 1e-6 at most, or a party could file with a lax one). Nobody gets a second chance: for a wrong decision in favour of
one party, one given test has to fail, that of its own key on the other's model. A correction would let a thief make the
owner's proof harder just by filing a claim of its own.

What this cannot decide: a thief who trains a model of its own from nothing, files its claim for that one, and adds the
same mark to the stolen model. Then no mark crosses over, and both are in the suspect.
"""

from __future__ import annotations

from dataclasses import dataclass

UNDECIDED = "undecided"


@dataclass(frozen=True)
class Standing:
    """One party: the verdict on its mark in the other's model, and in the suspect (empty where there is none).

    `published`: whether its commitment was brought. `too_late`: whether the other's published one is older, and no
    public randomness makes up for that.
    """

    name: str
    cross: str
    suspect: str
    published: bool
    too_late: bool

    @property
    def proof(self) -> bool:
        """Whether its mark in the other's model shows descent."""
        return self.cross == "owned" and self.published and not self.too_late

    @property
    def doubt(self) -> str:
        """Why a mark that was found is no proof."""
        if not self.published:
            return f"the {self.name}'s published commitment is missing (--commitment), so its key may have been chosen"
        return f"the {self.name}'s key was committed to after the other's, without a beacon, and may have been chosen"


@dataclass(frozen=True)
class Ruling:
    """`winner`: the name of a party or "undecided"; `reason`: one sentence for a judge."""

    winner: str
    reason: str


def decide(first: Standing, second: Standing) -> Ruling:
    """The table above. Each party's mark must be in its own model already."""
    parties = ((first, second), (second, first))
    proofs = [pair for pair in parties if pair[0].proof]
    signs = [pair for pair in parties if pair[0].cross == "owned"]
    if len(proofs) == 1:
        return _descends(*proofs[0])
    if proofs:
        return Ruling(UNDECIDED, "each model carries the other party's mark: the marks do not tell which came first")
    if signs:
        found = " and ".join(f"the {b.name}'s model carries the {a.name}'s mark" for a, b in signs)
        return Ruling(UNDECIDED, f"{found}, but {'; '.join(f'{a.doubt} to fit that model' for a, _ in signs)}")
    if "inconclusive" in (first.cross, second.cross):
        found = " and ".join(
            f"of the {a.name}'s mark in the {b.name}'s model" for a, b in parties if a.cross == "inconclusive"
        )
        return Ruling(UNDECIDED, f"there is a trace {found}, too much for chance and too little for proof")
    return _unrelated(first, second)


def _descends(party: Standing, other: Standing) -> Ruling:
    made = f"the {other.name}'s model carries the {party.name}'s mark"
    if other.cross == "not-owned":
        made += f", and the {party.name}'s model has none of the {other.name}'s"
    elif other.cross == "owned":
        made += f"; the {other.name}'s mark in the {party.name}'s model does not count: {other.doubt} to fit it"
    else:
        made += f"; of the {other.name}'s mark there is no more than a trace in the {party.name}'s model"
    if party.suspect not in ("", "owned"):
        return Ruling(UNDECIDED, f"{made}, but the suspect does not carry the {party.name}'s mark ({party.suspect})")
    return Ruling(party.name, f"{made}: the {other.name}'s model was made from the {party.name}'s")


def _unrelated(first: Standing, second: Standing) -> Ruling:
    unrelated = "neither party's model carries the other's mark"
    if first.suspect == second.suspect == "owned":
        both = "both marks are in the suspect: one was added to a copy that had the other, and nothing here tells which"
        return Ruling(UNDECIDED, f"{unrelated}, and {both}")
    for party, other in ((first, second), (second, first)):
        if party.suspect == "owned":
            only = f"only the {party.name}'s mark is in the suspect; the {other.name}'s claim on it is not supported"
            return Ruling(UNDECIDED, f"{unrelated}, so it is not known which was first; {only}")
    return Ruling(UNDECIDED, f"{unrelated}: nothing says that one was made from the other")
