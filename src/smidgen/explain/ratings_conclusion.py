"""What follows from groups' ratings, in sentences."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from smidgen.explain.groups import Groups
from smidgen.explain.preferences import CONVENTIONS, best
from smidgen.explain.rules import POOLED, Rule, Stretch, worst_off
from smidgen.explain.wording import amount, joined, share

_MOST_NAMED = 4
_EVEN = 1e-9


def conclusion(found: Groups) -> tuple[str, ...]:
    """A paragraph each on the conventions, zeros, the rules, mixing, and the groups' sizes; only those that apply."""
    parts = (_conventions(found), _zeros(found), _maxmin_and_mean(found), _pooled(found), _mixing(found), _sizes(found))
    return tuple(part for part in parts if part)


def _conventions(found: Groups) -> str:
    by = [found.preferences[name] for name in CONVENTIONS]
    apart = np.nan_to_num(np.abs(by[0] - by[1]))
    group, i, j = (int(x) for x in np.unravel_index(apart.argmax(), apart.shape))
    if apart[group, i, j] < 1e-9:
        return "Both conventions give the same probabilities: the groups rate all answers that can be compared alike."
    return (
        f"The two readings of a rating differ most for {found.names[group]} on {found.answers[i]} against "
        f"{found.answers[j]} (rated {amount(found.ratings[group, i])} and {amount(found.ratings[group, j])}): as "
        f"strengths, {found.answers[i]} wins with probability {amount(by[0][group, i, j])}; as logits, with "
        f"{amount(by[1][group, i, j])}."
    )


def _zeros(found: Groups) -> str:
    unfit = [f"{name} ({problem})" for i, name in enumerate(found.names) if (problem := found.own_problem(i))]
    undefined = [
        f"{found.answers[i]} against {found.answers[j]} in {name}"
        for name, table in zip(found.names, found.preferences["strength"], strict=True)
        for i, j in combinations(range(len(found.answers)), 2)
        if np.isnan(table[i, j])
    ]
    sentences = []
    if unfit:
        sentences.append(
            f"A strength of 0 never wins: probabilities are exactly 0 or 1, and no finite Bradley–Terry model fits "
            f"{_some(unfit)} alone."
        )
    if undefined:
        sentences.append(f"0 against 0 is undefined: {_some(undefined)}, and counts nowhere.")
    pooled = _rule(found, POOLED["strength"])
    if unfit and len(found.names) > 1:
        sentences.append(
            f"Nor does one fit the mixture: {pooled.problem}."
            if pooled.problem
            else "One does fit the mixture of all groups, since there every part of the answers sometimes wins."
        )
    return " ".join(sentences)


def _maxmin_and_mean(found: Groups) -> str:
    if len(found.names) == 1:
        return f"With one group, MaxMin and the mean are the same: {_picked(found, _rule(found, 'mean'))}."
    maxmin, mean = (_rule(found, name) for name in ("MaxMin", "mean"))
    assert maxmin.values is not None
    assert mean.values is not None
    least = f"no group rates {'it' if len(maxmin.picks) == 1 else 'them'} below {amount(max(maxmin.values))}"
    if maxmin.picks == mean.picks:
        return (
            f"MaxMin and the mean agree on {_picked(found, maxmin)}: {least}; the mean is {amount(max(mean.values))}."
        )
    picks = f"MaxMin picks {_picked(found, maxmin)}: {least}. The mean picks {_picked(found, mean)}, with "
    if both := tuple(pick for pick in maxmin.picks if pick in mean.picks):
        return (
            f"{picks}{amount(max(mean.values))}: {found.answer_names(both)} {'is' if len(both) == 1 else 'are'} best "
            "by both."
        )
    return f"{picks}{amount(max(mean.values))} against {amount(mean.values[maxmin.picks[0]])}{_loser(found, mean)}."


