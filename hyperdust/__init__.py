"""The program: all I/O, one file per role."""
