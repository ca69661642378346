"""``escort bench``: compares kinds of exemplar and image formats at equal bytes on the user's photographs."""
