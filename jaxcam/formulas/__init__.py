"""The papers' equations on arrays: scores, channel weights and maps; no model is known here."""
