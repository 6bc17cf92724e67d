"""The documentation site: reference pages from the code, the build, and what is checked of it. Run by `make docs`."""
