"""Training and evaluation, as commands."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: its threads spin otherwise, and these commands have processes beside them
