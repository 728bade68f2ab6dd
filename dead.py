import sys; sys.path[:0]=['/work/wt/models']
from tests.model_server import *
with ModelServer([Answer("Incorrect API key provided: sk-dead-0123456789", status=401)], port=9812) as s: threading.Event().wait()
