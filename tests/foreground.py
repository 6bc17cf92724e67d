"""The program as a terminal starts it: what a shell has in the background is deaf to Ctrl-C, children included."""

import sys

HEARS = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
PROGRAM = HEARS + "from smidgen.cli import main; sys.exit(main(sys.argv[1:]))"
COMMAND = (sys.executable, "-c", PROGRAM)
