"""`python -m jaxcam`."""

from jaxcam.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
