"""The permutohedral lattice of Adams, Baek & Davis 2010: time linear in pixels, an approximation."""
