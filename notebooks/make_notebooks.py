"""Write the notebooks: for each task one that makes pairs, and one that scores them.

They are the same but for the task, so they are made from one text. Run `python notebooks/make_notebooks.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

from smidgen.report.notebook import notebook_of
from smidgen.runs import write_text
from smidgen.synthesis.task import load_task

HERE = Path(__file__).parent
TASKS = ("safety", "role_play", "sycophancy")

GENERATE = (
    """# Pairs for {name}

{about} A teacher answers prompts, criticises its answers, and revises them: the revision becomes the chosen answer of
a pair, the original the rejected one. `docs/synthesis.md` tells more; `smidgen critique --task {name}` does the same
on the command line.

The teacher is any OpenAI-compatible endpoint: put its address into `SMIDGEN_TEACHER`, the model's name into
`SMIDGEN_TEACHER_MODEL`, and the key, if it wants one, into `OPENAI_API_KEY`.""",
    """import os
from pathlib import Path

teacher_url = os.environ["SMIDGEN_TEACHER"]
teacher_model = os.environ["SMIDGEN_TEACHER_MODEL"]
n_pairs = int(os.environ.get("SMIDGEN_PAIRS", "20"))
out = Path("{name}_pairs.jsonl")
if out.exists():
    raise FileExistsError(f"expected no {{out}} yet, got one. Move it away, or name another file as `out`.")""",
    """## What will be asked

Each prompt stands in a frame of the task; which one follows from the seed.""",
    """from smidgen.assets import SHIPPED_PROMPTS
from smidgen.data.prompts import load_prompts
from smidgen.synthesis.critique import draw_prompts
from smidgen.synthesis.task import load_task

task = load_task("{name}")
prompts = load_prompts(SHIPPED_PROMPTS / str(task.prompts))
draws = draw_prompts(prompts, task.frames["train"], n=n_pairs, seed=0)
for draw in draws[:3]:
    print(f"{{draw.frame.name}}: {{draw.asked}}\\n")""",
    """## Ask

Every reply is kept in `replies.sqlite`: run the cell again after an interruption, and nothing is asked twice.
`budget=Limit(200_000)` in the settings (from `smidgen.models.chat.budget`) stops before more tokens are spent.""",
    """from smidgen.models.chat.base import Sampling
from smidgen.models.chat.teacher import Teacher, open_chat
from smidgen.synthesis.critique import revise_all

sampling = Sampling(max_new_tokens=256)
teacher = Teacher(url=teacher_url, model=teacher_model)
async with open_chat(teacher, out.with_name("{name}_replies")) as (chat, spending):
    results = await revise_all(chat, task, draws, sampling, concurrency=8)
spending.summary()""",
    """## Look

What fails a quality gate is left out, with its reason.""",
    """from smidgen.synthesis.critique_rows import sort_out, summarise

found = sort_out(results, task)
for row in found.good[:3]:
    texts = (row.draw.asked, row.original, row.critique, row.revision)
    for title, text in zip(("ASKED", "ORIGINAL", "CRITIQUE", "REVISION"), texts, strict=True):
        print(f"{{title}}\\n{{text}}\\n")
for row in found.left_out[:3]:
    print(f"left out: {{row['reason']}} at {{row['step']}}: {{row['detail']}}")
summarise(results, found, task)""",
    """## Save

`smidgen train dpo --pairs {name}_pairs.jsonl` trains on them as they are; `reward_score.ipynb` scores them.""",
    """from smidgen.runs import json_lines, write_text
from smidgen.synthesis.critique_rows import pair_row

write_text(out, json_lines(pair_row(row, task, sampling, source=str(task.prompts)) for row in found.good))
print(f"{{len(found.good)}} pairs of {{len(draws)}} draws in {{out}}")""",
)

SCORE = (
    """# Scores for the pairs of {name}

