"""The stack held at four fifths of its peak: what must not grow, and by how much it may."""
