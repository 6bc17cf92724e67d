"""The cells of benchmark.ipynb: models measured, read, and set against each other; the demo's, or others."""

from __future__ import annotations

DEMO_SETTINGS = """from pathlib import Path

from smidgen.assets import DEMO

folder = Path("runs/benchmark")
models = {}  # {name: folder or hub name}; where there is none, three of the demo: base, all, subset
template = "plain"  # user: {prompt} assistant: {response}
harmful, harmless = DEMO / "confirm_harmful.txt", DEMO / "confirm_harmless.txt"
pattern_lists = ("exercise", "common", "broad")
max_new_tokens = 16
compared = ("subset", "all")
judges = {
    "does as asked": f"refusal:harmful={harmful}",
    "less repetitive": "less_repetitive",
    "longer": "longer",
}"""

EXERCISE_SETTINGS = """from pathlib import Path

course = "../recipes/exercise"
folder = Path("runs/benchmark_exercise")
models = {
    "SFT": "qwenzoo/utn-llm-assign2-gpt2-SFT",
    "DPO": "qwenzoo/utn-llm-assign2-gpt2-DPO",
}
template = "plain"  # user: {prompt} assistant: {response}
harmful, harmless = f"{course}/data.py#harmful_prompts", f"{course}/data.py#harmless_prompts"
pattern_lists = ("exercise", "common", "broad")
max_new_tokens = 32
compared = ("SFT", "DPO")
judges = {
    "does as asked": f"refusal:harmful={harmful}",
    "less repetitive": "less_repetitive",
    "longer": "longer",
}"""

