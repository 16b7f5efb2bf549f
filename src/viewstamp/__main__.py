"""`python -m viewstamp`, and what the `viewstamp` script calls."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from viewstamp.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    # `python -m` puts the current directory first; what is imported from here on is not looked for there.
    if not sys.flags.safe_path:
        del sys.path[0]
    main()
