"""`python -m raylab` is the `raylab` command."""

from raylab.cli import main

if __name__ == "__main__":
    main()
