"""A model that does what a file says: PyPI `fakellm`, OpenAI-compatible, with tool calls and streaming.

FAKELLM_CONFIG (env) names the rules; without it `model.yaml` beside this file is used.
`READY <origin>/v1` is printed when it listens; `<origin>/_fakellm/stats` tells which rules answered.
"""

import os
import pathlib

import ready

os.environ.setdefault("FAKELLM_CONFIG", str(pathlib.Path(__file__).with_name("model.yaml")))

from fakellm.server import app  # noqa: E402  (it reads its rules when imported)

listener, origin = ready.bind()
ready.serve(app, listener, f"{origin}/v1")