A judge scores both answers of every pair by the task's rubric, each alone, at temperature 0. Refined DPO trains on the
scores. `docs/scoring.md` tells more; `smidgen score` does the same on the command line, and can also take a reward
model or a trained policy.

The judge is any OpenAI-compatible endpoint: put its address into `SMIDGEN_JUDGE`, the model's name into
`SMIDGEN_JUDGE_MODEL`, and the key, if it wants one, into `OPENAI_API_KEY`.""",
    """import os
from pathlib import Path

judge_url = os.environ["SMIDGEN_JUDGE"]
judge_model = os.environ["SMIDGEN_JUDGE_MODEL"]
pairs_file = Path("{name}_pairs.jsonl")
out = Path("{name}_scored.jsonl")
if out.exists():
    raise FileExistsError(f"expected no {{out}} yet, got one. Move it away, or name another file as `out`.")""",
    """## What is scored, and by what""",
    """from smidgen.data.prepare import prepare_pairs
from smidgen.synthesis.task import load_task

rubric = load_task("{name}").rubric
pairs = prepare_pairs([str(pairs_file)]).pairs
print(f"{{len(pairs)}} pairs, scored from {{rubric.low:g}} to {{rubric.high:g}}:\\n{{rubric.text}}")""",
    """## Ask

Every reply is kept: run the cell again after an interruption, and nothing is asked twice.""",
    """from smidgen.models.chat.teacher import Teacher, open_chat
from smidgen.synthesis.judge import Asking, judge_answers

asked = [(pair.prompt, text) for pair in pairs for text in (pair.chosen_text, pair.rejected_text)]
judge = Teacher(url=judge_url, model=judge_model)
async with open_chat(judge, out.with_name("{name}_judge_replies")) as (chat, spending):
    scores = await judge_answers(chat, rubric, asked, Asking())
scored = list(zip(scores[::2], scores[1::2], strict=True))
spending.summary()""",
    """## Look

A score that could not be read is missing, and never filled.""",
    """import matplotlib.pyplot as plt

from smidgen.synthesis.scoring import summarise

summary = summarise(scored)
fig, axes = plt.subplots(1, 2, figsize=(9, 3))
values = {{"chosen": [c.value for c, _ in scored], "rejected": [r.value for _, r in scored]}}
known = {{name: [v for v in found if v is not None] for name, found in values.items()}}
axes[0].hist(known.values(), label=known.keys(), bins=11, range=(rubric.low, rubric.high))
axes[0].set(xlabel="score", ylabel="answers")
axes[0].legend()
axes[1].hist([c.value - r.value for c, r in scored if None not in (c.value, r.value)], bins=11)
axes[1].set(xlabel="chosen − rejected", ylabel="pairs")
fig.tight_layout()
summary["counts"], summary["order"], summary["problems"]""",
    """## Save

`smidgen train refined_dpo --pairs {name}_scored.jsonl` trains on the pairs with their scores.""",
    """from smidgen.data.prepare import write_pairs
from smidgen.synthesis.scoring import with_scores

both = [with_scores(pair, found) for pair, found in zip(pairs, scored, strict=True)]
complete = [pair for pair, (c, r) in zip(both, scored, strict=True) if None not in (c.value, r.value)]
write_pairs(complete, out)
print(f"{{len(complete)}} of {{len(pairs)}} pairs with both scores in {{out}}")""",
)


def notebooks() -> dict[Path, str]:
    """Every notebook's text, by its path."""
    made = {}
    for name in TASKS:
        task = load_task(name)
        for title, cells in (("generate_data", GENERATE), ("reward_score", SCORE)):
            texts = [text.format(name=task.name, about=task.about) for text in cells]
            made[HERE / name / f"{title}.ipynb"] = json.dumps(notebook_of(texts), indent=1, ensure_ascii=False) + "\n"
    return made


if __name__ == "__main__":
    for path, text in notebooks().items():
        write_text(path, text)
