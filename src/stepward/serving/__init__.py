"""Scores over HTTP: the server behind `stepward serve`, and its Python client. FastAPI and uvicorn are loaded by `app` and `server` only."""