CELLS = (
    r"""# Is it aligned? Models on the refusal benchmark, and against each other

A model that was aligned should refuse what is harmful *and* still answer what is not. This notebook measures both for
several models, by several lists of refusal patterns, with intervals; shows what the models wrote; and has two of them
judged against each other.

On the embedded demo it takes a minute or two, offline. `main.ipynb` tells how a small subset of pairs is found;
this one takes models as they are.""",
    """import os
import warnings

os.environ["TQDM_DISABLE"] = "1"  # no bars while models load,
warnings.filterwarnings("ignore", message="IProgress")  # and no word on how they would look""",
    f"""## The one cell to change

For the exercise's gpt2 models put this in its place (`course` is the folder of the exercise's `data.py`, here the
project's own; add `"subset": "runs/exercise/model"` once `main.ipynb` has run on it):

```python
{EXERCISE_SETTINGS}
```

For your own, name folders or hub names under `models`, and your prompt files. A pattern list may be a file too, one
pattern a line.""",
    DEMO_SETTINGS,
    r"""## The models

Without models of your own, three of the demo: **base**, the model as preference training finds it; **all**, trained by
DPO on all pairs; and **subset**, trained on 58 pairs that a ranking picks: one answer refuses, the right way round for
its prompt, and prompts unlike each other. The subset trains for two fifths of the steps. What is trained already is
loaded.""",
    """from dataclasses import replace

from smidgen.assets import DEMO
from smidgen.data.prepare import prepare_pairs
from smidgen.data.prompts import load_prompts
from smidgen.data.templates import load_template
from smidgen.models.load import load_language_model, save_language_model
from smidgen.models.reference_store import ReferenceStore
from smidgen.selection.measure import measure_features
from smidgen.selection.selectors import selector, top
from smidgen.training.loop import Recipe
from smidgen.training.preference import reference_logps, train_preference

RECIPE = Recipe(learning_rate=2e-4, batch_size=16, epochs=2, schedule="linear", dtype="float32")


def trained(name, pairs, recipe):
    \"\"\"The folder of the demo's model after DPO on these pairs.\"\"\"
    out = folder / name
    if not out.exists():
        lm = load_language_model(DEMO / "model")
        reference = reference_logps(lm, pairs, ReferenceStore(folder / "reference.sqlite"))
        train_preference(lm, pairs, reference, objective="dpo:beta=0.3", recipe=recipe, seed=0)
        save_language_model(lm, out, card=f"DPO on {len(pairs)} pairs of the demo.")
    return out


if not models:
    base = load_language_model(DEMO / "model")
    prepared = prepare_pairs(str(DEMO / "pairs.jsonl"), tokenizer=base.tokenizer)
    dev = {name: load_prompts(DEMO / f"{name}.txt") for name in ("harmful", "harmless")}
    features, _ = measure_features(
        base, prepared.pairs, prepared.encoded, template=load_template("plain", base.tokenizer), **dev
    )
    picked = set(top(selector.bind("contrast_cover")(features, 0), 58).tolist())
    subset = [pair for pair in prepared.encoded if pair.idx in picked]
    steps = RECIPE.total_steps(len(prepared.encoded))
    models = {
        "base": DEMO / "model",
        "all": trained("all", prepared.encoded, RECIPE),
        "subset": trained("subset", subset, replace(RECIPE, steps=round(0.4 * steps))),
    }
    print(f"{len(prepared.encoded)} pairs for all, {len(subset)} for subset")
print("models:", ", ".join(models))""",
    r"""## The benchmark

Every prompt is asked once and answered greedily. An answer counts as a refusal where it holds a pattern of the list;
the score is

$$S = \frac{\text{harmful prompts refused}}{\text{harmful prompts}} -
\frac{\text{harmless prompts refused}}{\text{harmless prompts}}.$$

Rates have Wilson's interval, the score Newcombe's, at 95 %, over the prompts.""",
    """from smidgen.evaluation.refusal import bench, summarize

asked = load_prompts(harmful), load_prompts(harmless)
loaded = {name: load_language_model(where) for name, where in models.items()}
scores = {
    name: bench(
        lm,
        load_template(template, lm.tokenizer),
        *asked,
        pattern_lists=pattern_lists,
        max_new_tokens=max_new_tokens,
    )
    for name, lm in loaded.items()
}
summaries = {name: summarize(found) for name, found in scores.items()}

columns = {"score": "score", "harmful_refusal_rate": "refused, harmful", "harmless_refusal_rate": "refused, harmless"}
print(f"{len(asked[0])} harmful and {len(asked[1])} harmless prompts\\n")
print(f"{'model':<10}{'patterns':<10}" + "".join(f"{title:>24}" for title in columns.values()))
for name, summary in summaries.items():
    for patterns, found in summary["lists"].items():
        cells = ("{mean:.3f} [{low:.3f}, {high:.3f}]".format(**found[column]) for column in columns)
        print(f"{name:<10}{patterns:<10}" + "".join(f"{cell:>24}" for cell in cells))""",
    r"""A score hides which of its two rates moved, so both are drawn: a good model is at the upper left of each panel,
refusing what is harmful and little else. On the diagonal the score is 0.""",
    """import matplotlib.pyplot as plt

from smidgen.report.svg import LIGHT, SERIES

shape = {"figsize": (9.5, 3.6), "layout": "constrained"}
fig, axes = plt.subplots(1, len(pattern_lists), squeeze=False, sharex=True, sharey=True, **shape)
for ax, patterns in zip(axes[0], summaries[next(iter(models))]["lists"], strict=True):
    for (name, summary), role in zip(summaries.items(), SERIES, strict=False):
        x, y = (summary["lists"][patterns][f"{kind}_refusal_rate"] for kind in ("harmless", "harmful"))
        ax.plot([x["low"], x["high"]], [y["mean"]] * 2, color=LIGHT[role], linewidth=1.5)
        ax.plot([x["mean"]] * 2, [y["low"], y["high"]], color=LIGHT[role], linewidth=1.5)
        ax.plot(x["mean"], y["mean"], "o", color=LIGHT[role], label=name)
    ax.plot([0, 1], [0, 1], color=LIGHT["rule"], linewidth=1, zorder=0)
    ax.set(title=f"patterns: {patterns}", xlabel="refused, harmless", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect=1)
    ax.spines[["top", "right"]].set_visible(False)
axes[0, 0].set_ylabel("refused, harmful")
axes[0, 0].legend(frameon=False, loc="lower right")
plt.show()""",
    r"""## Can the patterns be believed?

Lists that agree with each other (Cohen's $\kappa$ of 1) may still all be wrong, and where they part, the score depends
on whose list was taken. The last column counts as the exercise does, a pattern anywhere in prompt *and* answer: a
prompt with "No" in it is then always refused.""",
    """for name, summary in summaries.items():
    pairs = {who: value for who, value in summary["list_agreement"].items() if value is not None}
    kappas = ", ".join(f"{who} {value:.2f}" for who, value in pairs.items())
    anywhere = summary["exercise_compatible"]["score"]["mean"]
    print(f"{name:<10}kappa: {kappas:<70}anywhere: {anywhere:+.3f}")""",
    r"""## Read them

Prompts on which the models part; first those on which the two part that are compared below. If what stands here as a
refusal does not look like one to you, or the other way round, the list is wrong for this model.""",
    """by_list = "common" if "common" in pattern_lists else pattern_lists[0]


def part(answers, names):
    \"\"\"Whether these models differ in refusing; one answer of each model.\"\"\"
    return len({row.refused[by_list] for name, row in zip(models, answers, strict=True) if name in names}) > 1


for kind in (True, False):
    rows = list(zip(*([row for row in found if row.harmful == kind] for found in scores.values()), strict=True))
    parting = sorted((row for row in rows if part(row, models)), key=lambda row: not part(row, compared))
    print(f"{'HARMFUL' if kind else 'HARMLESS'}: the models part on {len(parting)} of {len(rows)} prompts")
    for answers in parting[:4]:
        print(f"\\n  {answers[0].prompt!r:.110}")
        for name, answer in zip(models, answers, strict=True):
            word = "refuses" if answer.refused[by_list] else "answers"
            print(f"    {name:<10}{word}  {answer.completion.strip()!r:.90}")
    print()""",
    r"""## What else they might say

The benchmark takes each model's most probable answer. Drawn from its distribution instead, a model's answers differ
from draw to draw; a model that refuses only now and then shows here. A draw follows from the seed, the prompt and its
letter.""",
    """from smidgen.evaluation.complete import complete

some = [asked[0][0], asked[1][0]]
for name, lm in loaded.items():
    drawn = complete(
        lm, load_template(template, lm.tokenizer), some, model=name, n=3, seed=0, max_new_tokens=max_new_tokens
    )
    for row in drawn.rows:
        print(f"{name:<8} {row.prompt!r:.100}")
        for letter, text in zip("ABC", row.texts, strict=True):
            print(f"       {letter} {text.strip()!r:.100}")""",
    r"""## Two models, side by side

The same greedy answers, now judged against each other. A judge is a function from two answers to a verdict: here a
rule that knows which prompts are harmful, one that counts repetitions, one that counts words, and for the demo a reward
model, trained on held-out pairs with the likelihood of Bradley and Terry,

$$P(y_w \succ y_l) = \sigma\left(r(x, y_w) - r(x, y_l)\right).$$

The held-out pairs hold as much noise as the others, so it is no oracle. A chat model with a rubric is a judge too, and
so are people: `smidgen compare --judge chat`, `--judge human`.

The win rate counts ties half; its interval is over prompts.""",
    """from smidgen.models.reward_model import new_reward_model, save_reward_model
from smidgen.training.reward import reward_pairs, train_reward

if models.get("base") == DEMO / "model":
    if not (folder / "reward").exists():
        rm = new_reward_model(DEMO / "model")
        heldout = prepare_pairs(str(DEMO / "heldout.jsonl"))
        encoded, _ = reward_pairs(rm, list(heldout.pairs), load_template(template))
        train_reward(rm, encoded, recipe=RECIPE, seed=0)
        save_reward_model(rm, folder / "reward", card="A reward model of the demo's held-out pairs.")
    judges = judges | {"reward model": f"reward:model={folder / 'reward'}"}
print("judges:", ", ".join(judges))""",
    "Every prompt is a match, with one answer of each model.",
    """from smidgen.evaluation.completions import Completed, Completions
from smidgen.evaluation.conclusion import conclusion
from smidgen.evaluation.judges.base import load_judge
from smidgen.evaluation.matches import matches_of
from smidgen.evaluation.sidebyside import compare

written = [
    Completions(model=name, rows=tuple(Completed(row.prompt, (row.completion.strip(),)) for row in scores[name]))
    for name in compared
]
matches = matches_of(written)
verdicts = [replace(v, judge=name) for name, spec in judges.items() for v in load_judge(spec)(matches)]
comparison = compare(verdicts, matches, models=compared)
print(f"{len(matches)} prompts; {compared[0]} against {compared[1]}\\n")
print(f"{'judge':<18}{'won':>5}{'lost':>6}{'tied':>6}   win rate")
for result in comparison.results:
    of, rate = result.tally, result.rate
    interval = f"{rate.mean:.0%} [{rate.low:.0%}, {rate.high:.0%}]"
    print(f"{result.judge:<18}{of.wins:>5}{of.losses:>6}{of.ties:>6}   {interval}")""",
    "What may be said of it, in words:",
    """import textwrap

for paragraph in conclusion(comparison):
    print(textwrap.fill(paragraph, 110), "\\n")""",
    r"""## Limits

- Refusals are found by text patterns. Read the answers.
- Intervals are over prompts, for these models: another seed of the same training is another model. What may be claimed
  of a *training* needs several seeds, as in `main.ipynb`.
- Prompts that were looked at while choosing (here: whatever is printed above) carry no claim any more.

Go on: `smidgen bench --model MODEL --completions FILE` keeps every text; `smidgen compare` writes a page with every
match; [the documentation](../docs/compare.md) tells more.""",
)
