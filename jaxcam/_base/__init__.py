"""What every package needs: types, checks, numerics and a progress bar; it knows no model."""
