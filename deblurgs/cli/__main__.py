"""`python -m deblurgs.cli` is `deblurgs`."""

import sys

from deblurgs.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
