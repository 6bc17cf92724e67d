"""main.ipynb: a run as a notebook to read, to hand in and to go on from; made from the run's files alone.

Its text is the same for every run: whatever is particular is read by its cells and stands in their outputs, as plain
text, so that nothing from models or data is ever run or rendered.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from smidgen.report.artefacts import read_run
from smidgen.runs import write_text

_HERE = 'run = Path(".")'

# Parts that other notebooks have too, words and code in turn. They read `run`, `certificate` and `subset`.
SCORES = (
    """## What it is held against

Scores on the confirm prompts with their intervals, over prompts and seeds together. The dashed line is the score of
all pairs less the margin.""",
    """import matplotlib.pyplot as plt

scores = certificate["scores"]
names = sorted(scores, key=lambda name: scores[name]["mean"])
fig, ax = plt.subplots(figsize=(7, 0.4 * len(names) + 1))
for place, name in enumerate(names):
    found = scores[name]
    ax.plot([found["low"], found["high"]], [place, place], color="tab:blue")
    ax.plot(found["mean"], place, "o", color="tab:blue")
ax.axvline(scores["full"]["mean"] - certificate["delta"], color="grey", linestyle="--")
ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
ax.set_xlabel("refusal rate, harmful minus harmless")
fig.tight_layout()
for name in reversed(names):
    found = scores[name]
    print(f"{name:<28} {found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]")
plt.show()""",
)

KEPT = (
    """## The subset

`idx` counts the rows of the data as it was loaded, from 0. Why each pair was kept stands beside it.""",
    """print(f"{len(subset)} of {certificate['full_size']} pairs")
for kind, number in Counter(row["kind"] for row in subset).most_common():
    print(f"{number:>6} {kind}")
for row in subset[:5]:
    print(f"\\nidx {row['idx']}: {row['reason']}")
    for name in ("prompt", "chosen", "rejected"):
        print(f"  {name:<8} {row[name]!r:.150}")""",
)

PUBLIC = (
    """## The public prompts

Prompts that everybody knows carry no claim; they are reported once, for comparison. The *compatible* number counts as
the exercise's own code does: a pattern anywhere, in the prompt too, and both counts divided by 20. The next column
divides by the number of prompts there are; *ours* looks at the answer alone.""",
    """public = run / "public.json"
found = json.loads(public.read_text(encoding="utf-8"))["models"] if public.exists() else {}
if found:
    print(f"{'model':<10}{'compatible':>12}{'by number':>12}   ours")
else:
    print("This study had no public prompts.")
for name, scored in found.items():
    counted = scored["exercise_compatible"]
    fixed = counted.get("divided_by_20", {}).get("score")
    compatible = "-" if fixed is None else f"{fixed:+.3f}"
    ours = "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**scored["score"])
    print(f"{name:<10}{compatible:>12}{counted['score']['mean']:>+12.3f}   {ours}")""",
)

LIMITS = (
    """## Limits""",
    """import textwrap

for limit in certificate["limits"]:
    print(textwrap.fill(f"- {limit}", 110, subsequent_indent="  "))""",
)

CELLS = (
    """# Which preference pairs does alignment need?

A model is trained by preference optimisation on pairs of answers, one chosen over the other. This notebook shows the
smallest set of pairs that a study found to align the model as well as all pairs do, and what may be claimed of it.

It reads the files of the run beside it. Put it back into the run's folder, or change `run`, to execute it again.""",
    f"""import csv
import json
from collections import Counter
from pathlib import Path

{_HERE}  # the folder of the run

certificate = json.loads((run / "certificate.json").read_text(encoding="utf-8"))
with (run / "subset.csv").open(encoding="utf-8", newline="") as file:
    subset = list(csv.DictReader(file))
print(certificate["claim"])""",
    r"""## Method

Every training minimises the DPO loss (or the loss that the settings below name) on pairs of a prompt $x$, a chosen
answer $y_w$ and a rejected one $y_l$, against the reference $\pi_\mathrm{ref}$ that the model starts as:

$$\mathcal{L} = -\log \sigma\left(\beta \left[\log\frac{\pi(y_w|x)}{\pi_\mathrm{ref}(y_w|x)} -
\log\frac{\pi(y_l|x)}{\pi_\mathrm{ref}(y_l|x)}\right]\right)$$

The score of a model is its refusal rate on harmful prompts minus that on harmless ones. Rankings of the pairs race on
one set of prompts (dev), over several sizes and seeds. The best are then tested on prompts and seeds that the search
never saw (confirm), from the largest size down, until one fails: a subset is *enough* where the lower bound of its
score stays within a margin $\delta$ of the score of all pairs. All settings were fixed before the first training.""",
    """print((run / "settings.yaml").read_text(encoding="utf-8"))""",
    """## Score against number of pairs

Points of the search are on dev prompts and only nominate; the claim rests on the confirm prompts.""",
    """from smidgen.report.frontier import frontier_text

print(frontier_text(run))""",
    *SCORES,
    *KEPT,
    *PUBLIC,
    *LIMITS,
    """## Train on it

`model/` is trained on the subset already. To train another model, or with another loss:

```
smidgen train dpo --pairs subset.csv --model MODEL --out trained
```""",
)


def write_notebook(run_folder: Path | str) -> Path:
    """Write main.ipynb into a finished run's folder, its cells executed on the run's files.

    Raises:
        UsageError: No finished run there.
        InvalidData: An artefact that cannot be read.
    """
    folder = Path(run_folder)
    read_run(folder)  # complains of what is missing as every other form of the report does
    namespace: dict[str, Any] = {}
    here = f"run = Path({str(folder)!r})"
    outputs = [_outputs(code.replace(_HERE, here), namespace) for code in CELLS[1::2]]
    path = folder / "main.ipynb"
    write_text(path, json.dumps(notebook_of(CELLS, outputs), indent=1, ensure_ascii=True) + "\n")
    return path


def notebook_of(texts: Sequence[str], outputs: Sequence[list[dict[str, Any]]] | None = None) -> dict[str, Any]:
    """A notebook as its file holds it, nbformat 4.5.

    Args:
        texts: Words and code in turn.
        outputs: Of each code cell; None for a notebook that nobody has executed.
    """
    cells: list[dict[str, Any]] = []
    for position, text in enumerate(texts):
        cell: dict[str, Any] = {"id": f"cell-{position}", "metadata": {}, "source": text.splitlines(keepends=True)}
        if position % 2 == 0:
            cells.append({"cell_type": "markdown", **cell})
        else:
            number = position // 2
            done = (None, []) if outputs is None else (number + 1, outputs[number])
            cells.append({"cell_type": "code", "execution_count": done[0], "outputs": done[1], **cell})
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _outputs(code: str, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """What a cell prints and draws. Only `CELLS` are ever run here."""
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("Agg")
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(compile(code, "main.ipynb", "exec"), namespace)
        drawn = [_png(plt.figure(number)) for number in plt.get_fignums()]
    finally:
        plt.close("all")
        plt.switch_backend(before)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    return outputs + [
        {"output_type": "display_data", "data": {"image/png": png, "text/plain": ["<Figure>"]}, "metadata": {}}
        for png in drawn
    ]


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()
