"""Reads every file of the corpus with little memory and says what came of it: `python -m tests.hostile.replay FOLDER`.

A process of its own, since a limit on memory holds for the whole of one.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from pathlib import Path

from tests.hostile.make_corpus import CORPUS
from tests.hostile.readers import READERS, obeys

# Of address space, most of which torch and pyarrow have taken before anything is read.
MORE_BYTES = 2 * 2**30


def main(scratch: Path) -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MORE_BYTES, taken + MORE_BYTES))
    for file in sorted(path for path in CORPUS.rglob("*") if path.is_file()):
        reader = READERS[file.parent.name]
        path = scratch / reader.file
        shutil.copy(file, path)
        started = time.perf_counter()
        try:
            said = "taken" if obeys(reader.read, path) else "refused"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:300]
        print(json.dumps([f"{file.parent.name}/{file.name}", said, time.perf_counter() - started]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
