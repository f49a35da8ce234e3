"""``python -m msgan.cli``: needed by torchrun, which starts modules."""

from msgan.cli import main

if __name__ == "__main__":
    main()
