"""``python -m crfnet`` is the command ``crfnet``."""

from crfnet.cli.main import main

if __name__ == "__main__":
    main()
