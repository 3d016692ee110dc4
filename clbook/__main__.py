import sys

from clbook.cli import main

sys.exit(main())
