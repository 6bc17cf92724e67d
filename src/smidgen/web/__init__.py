"""The local pages: browse pairs, compare blind, walk a study's frontier. Served on this machine to its one user."""
