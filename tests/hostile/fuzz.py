"""Coverage-guided fuzzing of one reader: `python -m tests.hostile.fuzz READER --seconds N [--keep FOLDER]`.

Where a reader breaks its law (see `readers`), takes more than ten seconds or two gigabytes, the fuzzer ends with an
error and leaves the content that did it as a file crash-… in the folder; that belongs into the corpus, as
READER/found-WHAT, once the reader is mended. Without a reader, the names of all are printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris  # pyright: ignore[reportMissingImports]

_LIMITS = ("-timeout=10", "-rss_limit_mb=4000", "-max_len=4096", "-verbosity=0", "-print_final_stats=1")

with atheris.instrument_imports(  # pyright: ignore[reportAttributeAccessIssue]
    include=["smidgen.data", "smidgen.evaluation", "smidgen.settings", "smidgen.synthesis",
                                         "smidgen.models.chat", "json", "csv", "gzip"]):  # fmt: skip
    from tests.hostile.make_corpus import CORPUS
    from tests.hostile.readers import READERS, obeys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", nargs="?", choices=list(READERS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="Where to leave what breaks the reader.")
    given = parser.parse_args()
    if given.reader is None:
        print("\n".join(READERS))
        return
    reader = READERS[given.reader]
    scratch = Path(tempfile.mkdtemp(prefix="smidgen-fuzz-"))
    begun = scratch / "begun"
    begun.mkdir()
    for i, content in enumerate(reader.good):
        (begun / f"good-{i}").write_bytes(content)
    for file in sorted((CORPUS / given.reader).glob("*")):
        (begun / file.name).write_bytes(file.read_bytes())
    path = scratch / reader.file

    def one(content: bytes) -> None:
        path.write_bytes(content)
        obeys(reader.read, path)

    keep = given.keep or scratch
    keep.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [sys.argv[0], *_LIMITS, f"-max_total_time={given.seconds}", f"-artifact_prefix={keep}/", str(begun)], one
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
