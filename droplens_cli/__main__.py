"""`python -m droplens_cli`, which is the command `droplens`."""

import sys

from droplens_cli.app import main

if __name__ == "__main__":
    sys.exit(main())
