"""``python -m crfnet`` is the command ``crfnet``."""

from crfnet.cli import main

if __name__ == "__main__":
    main()