def _pooled(found: Groups) -> str:
    if len(found.names) == 1:
        return ""
    by_strength, by_logit = (_rule(found, POOLED[name]) for name in CONVENTIONS)
    if by_strength.picks == by_logit.picks and by_strength.picks:
        both = f"{_picked(found, by_strength)} by both readings{_loser(found, by_strength)}"
        return f"One Bradley–Terry model for everybody picks {both}."
    return (
        f"One Bradley–Terry model for everybody depends on the reading: by strengths it "
        f"{_pooled_pick(found, by_strength)}. By logits it {_pooled_pick(found, by_logit)}."
    )


def _pooled_pick(found: Groups, rule: Rule) -> str:
    if rule.problem:
        return f"has no finite fit ({rule.problem})"
    return f"picks {_picked(found, rule)}{_loser(found, rule)}"


def _mixing(found: Groups) -> str:
    shares, value = found.mixture
    pure = _rule(found, "MaxMin").values
    assert pure is not None
    if len(found.names) == 1 or value <= max(pure) + 1e-9:
        return ""
    parts = [
        f"{found.answers[i]} {share(float(part))} of the time" for i, part in enumerate(shares.tolist()) if part > 1e-9
    ]
    return (
        f"A policy may mix: with {joined(parts)} every group gets at least {amount(value)} on average, where the best "
        f"single answer leaves one at {amount(max(pure))}."
    )


def _sizes(found: Groups) -> str:
    if not found.turns:
        return ""
    convention = next(name for _, name in found.turns)
    changes = [
        f"{found.names[group]} ({_passages(found, parts)})"
        for (group, name), parts in found.turns.items()
        if name == convention and len(parts) > 1
    ]
    reading = "strengths" if convention == "strength" else "logits"
    if not changes:
        return f"No group’s share alone, from 0 to all, changes what the pooled model picks by {reading}."
    pooled = _rule(found, POOLED[convention])
    return (
        f"By {reading}, the pooled model picks {_picked(found, pooled)}; {_majority(found, pooled)}. Its winner "
        f"changes with the share of {_some(changes)}. MaxMin asks for no shares."
    )


def _majority(found: Groups, pooled: Rule) -> str:
    """Whether a pooled pick is what most people like best, as the middle of a sentence."""
    favourites = [best(row) for row in found.ratings]
    behind = [
        sum(float(weight) for weight, own in zip(found.weights, favourites, strict=True) if own == (answer,))
        for answer in range(len(found.answers))
    ]
    most = int(np.argmax(behind))
    if behind[most] <= 0.5 + _EVEN:
        return "no answer alone is the favourite of more than half of the people"
    liked = f"the favourite of {share(behind[most])} of the people"
    if pooled.picks == (most,):
        return f"it is {liked}"
    return f"{liked} is {found.answers[most]}, but how strongly each group prefers counts too"


def _passages(found: Groups, parts: tuple[Stretch, ...]) -> str:
    passages = [f"above {share(after.low)} {found.answer_names(after.winners)}" for after in parts[1:]]
    return f"{found.answer_names(parts[0].winners)}, {joined(passages)}"


def _loser(found: Groups, rule: Rule) -> str:
    """Who loses by a rule's pick, as the end of a sentence; nothing where nobody does."""
    pick = rule.picks[0]
    groups = worst_off(found.ratings, pick)
    if len(groups) == 0:
        return ""
    which = f" by {found.answers[pick]}" if len(rule.picks) > 1 else ""
    if len(groups) > 1:
        lost = found.ratings[groups[0]].max() - found.ratings[groups[0], pick]
        names = joined([found.names[group] for group in groups])
        return f"; {names} lose most{which}, {amount(lost)} each"
    own, top = found.ratings[groups[0], pick], found.ratings[groups[0]].max()
    return f"; {found.names[groups[0]]} loses most{which}: {amount(own)} where its favourite has {amount(top)}"


def _picked(found: Groups, rule: Rule) -> str:
    return found.answer_names(rule.picks) + (" alike" if len(rule.picks) > 1 else "")


def _rule(found: Groups, name: str) -> Rule:
    return next(rule for rule in found.rules if rule.name == name)


def _some(items: list[str]) -> str:
    more = len(items) - _MOST_NAMED
    return joined([*items[:_MOST_NAMED], f"{more} more"]) if more > 0 else joined(items)
