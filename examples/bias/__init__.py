"""Networks that learn a shortcut: found by where their maps lie, and mended."""
