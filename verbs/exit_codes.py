"""What the command line ends with: shells and other programs read it."""

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
"""Done; failed; wrong usage; stopped by Ctrl-C, as a shell counts it."""
