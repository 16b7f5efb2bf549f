"""Write an ordinary deterministic class; run it on several machines as one object that does not fail."""
