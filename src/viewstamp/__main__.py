"""`python -m viewstamp`, and what the `viewstamp` script calls."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from viewstamp.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
