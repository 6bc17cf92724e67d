"""Every prompt of a set of pairs once, as a prompt list."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from smidgen.data.prepare import prepare_pairs
from smidgen.runs import atomic_write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--out", required=True, type=Path)
    asked = parser.parse_args()
    prompts = dict.fromkeys(pair.prompt_text for pair in prepare_pairs(asked.pairs).pairs)
    with atomic_write(asked.out) as file:
        file.writelines(json.dumps({"prompt": prompt}, ensure_ascii=False) + "\n" for prompt in prompts)


if __name__ == "__main__":
    main()
