"""``python -m msgan.cli``: for torchrun, which starts modules."""

from msgan.cli import main

if __name__ == "__main__":
    main()
