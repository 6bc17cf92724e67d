"""Summaries of posts by a model, decoded greedily, one after the other in a text file to read."""

from __future__ import annotations

import argparse
from pathlib import Path

from smidgen.data.prompts import load_prompts
from smidgen.data.templates import load_template
from smidgen.data.tokens import encode_prompts
from smidgen.models.generate import generate
from smidgen.models.load import load_language_model
from smidgen.runs import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--posts", type=Path, required=True, help="prompt file; each post ends in TL;DR:")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    settings = parser.parse_args()

    lm = load_language_model(settings.model)
    posts = load_prompts(settings.posts)
    ids = encode_prompts(posts, load_template("verbatim"), lm.tokenizer)
    summaries = generate(lm, ids, max_new_tokens=settings.max_new_tokens)
    texts = (str(lm.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip() for tokens in summaries)
    write_text(settings.out, "\n\n".join(f"{post} {text}" for post, text in zip(posts, texts, strict=True)) + "\n")


if __name__ == "__main__":
    main()
