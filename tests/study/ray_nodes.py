"""A Ray cluster of several nodes on this machine, each with a folder of its own for everything: `ray_nodes.py FOLDER`.

Prints the address, and ends all of it once standard input ends. The token is the environment's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray.cluster_utils import Cluster


def main(folder: Path) -> None:
    cluster = Cluster()
    for name, processors in (("h", 0), ("a", 1), ("b", 1)):
        own = folder / name
        own.mkdir()
        os.chdir(own)
        os.environ["TMPDIR"] = str(own)
        cluster.add_node(num_cpus=processors, include_dashboard=False, object_store_memory=200 << 20)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
