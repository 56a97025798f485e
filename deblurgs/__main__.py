"""`python -m deblurgs` is `deblurgs`, for when the command is not on the PATH."""

import sys

from deblurgs.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
