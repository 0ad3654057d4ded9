"""Prompts are files: `KIND[.STAGE].LANGUAGE.md`, a YAML head and a Jinja2 body."""
