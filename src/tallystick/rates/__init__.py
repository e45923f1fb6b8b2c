"""What providers charge us: dated integer rows, strict names, and compiled pricing. Pure."""
