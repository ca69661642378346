"""``escort bench``: what a byte keeps of the user's own photographs, by kind and rate; one page."""
