"""`python -m recomind.cli`."""

import sys

from recomind.cli import main

sys.exit(main())
