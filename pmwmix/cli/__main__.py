"""``python -m pmwmix.cli`` is ``pmwmix``."""

import sys

from pmwmix.cli.command import main

sys.exit(main())
