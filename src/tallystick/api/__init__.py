"""The HTTP edge: `create_app` in `app.py` is the way in; `docs/api.md` is its guide."""
