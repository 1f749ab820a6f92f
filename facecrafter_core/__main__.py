"""python -m facecrafter_core"""

from .cli import main

raise SystemExit(main())
