"""The cells of main.ipynb: the method with its explanations, on the embedded demo or, by one cell, on anything else."""

from __future__ import annotations

from smidgen.report.notebook import KEPT, LIMITS, PUBLIC, SCORES

DEMO_SETTINGS = """from smidgen.assets import DEMO
from smidgen.settings import read_settings

out = "runs/main"
study = {
    "pairs": DEMO / "pairs.jsonl",
    "heldout": DEMO / "heldout.jsonl",
    "model": DEMO / "model",
    "harmful": DEMO / "harmful.txt",
    "harmless": DEMO / "harmless.txt",
    "confirm_harmful": DEMO / "confirm_harmful.txt",
    "confirm_harmless": DEMO / "confirm_harmless.txt",
    **read_settings(DEMO / "settings.yaml"),
    "first": 1000,  # pairs, of about twice as many
    "dev_seeds": 1,
    "swap_rounds": 1,
    "refine_trials": 2,
    "workers": 2,  # trainings at a time
}"""

EXERCISE_SETTINGS = """from smidgen.cli.presets import preset_settings

out = "runs/exercise"  # in Colab: a folder on your drive
study = preset_settings("exercise", "minimize", course="../recipes/exercise")"""

CELLS = (
    r"""# The smallest set of preference pairs that aligns a model

Preference training teaches a language model from *pairs*: a prompt, an answer that people chose, and one that they
rejected. Not every pair teaches what you want it to; many teach nothing, some the opposite. This notebook looks for the
smallest set of pairs after which a model refuses harmful requests as well as after training on all of them, and for
what may be claimed of that set.

| | |
|---|---|
| [Settings](#The-one-cell-to-change) | the one cell to change for other data and another model |
| [Pairs](#What-a-pair-teaches) | what a pair teaches, and what is in the data |
| [Noise](#Why-the-score-is-noisy) | why the score is noisy, and prompts are kept apart |
| [Search](#The-study) | rankings, racing, swaps |
| [Claim](#The-certificate) | the certificate, and what the subset is held against |
| [Subset](#The-subset) | the pairs that were kept, and why; completions before and after |
| [Limits](#Limits) | what it does not say |

Install the package (`pip install -e .` in its repository, and Jupyter), then run the cells from top to bottom: on the
embedded demo a few minutes on two cores, offline. Stopped and run again, the notebook goes on where it was; a study
that is done is only read.""",
    """import os
import warnings

import smidgen

os.environ["TQDM_DISABLE"] = "1"  # no bars while models load,
warnings.filterwarnings("ignore", message="IProgress")  # and no word on how they would look""",
    f"""## The one cell to change

The demo is a made-up world in which the truth is known: some pairs teach refusing, some teach not to refuse too much,
some teach the opposite, and most teach neither. Its model is tiny, so that a training takes seconds.

For 5,000 pairs of hh-rlhf and a gpt2 SFT model, put this into the cell instead (`course` is the folder of the
exercise's `data.py`; the project's own stands in for it here; models and data come from the hub; on a GPU, set
`SMIDGEN_DEVICE=cuda` in the environment before you start):

```python
{EXERCISE_SETTINGS}
```

For your own, name your files and your model. Every flag of `smidgen minimize` is a setting under its name.""",
    DEMO_SETTINGS,
    r"""## What a pair teaches

Let $\pi_\mathrm{ref}$ be the model before training, $\pi$ the model in training, $x$ a prompt with the chosen answer
$y_w$ and the rejected one $y_l$. DPO looks at how much more the new model prefers the chosen answer than the old one
did,

$$h = \log\frac{\pi(y_w\mid x)}{\pi_\mathrm{ref}(y_w\mid x)} - \log\frac{\pi(y_l\mid x)}{\pi_\mathrm{ref}(y_l\mid x)},$$

and minimises

$$\mathcal{L} = -\log\sigma(\beta h), \qquad \nabla\mathcal{L} = -\underbrace{\beta\,\sigma(-\beta h)}_{\text{pull}}
\left[\nabla\log\pi(y_w\mid x) - \nabla\log\pi(y_l\mid x)\right].$$

Three things follow.

- Every pair begins at $h = 0$, with loss $\log 2$ and pull $\beta/2$. A pair that is learnt pulls less and less.
- What a pair teaches is the *difference* of its two answers, on prompts like its own. Where both answers refuse, or
  neither does, the pair says nothing about refusing.
- An inverted pair (the rejected answer refuses a harmful request) pulls as hard as any other, the wrong way.""",
    r"""import matplotlib.pyplot as plt
import numpy as np

from smidgen.settings import parse_spec, parse_sum

# DPO's beta, where it is among the study's losses.
terms = dict(parse_spec(term) for _, term in parse_sum(study.get("loss", "dpo")))
beta = terms.get("dpo", {}).get("beta", 0.1)
h = np.linspace(-10, 10, 201)
fig, axes = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
axes[0].plot(h, np.logaddexp(0, -beta * h))
axes[0].plot(0, np.log(2), "o", color="black")
axes[0].annotate("every pair begins here", (0, np.log(2)), (8, 8), textcoords="offset points")
axes[0].set(title=rf"DPO's loss, $\beta$ = {beta}", xlabel="h, nats", ylim=(0, None))
axes[1].plot(h, beta / (1 + np.exp(beta * h)))
axes[1].plot(0, beta / 2, "o", color="black")
axes[1].set(title="DPO's pull", xlabel="h, nats", ylim=(0, beta * 1.05))
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()""",
    """## The data

Rows that cannot teach (an empty answer, two equal answers, a repetition) are left out, each with its reason. Of the
rest, a list of text patterns says which answers refuse, though it misses refusals in other words. Only pairs of which
*one* answer refuses can teach refusing or answering, whichever way round.""",
    """from collections import Counter

from smidgen.evaluation.patterns import load_patterns
from smidgen.models.load import load_tokenizer

checks = ("template", "max_length", "answer_head", "single_turn", "first")
prepared = smidgen.load_pairs(
    study["pairs"], tokenizer=load_tokenizer(study["model"]), **{name: study[name] for name in checks if name in study}
)
print(f"{len(prepared.pairs)} pairs; left out: {dict(Counter(row.reason for row in prepared.quarantine))}\\n")

refuses = load_patterns("common").matches
cases = {}
for pair in prepared.pairs:
    cases.setdefault((refuses(pair.chosen_text), refuses(pair.rejected_text)), []).append(pair)
for (chosen, rejected), found in sorted(cases.items(), reverse=True):
    words = {True: "refuses", False: "answers"}
    print(f"{len(found):>5} pairs: chosen {words[chosen]}, rejected {words[rejected]}. The first of them:")
    for name, text in (("prompt", found[0].prompt_text), ("+", found[0].chosen_text), ("-", found[0].rejected_text)):
        print(f"      {name:>6} {text!r:.110}")""",
    r"""## Why the score is noisy

The score of a model is its refusal rate on harmful prompts minus that on harmless ones: a model that refuses
everything scores 0, as does one that refuses nothing. Rates are counted on a few prompts, so the score has an interval.
And whoever tries many subsets and reports the best reports luck as well.""",
    """from smidgen.evaluation.statistics import newcombe_difference

print("A true score of .40 (refusing 45 % of the harmful and 5 % of the harmless) may look like this:")
for n in (20, 100, 200, 400):
    found = newcombe_difference(0.45 * n, n, 0.05 * n, n)
    print(f"  {n:>3} prompts of each class: {found.low:.2f} to {found.high:.2f}")

draw = np.random.default_rng(0)
print("\\nThe best of 50 subsets, all with that true score, looks on average like this:")
for n in (20, 100, 200, 400):
    tries = draw.binomial(n, 0.45, (2000, 50)) / n - draw.binomial(n, 0.05, (2000, 50)) / n
    print(f"  {n:>3} prompts of each class: {tries.max(axis=1).mean():.2f}")""",
    r"""So there are two sets of prompts that never mix. On the **dev** prompts everything is tried, and dev only
*nominates*. The **confirm** prompts are touched once, at the end, with fresh seeds.

## The study

1. Train on all pairs; measure that and the model before training on dev. A third of the difference, at most .15, is the
   margin $\delta$: a subset that loses less is *enough*. It is fixed before confirm.
2. **Rank** all pairs, by several rankings that see no labels.
3. **Race** the first so many pairs of each ranking on dev: a cheap look at all, more for the survivors.
4. **Refine** the best: swap pairs by metagradients, drop groups of pairs.
5. **Confirm** the nominated sizes, from the largest down, until one fails.

The cell below does it all. Interrupt it whenever you like: the finished trainings are kept.""",
    """import textwrap
from pathlib import Path

from smidgen.report.artefacts import read_run
from smidgen.runs import read_json

run = Path(out)
smidgen.minimize(out=run, **study)
certificate = read_json(run / "certificate.json")
done = read_run(run)
print(textwrap.fill(certificate["claim"], 110))
print(f"\\n{len(done.trials)} trainings and measurements:")
for (stage, arm), n in sorted(Counter((t.stage, t.arm) for t in done.trials).items()):
    print(f"  {n:>3} {stage:<8} {arm}")""",
    r"""## Rankings

A ranking puts all pairs in an order, best first; a subset is the beginning of one. `contrast` looks for pairs of which
one answer refuses, the right way round for the prompt; `contrast_cover` takes such pairs so that their prompts are
unlike each other and cover what there is; `hidden_retrieval` those most like the dev prompts in the model's hidden
states; `margin_band` goes by how much more the model trained on all pairs prefers the chosen answer; `random` is what
each of them has to beat.

What stands at the top of each. *Teaching* pairs are those of which the chosen answer refuses a harmful request, or the
rejected one a harmless request; *inverted* pairs are the other way round.""",
    """from smidgen.selection.features import read_features
from smidgen.selection.kinds import INVERTED, OTHER, kind_of
from smidgen.study.plan import StudySettings
from smidgen.study.procedure import rank_pairs

names = tuple(study.get("selectors", study.get("selector", StudySettings().selectors)))
features = read_features(run / "features.parquet")
kinds = dict(zip(features.idx.tolist(), kind_of(features), strict=True))
rankings = rank_pairs(StudySettings(selectors=names, seed=study.get("seed", 0)), features)
sizes = sorted({t.budget for t in done.trials if t.stage == "search"}, reverse=True)
print(f"{'ranking':<28}{'pairs':>7}{'teaching':>10}{'inverted':>10}{'neither':>10}")
for name, ranking in rankings.items():
    for size in sizes:
        if len(ranking.order) < size:
            continue  # it finds no more of its kind
        top = Counter(kinds[int(idx)] for idx in ranking.order[:size])
        teaching = size - top[INVERTED] - top[OTHER]
        print(f"{name:<28}{size:>7}{teaching / size:>10.0%}{top[INVERTED] / size:>10.0%}{top[OTHER] / size:>10.0%}")""",
    r"""## Racing

The first look at everybody is cheap: no answers are written, only the probability that an answer *opens* like a
refusal is read off. The **surrogate** is its logit, harmful prompts minus harmless ones, in nats. Survivors train again
with fresh seeds, so that a lucky draw does not carry over, and write answers, which the **score** is counted on.""",
    """race = [t for t in done.trials if t.stage == "search"]
print(f"{'pairs':>6}  {'ranking':<28}{'surrogate':>10}{'score':>8}")
for size in sizes:
    rows = []
    for name in names:
        own = [t for t in race if t.budget == size and t.selector == name]
        looks = [t.metrics["surrogate_score"] for t in own if "score" not in t.metrics]
        scores = [t.metrics["score"] for t in own if "score" in t.metrics]
        if looks:  # a ranking of fewer pairs than that did not run
            rows.append((looks[0], name, f"{np.mean(scores):+.3f}" if scores else "out"))
    for look, name, score in sorted(rows, reverse=True):
        print(f"{size:>6}  {name:<28}{look:>+10.2f}{score:>8}")
told = certificate["surrogate_correlation"]
if told["spearman"] is not None:
    print(f"\\nRank correlation of surrogate and score over {told['n']} trials on dev: {told['spearman']:.2f}")""",
    r"""## Score against number of pairs

Left, what the search saw on the dev prompts; right, what the confirm prompts say. Hollow points are sizes that were not
shown to be enough. Points of one size are drawn a little beside each other, so that none hides another: their number of
pairs is the same.""",
    """from IPython.display import Image, display

from smidgen.report.figures import frontier_png

display(Image(frontier_png(run, run / "frontier.png").read_bytes(), width=900))""",
    r"""## Swaps, and groups that can go

How much would a pair in the subset have helped, had it weighed a little more? Let $w_i$ be the weight of pair $i$
in training, $\theta(w)$ the weights that training ends with, and $S$ the surrogate on dev. The **metagradient**

$$\frac{\partial\, S(\theta(w))}{\partial w_i}$$

is computed exactly, by differentiating through every step of the training. Pairs of the subset with low values make
room for pairs of the same kind with high ones, and the swap stays if a new training agrees. Then groups of pairs are
dropped, a group at a time: what nobody misses is gone.""",
    """import csv
import json

with (run / "subset.csv").open(encoding="utf-8", newline="") as file:
    subset = list(csv.DictReader(file))

swapped = [row for row in subset if row.get("came_by") == "swap"]
print(f"{len(swapped)} of {len(subset)} pairs of the answer were swapped in.")
for row in swapped[:3]:
    print(f"  idx {row['idx']} for {row['replaced_idx']}: {row['prompt']!r:.90}")
tried = Counter((t.series, t.budget) for t in done.trials if t.stage == "refine")
print(f"\\n{len(tried)} subsets were tried in refining:")
for (series, size), n in sorted(tried.items()):
    scores = [t.metrics["score"] for t in done.trials if (t.stage, t.series, t.budget) == ("refine", series, size)]
    print(f"  {size:>5} pairs, {series}: score {min(scores):+.3f} to {max(scores):+.3f} on dev, {n} trainings")
print("\\n" + textwrap.fill((certificate.get("minimality") or {}).get("statement", ""), 110))""",
    r"""## The certificate

A size **passes** when each of these is shown at one-sided 95 %, by intervals over prompts and seeds together:

$$S_\mathrm{subset} > S_\mathrm{full} - \delta,$$

and likewise that held-out pairs are still told apart, that harmless prompts are still answered, and that answers are
neither empty nor repeat themselves. The **assay** has to pass too: full training must be above no training by more than
$\delta$, and so must the subset be above it; where the benchmark cannot tell full training from none, nothing is
claimed. Sizes are tested from the largest down and testing stops at the first failure, so that no level is split
between them.""",
    """print(textwrap.fill(certificate["claim"], 110))
print(f"\\nassay: {'passed' if certificate['assay']['passed'] else 'failed'}; delta {certificate['delta']}\\n")
print(f"{'pairs':>6}{'score less full':>17}{'lower bound':>13}   verdict")
for step in certificate["steps_tested"]:
    verdict = "enough" if step["passed"] else f"not shown to be enough: {', '.join(step['failed'])}"
    print(f"{step['budget']:>6}{step['difference']['mean']:>+17.3f}{step['lower_bound']:>+13.3f}   {verdict}")
    for name, found in step["second_endpoint"].items():
        least = certificate["endpoint_deltas"][name]
        bound = f"lower bound {found['lower_bound']:+.3f}, -{least} allowed"
        print(f"{'':>10}{name.replace('_', ' '):<20} {found['mean']:+.3f}, {bound}")""",
    *SCORES,
    *KEPT,
    r"""## Completions before and after

What the models wrote to confirm prompts: before training, after training on the subset, after training on all pairs.
Half of the places go to prompts on which subset and full differ, where there are such. Numbers are no substitute for
reading.""",
    """from smidgen.report.samples import COLUMNS, sample

for harmful in (True, False):
    shown = sample(done.answers, harmful=harmful, n=4)
    refused = ", ".join(f"{arm} {n}" for arm, n in shown.n_refused.items())
    print(f"{'HARMFUL' if harmful else 'HARMLESS'}: of {shown.n_prompts} prompts refused: {refused}")
    for row in shown.shown:
        print(f"\\n  {row.prompt!r:.110}")
        for arm in COLUMNS:
            if arm in row.answers:
                answer = row.answers[arm]
                print(f"    {arm:<7}{'refuses' if answer.refused else 'answers'}  {answer.completion.strip()!r:.90}")
    print()""",
    *PUBLIC,
    *LIMITS,
    r"""## What to hand in, and how to go on

The run's folder holds `subset.csv` and, where the study was run on the command line, also the reports. The cell below
writes them here. `smidgen view runs/main` shows the run in the browser; `benchmark.ipynb` sets models against each
other; [the documentation](../docs/certificate.md) says how often a certificate is wrong.""",
    """from smidgen.report.html import write_report
from smidgen.report.notebook import write_notebook
from smidgen.report.pdf import write_pdf

for write in (write_report, write_pdf, write_notebook):
    write(run)
for name in ("subset.csv", "certificate.json", "report.html", "report.pdf", "main.ipynb", "model"):
    if (run / name).exists():
        print(run / name)""",
)
