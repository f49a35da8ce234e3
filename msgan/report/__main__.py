"""``python -m msgan.report run``, called by ``run_all.sh``; see :mod:`msgan.report.command`."""

import sys

from msgan import start

if __name__ == "__main__":
    with start.loading():
        from msgan.report.command import main
    sys.exit(main())
